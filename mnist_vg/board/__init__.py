"""The tab "Gradient flow" in TensorBoard: every run's layers by steps in one look.

```python
from mnist_vg.board import local_runs

for name, state in local_runs("logdir").items():
    print(name, state.status, state.damage or "sound")
```

TensorBoard finds `BoardPlugin` by its entry point. It reads what TensorBoard has read, through
TensorBoard's data provider, and hands it to the page in `static/`. TensorFlow is not needed.
"""

import lazy_loader

# TensorBoard imports this wing at its start, without a `try`.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "board_plugin": ["BoardPlugin"],
        "local_runs": ["local_runs"],
        "log": ["Log"],
    },
)
