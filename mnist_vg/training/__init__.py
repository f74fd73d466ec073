"""Training: the compiled block of steps, and a run from its first step to its last.

```python
from mnist_vg import Scenario, datasets
from mnist_vg.training import make_trainer, run_blocks

dataset = datasets.load()
trainer = make_trainer(Scenario(activation="relu"), dataset)
for block in run_blocks(trainer, iterations=500, log_every=100):
    print(block.step, block.loss, trainer.evaluate(dataset.test))
```
"""

import lazy_loader

# Importing any of these imports TensorFlow, which takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["make_model", "make_optimizer", "make_trainer"],
        "blocks": ["run_blocks"],
        "trainer": ["Block", "Trainer"],
        "distributed_trainer": ["DistributedTrainer"],
        "group_trainer": ["GroupTrainer"],
    },
)
