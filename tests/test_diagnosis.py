import pytest

from mnist_vg.diagnosis import learned


@pytest.mark.parametrize(
    ("accuracy", "chance", "could"),
    [
        (0.1135, 0.1135, False),  # MNIST, always "1"
        (0.3664, 0.1135, False),  # kappa 0.29: the sigmoid network
        (0.59, 0.1135, False),  # kappa 0.54
        (0.66, 0.1135, True),  # kappa 0.62
        (0.8872, 0.1135, True),
        (0.79, 0.5, False),  # two classes: kappa 0.58
        (0.81, 0.5, True),
        (0.05, 0.1, False),  # worse than chance
        (None, 0.1, False),  # not finite
    ],
)
def test_could_learn_is_accuracy_corrected_for_chance(accuracy, chance, could):
    assert learned(accuracy, chance) is could
