"""The logging module: from a step's tensors to measures, and from measures to event files.

```python
import keras
from mnist_vg import GradientLogger, datasets

digits, model = datasets.load().train, keras.Sequential([keras.layers.Dense(10)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(digits.inputs / 255, digits.labels, callbacks=[GradientLogger("logdir/my_run")])
```

`GradientLogger` records any `fit`, `Recorder` any loop of your own, and the trainer records
itself. All of them write through one `RunWriter`, which writes through one `EventLog`.
"""

# ruff: noqa: E402

from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()  # Before the others, without its messages.

import lazy_loader

# The trainer needs neither `GradientLogger` nor the checks that come with it.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "event_log": ["EventLog"],
        "gradient_logger": ["GradientLogger"],
        "recorder": ["Recorder"],
        "run_writer": ["RunWriter"],
    },
)
