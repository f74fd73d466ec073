"""Sweeps: train a grid of networks, and read what they recorded as one table.

```python
from mnist_vg import Scenario
from mnist_vg.sweeps import Sweep, Sweeper, read_table

grid = Sweep("depth", Scenario(iterations=200), {"num_layers": (2, 6, 10)}, seeds=2)
folder = Sweeper(grid, "logdir").run()
print(read_table(folder)[["num_layers", "step", "test_accuracy", "verdict"]])
```
"""

import lazy_loader

# Imported on first use: pandas and pyarrow are slow to import.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "sweep": ["Sweep", "parse_axes"],
        "sweeper": ["Sweeper"],
        "table": ["read_sweep", "read_table"],
        "ranking": ["rank", "sobol_indices"],
        "heatmaps": ["draw"],
    },
)
