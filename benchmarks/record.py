"""One record of the sigmoid network: by `EventLog`, and by TensorFlow's own eager calls.

Both begin where the step has ended and end when the event file is flushed. Ours has
less left to do: the compiled block has measured already. What that costs there is
printed too. The eager record has no `gradient_flow`, which is one scalar of ours more.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import _common_tf
import tensorflow as tf
from _common import in_turn, ratios, run, spread

from mnist_vg import SCENARIOS, datasets
from mnist_vg.recording.event_log import EventLog
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.training.build import make_trainer
from mnist_vg.training.objective import loss_and_accuracy, scaled_inputs

TARGET = 30
"""How many times faster than the eager record ours should be, at least."""

SIGMOID = SCENARIOS["sigmoid"]

SCALARS = {"loss/train": 2.3, "accuracy/train": 0.1, "loss/test": 2.3, "accuracy/test": 0.1}


def milliseconds(call) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def ways(folder: Path, scenario: Scenario) -> dict:
    """What is timed, by name, each a function without arguments."""
    dataset = datasets.load()
    trainer = make_trainer(scenario, dataset)
    trainer.compile()
    tables = trainer.advance(1, record=True).tables
    gradients = kernel_gradients(trainer.model, dataset.train, scenario.batch_size)
    kernels = [layer.kernel for layer in trainer.model.dense_layers]
    log = EventLog(folder / "ours")
    writer = tf.summary.create_file_writer(str(folder / "eager"))

    def eager():
        with writer.as_default():
            _common_tf.write_eagerly(0, SCALARS, gradients, kernels)
        writer.flush()

    return {
        "EventLog.record": lambda: log.record(0, SCALARS, tables),
        "eager tf.summary": eager,
        "a step": lambda: trainer.advance(1, record=False),
        "a step that measures": lambda: trainer.advance(1, record=True),
    }


def kernel_gradients(model, examples, batch_size) -> list[tf.Tensor]:
    """The gradient of a batch's loss for each kernel."""
    inputs = scaled_inputs(tf.constant(examples.inputs[:batch_size]))
    with tf.GradientTape() as tape:
        loss, _ = loss_and_accuracy(model(inputs, training=True), examples.labels[:batch_size])
    return tape.gradient(loss, [layer.kernel for layer in model.dense_layers])


def main(rounds: int = 50, scenario: Scenario = SIGMOID) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        calls = ways(Path(folder), scenario)
        timed = {name: lambda call=call: milliseconds(call) for name, call in calls.items()}
        in_turn(timed, 3)  # what is done only once is not timed
        times = in_turn(timed, rounds)
    print(f"One record, flush included, {rounds} rounds in turn: median (min–max)\n")
    for name, figures in times.items():
        print(f"{name:21} {spread(figures, '.2f'):>24} ms")
    ahead = ratios(times["eager tf.summary"], times["EventLog.record"])
    verdict = "met" if median(ahead) >= TARGET else "missed"
    print(f"\neager over ours: {spread(ahead, '.1f')}, target at least {TARGET}: {verdict}")


if __name__ == "__main__":
    run(
        main,
        __doc__,
        takes="half a minute",
        smoke={"rounds": 1, "scenario": Scenario(num_layers=1)},
    )
