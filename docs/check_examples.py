"""Write docs/check_examples.md: a fault of each kind that `check` finds, and what mending it gains.

    .venv/bin/python docs/check_examples.py docs/check_examples.md

trains a small network on 8 by 8 digits ten times.
"""

import inspect
from collections.abc import Collection
from pathlib import Path

import keras
from pages import markdown_table, run, write

from mnist_vg import check, datasets

PAGE = """# Findings, and what mending them gains

`python docs/check_examples.py docs/check_examples.md` writes this page. It makes one network with a
fault of each kind that [`mnist_vg.check`](checks.md) finds, and one without it, and trains both for
{epochs} epochs. The figures are the accuracy on 500 digits that are not trained on; always the same
answer gets about 10%.

```python
{code}```

{sections}All kinds of findings, and the source of each threshold: [Before training](checks.md).
"""

KINDS = {
    "data": (
        {"scale": 255},
        {},
        "The inputs go from 0 to 255, as pixels are stored. A step that suits weights of inputs up "
        "to 1 is far too long for these.",
    ),
    "labels": (
        {"label_scale": 1 / 255},
        {},
        "The labels were divided by 255 together with the pixels. Cut to whole numbers, all of "
        "them are 0.",
    ),
    "head": (
        {"head": None},
        {},
        "The last layer has no activation, and the loss expects probabilities.",
    ),
    "network": (
        {"activation": "sigmoid", "depth": 6},
        {"activation": "relu", "depth": 6},
        "Six layers of sigmoids.",
    ),
    "optimizer": (
        {"learning_rate": 1e-6},
        {},
        "A learning rate of one millionth.",
    ),
}
"""For each kind of check: the settings with the fault, without it, and the fault in words."""


def digits(scale=1, label_scale=1, depth=1, activation="relu", head="softmax", learning_rate=0.1):
    """A network, and its inputs and labels: of the training, and of the test."""
    loaded = datasets.load("digits")
    layers = [keras.layers.Dense(32, activation) for _ in range(depth)]
    model = keras.Sequential([*layers, keras.layers.Dense(10, head)])
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, test = loaded.train, loaded.test
    trained_on = scale * train.inputs, label_scale * train.labels
    return model, trained_on, (scale * test.inputs, test.labels)


def main(page: Path, kinds: Collection[str] = tuple(KINDS), epochs: int = 20) -> None:
    """Check and train the example of each kind, and write the page."""
    sections = [_section(kind, *KINDS[kind], epochs) for kind in kinds]
    code = inspect.getsource(digits)
    write(page, PAGE.format(code=code, sections="".join(sections), epochs=epochs))


def _section(kind, sick, mended, words, epochs):
    finding, *_ = _check(sick)
    rows = [[f"`{_call(s)}`", f"{_accuracy(s, epochs):.1%}"] for s in (sick, mended)]
    return f"""## {kind.capitalize()}

{words} `check` of `{_call(sick)}`:

```
{finding}
```

{markdown_table(["", "Test accuracy"], rows)}
"""


def _call(settings):
    return f"digits({', '.join(f'{key}={_short(value)}' for key, value in settings.items())})"


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _check(settings):
    keras.utils.set_random_seed(0)
    model, train, _ = digits(**settings)
    return check(model, *train).findings


def _accuracy(settings, epochs):
    keras.utils.set_random_seed(0)
    model, train, test = digits(**settings)
    model.fit(*train, epochs=epochs, verbose=0)
    return model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]


def smoke(folder: Path) -> None:
    """One kind, one epoch."""
    main(folder / "page.md", ["head"], epochs=1)


if __name__ == "__main__":
    run(main, __doc__, "page", smoke=smoke)
