import itertools
from dataclasses import replace

import numpy as np
import pytest
import twins

from mnist_vg.diagnosis.diagnosis import Diagnosis, find_evidence, find_symptoms
from mnist_vg.diagnosis.measurements import histogram_norm, measurements_of
from mnist_vg.diagnosis.monitor import Monitor
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.runs.events import buckets
from mnist_vg.runs.results import learned

pytestmark = pytest.mark.filterwarnings("error")

NAMES = [symptom.name for symptom in SYMPTOMS]
OF_BATCHES = ["penalty too strong", "loss of zero", "negative loss", "one answer for all inputs"]
OF_VALIDATION = ["overfitting", "moving averages behind", "validation far off"]
OF_TIME = ["vanishing through time", "exploding through time"]
NOT_OF_ALL = [*OF_VALIDATION, *OF_TIME, "learning rate fades out"]
OF_LOSSES = [
    *("exploding gradients", "vanishing gradients", "oscillating loss", "rising loss"),
    *(*OF_BATCHES, "stuck at chance"),
]
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
EVERY = 40


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


def healthy(records=12, layers=4, **changes):
    """The history of a run that learns slowly, with a kappa of 0.3 at the end.

    `changes` replace arrays of the history; None drops one.
    """
    tables = {
        "step": EVERY * np.arange(records),
        "layers": LAYERS[:layers],
        "activation_layers": LAYERS[: layers - 1],
        # Falls every nine records, so that it is never stuck for ten.
        "loss/train": np.where(np.arange(records) % 9 == 8, 1.8, 2.0),
        "loss/test": np.full(records, 2.0),
        "accuracy/test": np.linspace(0.2, 0.37, records),
        "chance/accuracy": np.where(np.arange(records), np.nan, 0.1),
        "chance/loss": np.where(np.arange(records), np.nan, 2.0),
    }
    for measure, value in [
        *[("gradient_mean_abs", 1e-3), ("gradient_norm", 0.25), ("weight_norm", 8.0)],
        *[("gradient_nonfinite", 0), ("weight_nonfinite", 0), ("update_ratio", 1e-3)],
        ("layer_state", 0),
    ]:
        tables[measure] = np.full((records, layers), float(value))
    for measure in ("units_dead", "units_saturated"):
        tables[measure] = np.full((records, layers - 1), 0.1)
    return {key: table for key, table in (tables | changes).items() if table is not None}


def logged(**changes):
    """The same, as `GradientLogger` records it: without a test split, and without chance."""
    split = ("loss/test", "accuracy/test", "chance/accuracy", "chance/loss")
    return healthy(**dict.fromkeys(split) | changes)


def recorded(values):
    """A histogram, as the package records it."""
    return buckets(values.min(), values.max(), twins.histogram(values)[:, 2])


def in_order(evidence):
    symptom = evidence.symptom
    return symptom == "stuck at chance", evidence.step, NAMES.index(symptom)


def plain(evidence):
    return replace(evidence, until=None, share=1.0, share_wide=0.0)


def found(history):
    """Every symptom that shows, whether or not it harms or has passed."""
    shown = itertools.chain(*find_symptoms(measurements_of(history)))
    return [plain(e) for e in sorted(shown, key=in_order)]


def verdicts(history):
    return [(e.symptom, e.layer, e.step, e.known) for e in found(history)]


def faults(history):
    return [e.symptom for e in find_evidence(measurements_of(history))]


# For each symptom: its measure, a value that is just bad, one that is just good, for how many
# records it must be bad, and whether in one layer or in all.
OF_TABLES = {
    "no gradient": ("layer_state", 1.0, 2.0, 1, "layer"),
    "updates too large": ("update_ratio", 0.3, 0.2999, 1, "layer"),
    "updates too small": ("update_ratio", 5e-5, 5.001e-5, 2, "all"),
    "saturated units": ("units_saturated", 0.5, 0.4999, 6, "layer"),
    "dead units": ("units_dead", 0.7, 0.6999, 2, "layer"),
    # The norms 250 and 8 times 1% are 20, which is 1000% of the loss of 2, and of chance's.
    "exploding gradients": ("gradient_norm", 250.0, 249.9, 1, "layer"),
    "vanishing gradients": ("gradient_norm", 0.0075, 0.007501, 2, "layer"),
    "non-finite values": ("gradient_nonfinite", 1.0, 0.0, 1, "layer"),
    "frozen layers": ("update_ratio", 2.0**-24, 2.0**-24 * 1.0001, 2, "layer"),
}
VALUES = {"exploding gradients": 1e3, "vanishing gradients": 0.03}
FROM_START = ("updates too small", "frozen layers")


def sick(symptom, value, first, records, length=12):
    """A healthy history in which the third layer, or every layer, is bad for some records."""
    measure, _, _, _, where = OF_TABLES[symptom]
    history = healthy(length)
    columns = slice(None) if where == "all" else 2
    history[measure][first : first + records, columns] = value
    return history


def test_a_healthy_run_has_no_symptom_and_lacks_nothing():
    told = Diagnosis.of(healthy(), finished=False)
    assert (told.evidence, told.lacks, told.verdict) == ([], {}, "no symptom so far")
    assert found(logged()) == []


@pytest.mark.parametrize("symptom", OF_TABLES)
def test_a_symptom_is_found_with_layer_and_step_after_enough_records(symptom):
    _, bad, fine, records, where = OF_TABLES[symptom]
    first = 0 if symptom in FROM_START else 3
    [evidence] = found(sick(symptom, bad, first, records))
    assert (evidence.symptom, evidence.layer) == (symptom, "layer3" if where == "layer" else None)
    assert (evidence.step, evidence.known) == (EVERY * first, EVERY * (first + records - 1))
    assert evidence.value == evidence.threshold == VALUES.get(symptom, bad)
    assert found(sick(symptom, bad, first, records - 1)) == []
    assert found(sick(symptom, fine, first, 12)) == []
    # It is the same if the layer stays bad, or if the run ends there.
    assert found(sick(symptom, bad, first, 12))[0] == evidence
    assert found(sick(symptom, bad, first, records, length=first + records))[-1] == evidence


@pytest.mark.parametrize("symptom", FROM_START)
def test_updates_that_were_once_larger_are_not_too_small(symptom):
    assert found(sick(symptom, OF_TABLES[symptom][1], 1, 11)) == []
    # NaN does not count as small.
    history = sick(symptom, OF_TABLES[symptom][1], 0, 12)
    history["update_ratio"][0] = np.nan
    assert found(history) == []


def test_an_infinite_update_ratio_is_no_symptom():
    history = healthy()
    history["update_ratio"][:, 2] = np.inf
    assert found(history) == []
    history["update_ratio"][:, [0, 1, 3]] = 1e-5
    assert verdicts(history) == [("updates too small", None, 0, EVERY)]


@pytest.mark.parametrize("symptom", [s for s, case in OF_TABLES.items() if case[3] > 1])
def test_bad_records_count_only_in_a_row(symptom):
    _, bad, _, records, where = OF_TABLES[symptom]
    history = sick(symptom, bad, 0, records - 1)
    history[OF_TABLES[symptom][0]][records : 2 * records - 1] = bad if where == "all" else 0.1
    assert found(history) == []


@pytest.mark.parametrize("symptom", ["dead units", "vanishing gradients"])
def test_the_worst_layer_with_enough_bad_records_is_named(symptom):
    measure, bad, _, _, _ = OF_TABLES[symptom]
    worse = bad + 0.1 if symptom == "dead units" else bad / 10
    history = healthy()
    history[measure][3:, 0] = bad
    history[measure][3:, 1] = worse
    history[measure][4:, 2] = bad + 0.2 if symptom == "dead units" else bad / 100
    assert verdicts(history) == [(symptom, "layer2", 3 * EVERY, 4 * EVERY)]


def test_nans_are_counted_in_the_layer_where_they_started():
    """An Inf in layer 3 gives NaN in every layer before it, during the backward pass."""
    history = healthy()
    history["gradient_nonfinite"][5:] = [700, 60, 5, 0]
    history["weight_nonfinite"][5:] = [0, 0, 2, 0]
    history["gradient_nonfinite"][6:] = 900
    history["gradient_mean_abs"][5:] = np.nan
    [evidence] = found(history)
    assert (evidence.layer, evidence.step, evidence.value) == ("layer3", 5 * EVERY, 7)
    assert "7 of its gradients and weights" in evidence.words


@pytest.mark.parametrize("loss", ["loss/test", "loss/data"])
@pytest.mark.parametrize(
    ("factor", "rises", "within", "oscillates"),
    [
        (1.21, 3, 8, True),
        (1.19, 3, 8, False),
        (1.21, 2, 8, False),
        (1.21, 3, 9, False),
        (1.21, 3, 7, True),
    ],
)
def test_a_loss_that_rises_at_three_of_eight_records_oscillates(
    loss, factor, rises, within, oscillates
):
    values = np.array([2.2, *np.full(23, 2.0)])
    at = 10 + np.round(np.linspace(0, within - 1, rises)).astype(int)
    values[at] = 2 * factor
    history = healthy(24) if loss == "loss/test" else logged(records=24)
    history[loss] = values
    if loss == "loss/data":
        # From a loss below what the same answer costs, to one above.
        history |= yardstick(np.where(values > 2.2, values / 2, 0.79), 1.0)
    last = EVERY * at[-1]
    assert verdicts(history) == ([("oscillating loss", None, last, last)] if oscillates else [])


def test_an_oscillating_loss_needs_nine_records():
    for records, expected in [(8, []), (9, ["oscillating loss"])]:
        history = healthy(records)
        history["loss/test"][1::2] = 4
        assert [e.symptom for e in found(history)] == expected


def of_kappa(values, chance=0.1):
    """The history of a run with these values of kappa."""
    values = np.array(values, float)
    return healthy(len(values)) | {
        "accuracy/test": chance + (1 - chance) * values,
        "chance/accuracy": np.full(len(values), chance),
    }


def test_a_network_is_stuck_after_ten_records_at_chance_up_to_the_last():
    for chance in (0.0, 0.5):
        bad = np.full(10, 0.05 if chance == 0 else 0.0499)
        told = ("stuck at chance", None, 0, 9 * EVERY)
        assert verdicts(of_kappa(bad, chance)) == [told]
        assert verdicts(of_kappa([*bad, -0.3], chance)) == [told]
        assert verdicts(of_kappa(bad[1:], chance)) == []
        assert verdicts(of_kappa([*bad, 0.0501], chance)) == []
        later = ("stuck at chance", None, 2 * EVERY, 11 * EVERY)
        assert verdicts(of_kappa([0.1, 0.0501, *bad], chance)) == [later]
    # Without an accuracy, the loss is compared with that of the same answer for all inputs.
    for last, stuck in [(1.901, True), (1.89, False)]:
        history = logged(records=11) | yardstick(np.full(11, last), 2.0)
        assert verdicts(history) == [told] * stuck
    # With neither it is not known.
    assert verdicts(logged(**{"loss/train": np.full(12, 2.0)})) == []


def yardstick(losses, same):
    """What `GradientLogger` records of the loss of a model without penalties."""
    losses = np.array(losses, float)
    return {
        "loss/train": losses,
        "loss/data": losses,
        "loss/same_answer": np.full(len(losses), same),
        "outputs/spread": np.ones(len(losses)),
    }


NOISE = np.random.default_rng(0).normal(0, 0.05, 60)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        (1.9 + NOISE, "healthy"),  # A tenth below what the same answer costs, whatever the noise.
        (np.geomspace(20, 0.5, 60) + NOISE, "healthy"),
        (2.0 + NOISE, "dead units"),
        (np.where(np.arange(60) < 20, 17.7, 2.0) + NOISE, "dead units"),  # A bad first loss.
        (np.where(np.arange(60) == 55, 0.1, 2.0) + NOISE, "dead units"),  # One lucky batch.
        (np.where(np.arange(60) == 59, np.nan, 1.0), "dead units"),
        (np.linspace(9, 5, 60) + NOISE, "still improving"),
    ],
)
def test_learned_is_better_than_the_same_answer_for_all_inputs(losses, verdict):
    history = logged(records=60) | yardstick(losses, 2.0)
    history["units_dead"][:, 1] = 0.9
    told = Diagnosis.of(history, finished=True)
    assert told.verdict.removesuffix(", stuck at chance") == verdict
    # What does not harm is not left out.
    assert ("dead units" in [e.symptom for e in told.remarks]) is (verdict != "dead units")


def test_a_training_is_called_sick_once_it_had_time_to_begin():
    for records, expected in [(19, []), (20, ["dead units"])]:
        history = logged(records=records) | yardstick(2 + NOISE[:records], 2.0)
        history["units_dead"][:, 1] = 0.9
        evidence = find_evidence(measurements_of(history), finished=False)
        assert [e.symptom for e in evidence if e.symptom != "stuck at chance"] == expected
        assert "dead units" in faults(history)


def test_a_symptom_expires():
    """It stays a fault if it lasts, took long, or explains one that lasts."""
    history = healthy(30)
    history["units_dead"][:5, 1] = 0.9
    told = Diagnosis.of(history, finished=True)
    assert told.evidence == []
    [remark] = told.remarks
    assert (remark.symptom, remark.until) == ("dead units", 4 * EVERY)
    assert f"from step 0 to step {4 * EVERY}:" in remark.line
    history["gradient_norm"][20:, 1] = 1e-6  # Vanishing gradients, which dead units may cause.
    assert faults(history) == ["dead units", "vanishing gradients"]
    history = healthy(30)
    history["units_dead"][:6, 1] = 0.9
    assert faults(history) == ["dead units"]


def test_what_holds_up_the_first_layer_counts_if_little_is_learned():
    for share, records, column, expected in [
        (0.5, 12, 0, ["vanishing gradients"]),
        (0.5, 11, 0, []),
        (0.5, 60, 1, []),  # A layer further in may have nothing to do.
        (0.5, 12, slice(1, 3), ["vanishing gradients"]),
        (0.7, 12, 0, []),
    ]:
        history = logged(records=60) | yardstick(2 - 2 * share + NOISE, 2.0)
        history["gradient_norm"][:records, column] = 1e-6
        assert faults(history) == expected


def test_a_network_that_learns_at_last_is_healthy_whatever_held_it_up():
    history = of_kappa([*np.zeros(20), 0.3, 0.7])
    history["gradient_norm"][:20] = 1e-6
    told = Diagnosis.of(history, finished=True)
    assert (told.verdict, told.evidence) == ("healthy", [])


def test_what_was_found_before_the_first_step_comes_first():
    finding = {"layer": None, "words": "a", "why": "b", "instead": "c"}
    history = logged(records=60) | yardstick(2 + NOISE, 2.0)
    for losses, check, fault in [
        (2 + NOISE, "data", True),
        (0.5 + NOISE, "data", False),  # It has learned all the same.
        (0.5 + NOISE, "head", True),
    ]:
        told = Diagnosis.of(
            history | yardstick(losses, 2.0), True, {}, [finding | {"check": check}]
        )
        first = (told.evidence if fault else told.remarks)[0]
        assert first.symptom == f"unsuitable {check}"
        assert (first.words, first.why, first.advice) == ("a", "b", ("c",))
        assert told.healthy is not fault


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({}, set()),
        ({"activation": "relu"}, {"an activation such as relu"}),
        ({"activations": "leaky_re_lu, softmax"}, {"an activation such as relu"}),
        ({"activation": "sigmoid", "normalization": "none"}, set()),
        (
            {"normalization": "batch", "skip_connections": True},
            {"a normalization", "skip connections"},
        ),
    ],
)
def test_no_advice_that_the_network_follows(settings, left_out):
    [evidence] = Diagnosis.of(sick("vanishing gradients", 1e-6, 0, 12), True, settings).evidence
    [symptom] = [s for s in SYMPTOMS if s.name == "vanishing gradients"]
    assert set(evidence.advice) == set(symptom.advice) - left_out


def test_no_two_advices_contradict():
    history = sick("updates too small", 1e-9, 0, 12)
    history["loss/test"][1::2] = 4.0
    told = {e.symptom: e.advice for e in Diagnosis.of(history, finished=True).evidence}
    assert "a higher learning rate" in told["updates too small"]
    assert told["oscillating loss"] == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nonfinite/inputs": 3.0}, "it began in the inputs: 3"),
        ({"nonfinite/targets": 3.0}, "it began in the targets: 3"),
        ({"nonfinite/outputs": 3.0}, "it began in a layer"),
        ({"outputs/spread": 1.0, "loss/train": np.nan}, "it began in the loss"),
        ({"loss/train": np.nan, "loss/data": 1.0}, "it began in a penalty"),
        ({"loss/train": 1.0}, "it began in backpropagation"),
        ({"weight_nonfinite": 1.0, "nonfinite/inputs": 3.0}, "it began in an update before"),
    ],
)
def test_where_a_nan_began(changes, words):
    history = logged()
    history["gradient_nonfinite"][5:, 2] = 1
    for key, value in changes.items():
        history.setdefault(key, np.full(12, np.nan))[5:] = value
    [evidence] = find_evidence(measurements_of(history))
    assert words in evidence.words


def validated(validation, training, same=2.0):
    """A run with a validation after every fifth record."""
    validation, training = np.array(validation, float), np.repeat(np.array(training, float), 5)
    history = logged(records=len(training)) | yardstick(training, same)
    history["loss/train_mean"] = training
    history["val_loss"] = np.full(len(training), np.nan)
    history["val_loss"][4::5] = validation
    return history


@pytest.mark.parametrize(
    ("validation", "training", "expected"),
    [
        ([1.5, 1.0, 1.5, 1.6], [1.8, 1.0, 0.5, 0.1], ["overfitting"]),
        ([1.5, 1.0, 1.49, 1.49], [1.8, 1.0, 0.9, 0.9], []),  # Less than half of it is lost.
        ([1.5, 1.0, 1.0, 1.0], [1.8, 1.0, 0.2, 0.2], ["validation far off"]),
        ([1.5, 1.0, 1.0, 1.0], [1.8, 1.0, 0.21, 0.21], []),
        ([1.5, 1.0, 1.6, 1.2], [1.8, 1.0, 0.5, 0.1], []),  # It recovered.
        ([1.5, 1.0, 1.6, 1.6], [1.8, 1.0, 1.1, 1.2], []),  # Training got worse, too.
        ([2.5, 2.2, 3.0, 3.5], [1.3, 1.0, 0.5, 0.1], ["validation far off"]),
        ([1.9, 2.2, 3.0, 3.5], [1.3, 1.0, 0.5, 0.1], ["overfitting"]),
        ([2.1, 2.1, 2.1, 2.1], [2.0, 2.0, 1.9, 1.9], []),  # Nothing was learned.
    ],
)
def test_validation_that_leaves_training(validation, training, expected):
    assert faults(validated(validation, training)) == expected


def test_a_penalty_is_no_part_of_what_validation_is_compared_with():
    history = validated([2.5, 2.2, 3.0, 3.5], [1.3, 1.0, 0.5, 0.1])
    for key in ("loss/train", "loss/train_mean", "val_loss"):
        history[key] = history[key] + 5
    assert faults(history) == ["validation far off"]
    history["val_loss"] -= 2.5
    assert faults(history) == []


def test_a_loss_that_rises_over_a_third_of_the_training():
    for last, expected in [(10.0, ["rising loss"]), (9.9, [])]:
        losses = np.where(np.arange(12) < 8, 2.0, last)
        assert faults(logged(**{"loss/train": losses})) == expected
        # Only if it is still so at the end.
        assert faults(logged(**{"loss/train": np.roll(losses, -1)})) == []


def test_averages_that_hold_their_first_values_count_where_validation_is_behind():
    for left, validation, expected in [
        (0.1, 1.21, ["moving averages behind"]),
        (0.09, 1.21, []),
        (0.1, 1.19, []),  # A tenth of what the same answer costs is 0.2.
    ]:
        history = validated(np.full(4, validation), np.ones(4))
        history["moving_average/of_start"] = np.where(np.isnan(history["val_loss"]), np.nan, left)
        assert faults(history) == expected


def test_a_learning_rate_that_fades_out_counts_unless_much_is_learned():
    for share, faded, expected in [
        (0.5, 30, ["learning rate fades out"]),
        (0.5, 29, []),
        (0.7, 30, []),
    ]:
        falls = np.linspace(0.5, 0, 60) * (np.arange(60) < 31)
        history = logged(records=60) | yardstick(2 - 2 * share + falls + NOISE / 9, 2.0)
        history["learning_rate"] = np.where(np.arange(60) < 60 - faded, 1.0, 0.01)
        assert faults(history) == expected


def test_where_the_same_answer_costs_nothing_it_is_no_yardstick():
    history = logged(records=60) | yardstick(0.2 + NOISE, 1e-5)
    assert Diagnosis.of(history, finished=True).verdict == "no symptom found"


@pytest.mark.parametrize(
    ("changes", "symptom"),
    [
        (yardstick(np.full(12, 2.0), 2.0), "one answer for all inputs"),
        (yardstick(np.zeros(12), 0.0), "loss of zero"),
        (yardstick(2 - 19 * np.arange(12), 2.0), "negative loss"),
        (yardstick(np.full(12, 2.1), 2.0) | {"loss/train": np.full(12, 4.3)}, "penalty too strong"),
    ],
)
def test_symptoms_of_the_loss(changes, symptom):
    assert faults(logged() | changes)[0] == symptom
    assert symptom not in faults(logged() | yardstick(np.full(12, 2.1), 2.0))


@pytest.mark.parametrize(("kappa", "expected"), [(0.60, ["dead units"]), (0.62, [])])
def test_a_network_that_has_learned_has_no_symptoms(kappa, expected):
    history = of_kappa([0, 0.3, 0.7, kappa])
    history["units_dead"][:, 1] = 0.9
    told = Diagnosis.of(history, finished=True)
    assert [e.symptom for e in told.evidence] == expected
    assert [e.symptom for e in told.remarks] == ["dead units"] * (not expected)
    assert told.healthy is not bool(expected)
    assert told.learned_share == pytest.approx(kappa)
    # An accuracy of NaN does not count as learned.
    history["accuracy/test"][-1] = np.nan
    assert faults(history) == ["dead units"]


def test_exploding_gradients_are_relative_to_the_loss_of_chance_or_the_first_loss():
    explodes = [("exploding gradients", "layer3", 3 * EVERY, 3 * EVERY)]
    for loss, first in [(2.0, 2.0), (1.5, 2.5), (8.0, 2.0)]:
        history = sick("exploding gradients", 250.0, 3, 1)
        history["loss/train"][:] = first
        history["loss/train"][3] = loss
        assert verdicts(history) == explodes
        del history["chance/loss"]
        assert verdicts(history) == (explodes if first <= 2 else [])
        history["loss/train"][0] = 2.01
        assert verdicts(history) == []


def test_symptoms_are_sorted_by_step_and_causes_come_before_effects():
    history = healthy(14)
    history["update_ratio"][:] = 1e-9
    history["units_saturated"][2:, 1] = 0.9
    history["units_dead"][2:, 0] = 0.9
    history["gradient_norm"][2:, 0] = 1e-6
    history["gradient_norm"][2, 3] = 1e6
    history["gradient_nonfinite"][1, 2] = 4
    history["accuracy/test"][:] = 0.1
    history["layer_state"][0, 1] = 1
    assert [(e.symptom, e.step // EVERY) for e in found(history)] == [
        ("no gradient", 0),
        ("updates too small", 0),
        ("frozen layers", 0),
        ("non-finite values", 1),
        ("saturated units", 2),
        ("dead units", 2),
        ("exploding gradients", 2),
        ("vanishing gradients", 2),
        ("stuck at chance", 0),  # An effect of all the others.
    ]


def test_evidence_says_in_words_what_was_measured_and_where():
    lines = {}
    for symptom, (_, bad, _, records, _) in OF_TABLES.items():
        [evidence] = found(sick(symptom, bad, 0, records))
        lines[symptom] = evidence.line
        assert evidence.source
        assert evidence.advice
    stuck = of_kappa(np.full(10, 0.031))
    oscillating = healthy()
    oscillating["loss/test"][1::2] = 3.0
    lines |= {e.symptom: e.line for history in (stuck, oscillating) for e in found(history)}
    for symptom, words in {
        "no gradient": ("in layer3, from step 0 on", "none of its weights"),
        "updates too large": ("in layer3, from step 0 on", "0.3 times", "less than 0.3"),
        "updates too small": ("small, from step 0 on", "5e-05 times", "more than 5e-05"),
        "saturated units": ("in layer3", "50% of its units", "less than 50%"),
        "dead units": ("in layer3", "70% of its units", "less than 70%"),
        "exploding gradients": ("in layer3", "1e+03%", "less than 1000%"),
        "vanishing gradients": ("in layer3", "by 0.03%", "more than 0.03%"),
        "non-finite values": ("in layer3", "1 of its gradients and weights"),
        "frozen layers": ("in layer3", "6e-08 times", "below 6e-08"),
        "oscillating loss": ("from step 320 on", "20%", "50% of 8 records", "less than 38%"),
        "stuck at chance": ("from step 0 on", "3% of what", "10 records", "more than 5%"),
    }.items():
        line = lines.pop(symptom)
        assert [part for part in words if part not in line] == [], line
    assert lines == {}


# Histories with few records or without some measures.


@pytest.mark.parametrize("symptom", [s for s, case in OF_TABLES.items() if case[3] == 1])
def test_a_single_record_can_show_a_symptom(symptom):
    assert verdicts(healthy(1)) == verdicts(logged(records=1)) == []
    layer = "layer3"
    assert verdicts(sick(symptom, OF_TABLES[symptom][1], 0, 1, 1)) == [(symptom, layer, 0, 0)]


@pytest.mark.parametrize(
    ("value", "symptom"),
    [
        (-7.23, "vanishing through time"),
        (-7.22, None),
        (3.99, None),
        (4.0, "exploding through time"),
    ],
)
def test_a_recurrent_layer_is_named_before_the_head_behind_it(value, symptom):
    history = sick("vanishing gradients", 1e-6, 0, 12)
    history["gradient_through_time"] = np.where(np.arange(4) == 1, value, np.full((12, 4), np.nan))
    [*first, _] = [(e.symptom, e.layer) for e in find_evidence(measurements_of(history))]
    assert first == [(symptom, "layer2")] * (symptom is not None)
    history["accuracy/test"][:] = 0.9
    assert faults(history) == []


@pytest.mark.parametrize(
    "history", [{"step": np.array([], int)}, healthy(0), logged(records=0)], ids=range(3)
)
def test_without_records_nothing_is_diagnosed(history):
    told = Diagnosis.of(history, finished=True)
    assert (told.evidence, told.verdict) == ([], "could not judge: nothing recorded")
    assert (told.judged, told.healthy) == (False, False)
    assert np.isnan(told.learned_share)
    assert list(told.lacks) == [name for name in NAMES if name not in NOT_OF_ALL]


def test_one_record_shows_no_training():
    for finished in (False, True):
        told = Diagnosis.of(logged(records=1), finished)
        assert (told.judged, told.verdict) == (False, "could not judge: only one record")
        assert Diagnosis.of(logged(records=2), finished).judged
    assert Diagnosis.of(sick("non-finite values", 1.0, 0, 1, 1), finished=True).judged


def test_a_run_that_broke_off_is_judged_by_its_symptoms_or_if_it_has_learned():
    young = Diagnosis.of(healthy(), finished=False, broke_off=True)
    assert (young.judged, young.healthy) == (False, False)
    assert young.verdict == "could not judge: broke off early"
    learned = healthy() | {"accuracy/test": np.full(12, 0.9)}
    assert Diagnosis.of(learned, finished=False, broke_off=True).verdict == "healthy"
    diverged = Diagnosis.of(sick("non-finite values", 1.0, 3, 9), finished=False, broke_off=True)
    assert (diverged.judged, diverged.verdict) == (True, "non-finite values")


def test_steps_without_a_gradient_are_ignored():
    """Chance, and the weights after the last update, are recorded at steps without gradients."""
    history = sick("dead units", 0.8, 3, 2)
    expected = found(history)
    for key, table in history.items():
        if not key.endswith("layers"):
            note = table[:1] + 7 if key == "step" else np.full_like(table[:1], np.nan)
            history[key] = np.concatenate([table[:4], note, table[4:], note])
    history["weight_norm"][-1] = 1e-9
    assert expected
    assert found(history) == expected


def test_a_network_of_one_layer_is_diagnosed_without_activations():
    history = healthy(layers=1)
    assert history["units_dead"].shape == (12, 0)
    for tables in (history, {k: v for k, v in history.items() if not k.startswith("units")}):
        assert verdicts(tables) == []
        tables["gradient_norm"] = np.full((12, 1), 1e-5)
        assert verdicts(tables) == [("vanishing gradients", "layer1", 0, EVERY)]


@pytest.mark.parametrize(
    ("dropped", "unknown"),
    [
        (["update_ratio"], ["updates too large", "updates too small", "frozen layers"]),
        (["units_dead"], ["dead units"]),
        (["units_saturated"], ["saturated units"]),
        (["gradient_norm"], ["exploding gradients", "vanishing gradients"]),
        (["weight_norm"], ["exploding gradients", "vanishing gradients"]),
        (["loss/test"], []),
        (["chance/loss"], []),
        (["loss/train"], ["exploding gradients", "vanishing gradients", "rising loss"]),
        (["accuracy/test", "chance/accuracy"], [*OF_BATCHES, "stuck at chance"]),
        (["loss/train", "loss/test", "accuracy/test"], OF_LOSSES),
        (
            set(healthy()) - {"step", "layers", "activation_layers", "gradient_mean_abs"},
            [n for n in NAMES if n not in ("no gradient", "non-finite values", *NOT_OF_ALL)],
        ),
    ],
)
def test_symptoms_whose_measures_are_missing_are_named(dropped, unknown):
    told = Diagnosis.of(healthy(**dict.fromkeys(dropped)), finished=False)
    assert told.evidence == []
    assert list(told.lacks) == unknown
    assert all(told.lacks.values())


@pytest.mark.parametrize("records", [1, 8])
def test_measures_with_few_records_are_not_missing(records):
    assert Diagnosis.of(healthy(records), finished=False).lacks == {}


def test_a_loss_of_zero_is_found_if_the_mean_of_the_outputs_is_rounded():
    """As with softmax over one unit."""
    assert faults(logged() | yardstick(np.zeros(12), 6e-8))[0] == "loss of zero"


@pytest.mark.parametrize("loss", [0.0, np.inf, np.nan])
def test_a_loss_of_zero_or_not_finite_is_no_symptom_of_a_gradient(loss):
    history = healthy()
    history["loss/train"][5:] = loss
    told = Diagnosis.of(history, finished=False)
    assert (told.evidence, told.lacks) == ([], {})


def test_nan_is_no_symptom():
    tables = [key for key in healthy() if key not in ("step", "layers", "activation_layers")]
    for key in tables:
        for part in (slice(None), slice(0, 1), slice(5, 6), slice(11, 12)):
            history = healthy()
            history[key][part] = np.nan
            assert verdicts(history) == [], (key, part)
    # And NaN does not hide a symptom of another measure or of an earlier record.
    for symptom, (measure, bad, _, records, _) in OF_TABLES.items():
        for key in set(tables) - {measure, "gradient_mean_abs", "loss/train", "weight_norm"}:
            history = sick(symptom, bad, 0, records)
            history[key][records:] = np.nan
            history[measure][records:] = np.nan
            assert [e.symptom for e in found(history)] == [symptom], (symptom, key)


# Invariants, on random histories.


def random_history(seed, records=14):
    """A random history with values near the thresholds; a few dozen have every symptom."""
    rng = np.random.default_rng(seed)

    def about(low, high, columns, spread=0.3):
        base = rng.uniform(low, high, columns)
        return 10.0 ** (base + spread * rng.normal(size=(records, columns)))

    def share(columns):
        return np.clip(
            rng.uniform(0, 0.9, columns) + 0.1 * rng.normal(size=(records, columns)), 0, 1
        )

    kappa = rng.choice([0.0, 0.3]) + 0.02 * rng.normal(size=records)
    swing = rng.choice([0.02, 0.4])
    smallest = rng.choice([-10, -4])
    rare = rng.random((records, 4)) < 0.01
    cut = np.zeros((records, 4))
    cut[seed % records :, seed % 4] = seed % 8 == 0
    return of_kappa(kappa) | {
        "loss/train": 2 * np.exp(swing * rng.normal(size=records)),
        "loss/test": 2 * np.exp(swing * rng.normal(size=records)),
        "chance/loss": np.full(records, 2.1),
        "gradient_norm": about(-3.5, 3.5, 4),
        "weight_norm": about(0, 1, 4),
        "update_ratio": about(smallest, smallest + 4, 4),
        "gradient_nonfinite": np.where(rare, rng.integers(1, 99, (records, 4)), 0.0),
        "units_dead": share(3),
        "units_saturated": share(3),
        "layer_state": cut,
    }


SEEDS = range(60)


def test_the_random_histories_cover_every_symptom():
    all_found = [{e.symptom for e in found(random_history(seed))} for seed in SEEDS]
    others = {*OF_BATCHES, *OF_VALIDATION, *OF_TIME, "rising loss", "learning rate fades out"}
    assert set.union(*all_found) == set(NAMES) - others
    assert set.intersection(*all_found) == set()
    assert sum(len(symptoms) > 2 for symptoms in all_found) > 20


@pytest.mark.parametrize("factor", [1e-3, 0.3, 1e3])
def test_the_unit_of_the_loss_changes_no_verdict(factor):
    scaled = ("loss/train", "loss/test", "chance/loss", "gradient_norm", "gradient_mean_abs")
    for seed in SEEDS:
        history = random_history(seed)
        other = history | {key: factor * history[key] for key in scaled}
        assert verdicts(other) == verdicts(history)
        for key in ("chance/loss", "loss/test", "accuracy/test", "chance/accuracy"):
            del history[key], other[key]
        assert verdicts(other) == verdicts(history)


def test_the_scale_of_a_layer_changes_no_verdict_on_its_gradients():
    """Before a normalization, weights that are twice as large have half the gradient."""
    factor = np.array([1e-2, 1, 30, 1e4])
    for seed in SEEDS:
        history = random_history(seed)
        weights, gradients = history["weight_norm"] * factor, history["gradient_norm"] / factor
        other = history | {"weight_norm": weights, "gradient_norm": gradients}
        assert verdicts(other) == verdicts(history)


def test_the_order_of_layers_does_not_matter():
    """Except for the layer of the first NaN, which is found by the order of the layers."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        history = random_history(seed) | {"gradient_nonfinite": np.zeros((14, 4))}
        order, hidden = rng.permutation(4), rng.permutation(3)
        other = history | {
            "layers": [LAYERS[i] for i in order],
            "activation_layers": [LAYERS[i] for i in hidden],
        }
        for key, table in history.items():
            if np.ndim(table) == 2:
                other[key] = table[:, hidden if key.startswith("units") else order]
        assert found(other) == found(history)


def as_recorded(history, record):
    """One record, as a trainer passes it to a monitor."""
    scalars = {key: t[record] for key, t in history.items() if "/" in key}
    measures = {key: t[record] for key, t in history.items() if np.ndim(t) == 2}
    hidden = {key: measures.pop(key) for key in list(measures) if key.startswith("units")}
    tables = [(history["layers"], measures)]
    if hidden:
        tables.append((history["activation_layers"], hidden))
    return int(history["step"][record]), scalars, tables


def test_a_monitor_reports_each_symptom_once_and_at_once():
    told_at_all = set()
    for seed in SEEDS:
        history = random_history(seed)
        half = {key: t if key.endswith("layers") else t[:7] for key, t in history.items()}
        whole, resumed = Monitor(), Monitor(half)
        told, later = [], []
        for record in range(14):
            news = whole.record(*as_recorded(history, record))
            assert {e.known for e in news} <= {history["step"][record]}
            told += news
            if record >= 7:
                later += resumed.record(*as_recorded(history, record))
        told, later = ([*map(plain, es)] for es in (told, later))
        in_the_end = found(history)
        # "Stuck at chance" may be reported and be over at the end.
        told_for_good = [e for e in told if e in in_the_end or e.symptom != "stuck at chance"]
        told_for_good.sort(key=in_order)
        assert told_for_good == in_the_end
        assert later == [e for e in told if e.known >= history["step"][7]]
        told_at_all |= {e.symptom for e in told}
    assert len(told_at_all) >= 8


def test_a_monitor_finds_the_same_from_histograms_as_from_norms():
    rng = np.random.default_rng(1)
    values = [
        rng.normal(size=(2, 4, 2000)) * scale[:, np.newaxis]
        for scale in (np.array([1e-4, 1e-2, 1, 30]), np.full(4, 0.2))
    ]
    of_norms, of_histograms = Monitor(), Monitor()
    told = []
    for record in range(2):
        step, scalars, [(layers, measures), _] = as_recorded(healthy(), record)
        del measures["gradient_norm"], measures["weight_norm"]
        norms, histograms = dict(measures), dict(measures)
        for key, of_key in zip(("gradient", "weight"), values, strict=True):
            norms[f"{key}_norm"] = np.linalg.norm(of_key[record], axis=-1)
            histograms[f"{key}s"] = np.stack([twins.histogram(row) for row in of_key[record]])
        both = [
            monitor.record(step, scalars, [(layers, tables)])
            for monitor, tables in ((of_norms, norms), (of_histograms, histograms))
        ]
        for one, other in zip(*both, strict=True):
            assert one.value == pytest.approx(other.value, rel=0.02)
            told.append((one.symptom, one.layer, one.step))
            assert told[-1] == (other.symptom, other.layer, other.step)
    assert told == [
        ("exploding gradients", "layer4", 0),
        ("vanishing gradients", "layer1", 0),
    ]


def test_a_recorded_norm_counts_and_that_of_the_histogram_where_there_is_none():
    """The norms of a layer are recorded from the record on in which a large layer comes in."""
    history = dict(healthy(2))
    buckets = np.stack([twins.histogram(np.random.default_rng(0).normal(size=500))] * 2)
    history["gradients"] = np.stack([buckets] * 4, axis=1)
    recorded = measurements_of(history).condition
    del history["gradient_norm"]
    estimated = measurements_of(history).condition
    norms = np.array(healthy(2)["gradient_norm"])
    norms[0, :2] = np.nan
    condition = measurements_of(history | {"gradient_norm": norms}).condition
    np.testing.assert_array_equal(condition[0, :2], estimated[0, :2])
    np.testing.assert_array_equal(condition[0, 2:], recorded[0, 2:])
    np.testing.assert_array_equal(condition[1], recorded[1])
    assert (np.abs(estimated / recorded - 1) > 0.1).all()
    # A gradient with a value that is not finite has no norm.
    nonfinite = np.zeros(norms.shape)
    nonfinite[0, 0] = 1
    both = history | {"gradient_norm": norms, "gradient_nonfinite": nonfinite}
    assert np.isnan(measurements_of(both).condition).tolist()[0] == [True, False, False, False]


def test_a_monitor_accepts_layers_without_a_finite_value():
    step, scalars, [(layers, measures), hidden] = as_recorded(healthy(), 0)
    none = buckets(np.full(4, np.inf), np.full(4, -np.inf), np.zeros((4, 30)))
    measures |= {"gradients": none, "gradient_nonfinite": np.full(4, 9.0)}
    measures["gradient_mean_abs"] = np.full(4, np.nan)
    del measures["gradient_norm"]
    [evidence] = Monitor().record(step, scalars, [(layers, measures), hidden])
    assert (evidence.symptom, evidence.layer) == ("non-finite values", "layer4")


def test_a_monitor_continues_from_records_with_fewer_measures():
    """A run of `GradientLogger` may begin with `measures="default"`, and continue with "full"."""
    later = ("units", "update")
    monitor = Monitor({k: t for k, t in healthy(2).items() if not k.startswith(later)})
    history = sick("dead units", 0.8, 2, 2)
    assert monitor.record(*as_recorded(history, 2)) == []
    [evidence] = monitor.record(*as_recorded(history, 3))
    assert (evidence.symptom, evidence.step) == ("dead units", 2 * EVERY)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(size=10_000),
        lambda rng: rng.normal(3, 1, size=10_000),
        lambda rng: rng.uniform(-0.05, 0.05, 20_000),
        lambda rng: rng.laplace(size=10_000) * 1e-9,
        lambda rng: np.where(rng.random(10_000) < 0.5, 0, rng.normal(size=10_000)),
        lambda rng: np.full(50, -2.5),
        lambda rng: np.zeros(50),
    ],
)
def test_the_norm_estimated_from_a_histogram(draw):
    values = np.stack([draw(np.random.default_rng(seed)) for seed in range(3)])
    norms = histogram_norm(np.stack([recorded(row) for row in values]))
    np.testing.assert_allclose(norms, np.linalg.norm(values, axis=1), rtol=0.05)


# Networks in NumPy.

EXAMPLES = (
    np.random.default_rng(0).normal(size=(60, 20)),
    np.random.default_rng(1).integers(0, 4, 60),
)


def real_history(weights, activation="sigmoid", records=3):
    """A history of a few steps of gradient descent, and the weights and gradients of each."""
    tables = {"gradients": [], "weights": [], "gradient_mean_abs": [], "units_dead": []}
    losses, gradients_at = [], []
    for _ in range(records):
        gradients = twins.backprop(weights, *EXAMPLES, activation)
        outputs = twins.forward(weights, EXAMPLES[0], activation)[1][1:-1]
        tables["gradients"].append([recorded(g) for g in gradients[::2]])
        tables["weights"].append([recorded(w) for w in weights[::2]])
        tables["gradient_mean_abs"].append([np.abs(g).mean() for g in gradients[::2]])
        tables["units_dead"].append([(o == 0).all(axis=0).mean() for o in outputs])
        losses.append(twins.cross_entropy(weights, *EXAMPLES, activation))
        gradients_at.append((weights, gradients))
        weights = [w - 0.01 * g for w, g in zip(weights, gradients, strict=True)]
    tables = {key: np.array(table) for key, table in tables.items()}
    names = [f"layer{number}" for number in range(1, len(weights) // 2 + 1)]
    history = {"step": np.arange(records), "layers": names, "activation_layers": names[:-1]}
    return history | {"loss/train": np.array(losses)} | tables, gradients_at


def random_weights(layers=7, width=30, scale=0.5, bias=0.0, seed=1):
    rng = np.random.default_rng(seed)
    sizes = [20, *[width] * (layers - 1), 4]
    weights = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weights += [scale * rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)]
        weights += [bias * np.abs(rng.normal(size=fan_out))]
    return weights


def test_the_condition_number_against_its_definition():
    """Move a layer along its gradient, by a millionth of its weights' norm."""
    history, gradients_at = real_history(random_weights(scale=4.0, layers=3))
    condition = measurements_of(history).condition
    weights, gradients = gradients_at[0]
    for layer in range(3):
        kernel, gradient = weights[2 * layer], gradients[2 * layer]
        along = gradient * np.linalg.norm(kernel) / np.linalg.norm(gradient)
        ends = []
        for shift in (1e-6, -1e-6):
            moved = list(weights)
            moved[2 * layer] = kernel + shift * along
            ends.append(twins.cross_entropy(moved, *EXAMPLES, "sigmoid"))
        change = (ends[0] - ends[1]) / 2e-6 / history["loss/train"][0]
        assert condition[0, layer] == pytest.approx(change, rel=0.03)


@pytest.mark.parametrize(
    ("activation", "weights", "expected"),
    [
        ("sigmoid", random_weights(), [("vanishing gradients", "layer1")]),
        ("tanh", random_weights(scale=1.0), []),
        ("relu", random_weights(scale=15.0), [("exploding gradients", None)]),
        ("relu", random_weights(bias=-9.0), [("dead units", None), ("vanishing gradients", None)]),
    ],
)
def test_permuting_units_changes_no_verdict(activation, weights, expected):
    """Permute the columns of each kernel, and the rows of the next one."""
    rng = np.random.default_rng(5)
    permuted = [w.copy() for w in weights]
    for layer in range(0, len(weights) - 2, 2):
        order = rng.permutation(weights[layer].shape[1])
        permuted[layer] = permuted[layer][:, order]
        permuted[layer + 1] = permuted[layer + 1][order]
        permuted[layer + 2] = permuted[layer + 2][order]
    ours, theirs = (found(real_history(w, activation)[0]) for w in (weights, permuted))
    assert not np.array_equal(weights[0], permuted[0])
    assert [e.symptom for e in ours] == [symptom for symptom, _ in expected]
    for one, other, (_, layer) in zip(ours, theirs, expected, strict=True):
        assert one.layer == (layer or one.layer)
        assert (one.symptom, one.layer, one.step) == (other.symptom, other.layer, other.step)
        assert one.value == pytest.approx(other.value, rel=1e-6)
