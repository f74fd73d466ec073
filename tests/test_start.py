"""How a command starts: what it imports, what it says first, and what it refuses before."""

import subprocess
import sys
import textwrap

import pytest
from conftest import run_command


def run_python(code):
    """Run code in a fresh process; what it printed, as lines."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_waits_for_what_training_never_uses_and_hides_nothing():
    lines = run_python(
        """
        import sys
        import mnist_vg.model
        late = "sklearn", "pandas", "matplotlib.pyplot"
        ours = [finder for finder in sys.meta_path if "mnist_vg" in type(finder).__module__]
        print([name for name in late if name in sys.modules], ours)

        import keras, numpy as np, pandas as pd, sklearn.base
        x = np.arange(12.0).reshape(6, 2)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        frame = pd.DataFrame(x, columns=["a", "b"])
        fitted = model.fit(frame, frame["a"], validation_split=0.5, verbose=0)
        print(sorted(fitted.history))

        def build(X, y):
            model = keras.Sequential([keras.layers.Dense(2, "softmax")])
            model.compile("sgd", "categorical_crossentropy")
            return model

        estimator = keras.wrappers.SKLearnClassifier(build, fit_kwargs={"verbose": 0})
        estimator = sklearn.base.clone(estimator).fit(x, [0, 1] * 3)
        print(isinstance(estimator, sklearn.base.BaseEstimator), estimator.predict(x).shape)

        from keras.visualization import plot_image_gallery
        import matplotlib.pyplot as plt
        plot_image_gallery(np.zeros([4, 8, 8, 3]), value_range=(0, 255), show=False)
        print(len(plt.get_fignums()))
        """
    )
    assert lines[:2] == ["[] []", "['loss', 'val_loss']"]
    assert lines[-2:] == ["True (6,)", "1"]


def test_a_program_that_has_imported_keras_keeps_it():
    assert run_python(
        """
        import sys
        import keras
        before = dict(sys.modules)
        import mnist_vg.model
        print(all(sys.modules[name] is module for name, module in before.items()))
        print("sklearn" in before)
        """
    ) == ["True", "True"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--logdir", "/proc/foo"], "logdir: /proc cannot be written (.*); name another"),
        (["relu", "--num-layers", "100000"], "num_layers: 100000 is too deep for Keras; give at"),
        (["relu", "--hidden-size", "1000000"], "hidden_size: 1000000, with num_layers 6, needs 4"),
    ],
)
def test_what_cannot_be_is_refused_before_tensorflow_is_imported(arguments, line):
    lines = run_python(
        f"""
        import re, sys
        from mnist_vg.cli import cli
        from mnist_vg.errors import UsageError
        try:
            cli(["train", *{arguments!r}], standalone_mode=False)
        except UsageError as error:
            print(bool(re.match({line!r}, str(error))), "tensorflow" in sys.modules)
        """
    )
    assert lines == ["True False"]


def test_the_first_lines_say_what_it_is_doing(tmp_path):
    scenarios = "depth-sigmoid-3", "depth-relu-3"
    options = "--iterations", 20, "--log-every", 10, "--logdir", tmp_path
    first, second, *others = run_command("train", *scenarios, *options).stdout.splitlines()
    assert first == "Starting TensorFlow"
    assert second == "Compiling depth-sigmoid-3, depth-relu-3"
    assert not any(line.startswith(("Starting", "Compiling")) for line in others)
    [nothing_left, *_] = run_command("train", *scenarios, *options).stdout.splitlines()
    assert nothing_left.startswith(f"{scenarios[0]}: nothing left to train")
