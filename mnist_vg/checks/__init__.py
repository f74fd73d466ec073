"""Checks of a model and its data before the first training step.

```python
import keras
from mnist_vg import check, datasets

digits, model = datasets.load().train, keras.Sequential([keras.layers.Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
print(check(model, digits.inputs, digits.labels))
```

Each kind of check has a room: `data`, `heads` (with losses and labels), `weights` and `network`
(layers as they are, and what passes through them), `rates` (of the optimizer). `Look` calls the
model for them, and leaves it as it was.
"""

# ruff: noqa: E402

from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()  # Before the others, without its messages.

from mnist_vg.checks.findings import Checks, Finding
from mnist_vg.checks.run_checks import check

__all__ = ["Checks", "Finding", "check"]
