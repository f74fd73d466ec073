"""Matplotlib figures of what runs have recorded.

```python
from mnist_vg import figures
from mnist_vg.runs import find_runs

runs = find_runs("logdir")
figures.learning(runs).savefig("learning.png")
figures.save(figures.draw_all(runs), "pictures")
```
"""

from mnist_vg.figures.drawings import (
    activations,
    decisions,
    gradient_profile,
    gradients_by_epoch,
    learning,
    signals_by_layer,
    weights_by_epoch,
)
from mnist_vg.figures.gallery import draw_all, save

__all__ = [
    "activations",
    "decisions",
    "draw_all",
    "gradient_profile",
    "gradients_by_epoch",
    "learning",
    "save",
    "signals_by_layer",
    "weights_by_epoch",
]
