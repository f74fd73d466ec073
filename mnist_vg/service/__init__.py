"""The training service: a queue in front of warm trainers, beside TensorBoard.

```python
from mnist_vg.service import Queue

queue = Queue("queue.sqlite3")
queue.submit({"kind": "train", "settings": {"activation": "tanh"}}, "tanh")
print([(job.number, job.state, job.name) for job in queue.jobs()])
```

`mnist-vg serve` starts it; `connect` reaches one that runs.
"""

import lazy_loader

# The server, the workers and the clients need different things, and none needs all.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "client": ["Client", "connect"],
        "limits": ["Limits"],
        "queue": ["Job", "Queue"],
    },
)
