"""The loop over blocks of steps."""

import time
from collections.abc import Iterator

from mnist_vg.training.trainer import BLOCK_STEPS, Block, Trainer

BLOCK_SECONDS = 0.25
"""How long a block may take, since Python notices Ctrl-C only between blocks."""


def run_blocks(trainer: Trainer, iterations: int, log_every: int) -> Iterator[Block]:
    """Train up to `iterations` steps, and yield block by block.

    A block ends at each step that is recorded: 0, `log_every`, `2 * log_every`, … and the
    last one. It ends earlier if steps are so slow that Ctrl-C would have to wait.
    """
    length = 1
    while trainer.steps_done < iterations:
        record_step = min(-(-trainer.steps_done // log_every) * log_every, iterations - 1)
        due = record_step + 1 - trainer.steps_done
        steps = min(due, length, BLOCK_STEPS)
        start = time.monotonic()
        block = trainer.advance(steps, record=steps == due)
        length = max(1, int(steps * BLOCK_SECONDS / (time.monotonic() - start)))
        yield block
