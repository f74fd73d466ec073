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

from mnist_vg.recording.event_log import EventLog
from mnist_vg.recording.gradient_logger import GradientLogger
from mnist_vg.recording.recorder import Recorder
from mnist_vg.recording.run_writer import RunWriter

__all__ = ["EventLog", "GradientLogger", "Recorder", "RunWriter"]
