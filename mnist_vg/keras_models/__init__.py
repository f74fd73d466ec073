"""What a Keras model is made of: its layers and their names, its optimizers, its activations.

```python
import keras
from mnist_vg.keras_models import layer_paths, optimizers_of

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
model.compile("adam", "mse")
print(*layer_paths(model), *optimizers_of(model))
```

Models are looked at here, and none is trained or changed.
"""

# ruff: noqa: E402

from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()  # Before the others, without its messages.

from mnist_vg.keras_models.layer_names import layer_paths
from mnist_vg.keras_models.optimizers import optimizers_of

__all__ = ["layer_paths", "optimizers_of"]
