"""Run folders: what they hold, and how to read it back. Nothing here imports TensorFlow.

```python
from mnist_vg.runs import find_runs

for run in find_runs("logdir"):
    print(run.name, run.status, run.results)
    print(run.history["step"], run.history["gradient_mean_abs"])  # [records], [records, layers]
```
"""

from mnist_vg.runs.events import read_events
from mnist_vg.runs.history import History
from mnist_vg.runs.results import learned
from mnist_vg.runs.run import Run, find_runs

__all__ = ["History", "Run", "find_runs", "learned", "read_events"]
