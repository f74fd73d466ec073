"""The command line: one file for each command of `mnist-vg`, from arguments to calls.

```python
from mnist_vg.cli import cli

cli(["list"], standalone_mode=False)
cli(["diagnose", "logdir", "sigmoid"], standalone_mode=False)
```
"""

from mnist_vg.cli.command_line import cli, main

__all__ = ["cli", "main"]
