"""Sweeps: grids of networks, trained together, and read as one table.

```python
from mnist_vg import Scenario
from mnist_vg.sweeps import Sweep, Sweeper, read_table

grid = Sweep("depth", Scenario(iterations=200), {"num_layers": (2, 6, 10)}, seeds=2)
folder = Sweeper(grid, "logdir").run()
print(read_table(folder)[["num_layers", "step", "test_accuracy", "verdict"]])
```
"""

import lazy_loader

# Each waits for what it needs: pandas, pyarrow, TensorFlow in the workers.
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
