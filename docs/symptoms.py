"""Write docs/symptoms/: of every symptom an example, its picture, its rule, and what cures it.

    make symptoms
    .venv/bin/python docs/symptoms.py .symptoms docs/symptoms

trains the examples and the remedies that fit into LOGDIR, as `mnist-vg cure` does, and writes
the pages from these runs. Needs what docs/picture.py needs.
"""

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pages import markdown_table, run, write
from picture import take_picture
from symptom_no_gradient import argmax, network, softmax, train
from symptom_texts import TEXTS

from mnist_vg import Scenario, UsageError
from mnist_vg.cure import cure
from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.diagnosis.symptoms import NO_GRADIENT, SYMPTOMS, UPDATES_TOO_SMALL, Symptom
from mnist_vg.report import Display, cure_lines, cure_table, make_console
from mnist_vg.runs.results import LEARNED_KAPPA
from mnist_vg.runs.tags import LOSS_TRAIN
from mnist_vg.scenarios.suites import find_scenario

SCOPES = {
    "layers": ", in any layer",
    "activation_layers": ", in any layer with an activation",
    None: "",
}
"""What a symptom's columns are, in words."""

INDEX = f"""# Symptoms

What keeps a network from learning, how to see it in TensorBoard, and what helps. `make symptoms`
trains an example of each with the remedies that fit, and writes these pages.

{{table}}
A network that could learn has no symptom: where its test accuracy, corrected for chance, is
{LEARNED_KAPPA} or more, whatever is measured has not kept it from that. The examples are the suite
`symptoms` (`mnist-vg list`), each under three seeds; a picture is of the first seed that shows the
symptom. (No scenario has a layer without a gradient, so that example is a model of Keras.) How
the rules are used, and how well they do: [diagnosis](../diagnosis.md).
"""


def main(
    logdir: Path,
    folder: Path,
    symptoms: Sequence[Symptom] = SYMPTOMS,
    seeds: int = 3,
    seconds: float = 12.0,
) -> None:
    """Train what is not there yet, and write every page and the index.

    Args:
        logdir: of the runs.
        folder: of the pages.
        symptoms: those of the pages.
        seeds: of each example.
        seconds: how long TensorBoard has to draw, see `picture.take_picture`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for symptom in symptoms:
        text = TEXTS[symptom.name]
        page = folder / _page(symptom.name)
        if symptom.name == NO_GRADIENT:
            sick, cured = (train(choose, logdir / "no_gradient") for choose in (argmax, softmax))
            _picture([sick, cured], page.with_suffix(".png"), text, seconds)
            write(page, _text(symptom, sick, *_keras_example(sick, cured)))
            continue
        with Display(make_console(), brief=True) as display:
            found = cure(find_scenario(text.example), logdir, seeds=seeds, watch=display.watch)
        sick, cured = _example(symptom, found)
        _picture([sick, cured], page.with_suffix(".png"), text, seconds)
        write(page, _text(symptom, sick, *_scenario_example(found, logdir)))
    rows = [
        [_link(symptom.name), TEXTS[symptom.name].measure, _limit(symptom)] for symptom in symptoms
    ]
    table = markdown_table(["Symptom", "What is measured", "Symptom where it is"], rows)
    write(folder / "README.md", INDEX.format(table=table))


def _example(symptom, found):
    """Of the first seed that shows the symptom, the sick run and the cured one."""
    # What comes nearest to a cure, where there is none.
    after = found.recommended or max(found.trials, key=lambda trial: trial.accuracy)
    for sick, cured in zip(found.before.runs, after.runs, strict=True):
        evidence = Diagnosis.of(sick.history, finished=True).evidence
        if symptom.name in (each.symptom for each in evidence):
            return sick, cured
    raise UsageError(f"{found.before.scenario.name}: no seed shows {symptom.name}")


def _picture(runs, path, text, seconds):
    """TensorBoard on these runs alone."""
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            (Path(folder) / run.name).symlink_to(run.folder.absolute())
        take_picture(folder, path, text.tags, text.tab, text.size, seconds)


def _scenario_example(found, logdir):
    """What the example is, and what cures it."""
    scenario = found.before.scenario
    example = f"The example is `{scenario.name}`, {scenario.about}: {_settings(scenario)}."
    command = f"```sh\nmnist-vg cure {scenario.name} --logdir {logdir}\n```"
    return example, f"{command}\n\n{_cure(found)}"


def _keras_example(sick, cured):
    """The same for the model of Keras."""
    code = "\n\n".join(inspect.getsource(part) for part in (network, argmax, softmax))
    losses = [f"{run.history[LOSS_TRAIN][-10:].mean():.3f}" for run in (sick, cured)]
    example = f"""The example is this model, trained to repeat its first input, with `argmax`:

```python
{code}```"""
    cure = f"""Use the layer, or put an operation with a gradient in place of the one without. With
`softmax`, the encoder trains: the loss of the last ten records is {losses[1]}, and {losses[0]} with
`argmax`. If a layer is not meant to train, set its `trainable=False`. It is then marked as
frozen, which is no symptom.
"""
    return example, cure


def _text(symptom, sick, example, cure):
    text = TEXTS[symptom.name]
    evidence = Diagnosis.of(sick.history, finished=True).evidence
    page = Path(_page(symptom.name))
    return f"""# {symptom.name.capitalize()}

{text.what}

{text.why}

## In TensorBoard

![TensorBoard: {text.shows}]({page.with_suffix(".png")})

{text.look}

{example}

## The rule

{_rule(symptom)}
## What `mnist-vg diagnose` finds

```
$ mnist-vg diagnose {sick.folder.parent} {sick.name}
{chr(10).join(each.line for each in evidence)}
```

## What cures it

{cure}
[All symptoms](README.md)
"""


def _settings(scenario):
    """What sets an example apart from the seven-layer network of sigmoids."""
    usual = Scenario(iterations=scenario.iterations, log_every=scenario.log_every).settings()
    changed = (
        f"`{key}={value}`"
        for key, value in scenario.settings().items()
        if value != usual[key] and key != "name"
    )
    return ", ".join(changed)


def _rule(symptom):
    words = {
        "Measure": TEXTS[symptom.name].measure,
        "Symptom where it is": _limit(symptom),
        "Source": symptom.source,
        "May follow from": ", ".join(_link(cause) for cause in symptom.causes),
        "May lead to": ", ".join(
            _link(other.name) for other in SYMPTOMS if symptom.name in other.causes
        ),
    }
    return markdown_table(["", ""], [[key, value] for key, value in words.items() if value])


def _limit(symptom):
    """Threshold, where, and for how long, in words."""
    if symptom.name == NO_GRADIENT:
        return "it gets none, in any layer, at a record"
    bound = "at most" if symptom.below else "at least"
    records = "a record" if symptom.records == 1 else f"{symptom.records} records in a row"
    since = ", from the first one on" if symptom.from_start else ""
    until = ", and at the newest one" if symptom.still else ""
    where = SCOPES[symptom.columns]
    return f"{bound} {symptom.threshold:.4g}{where}, at {records}{since}{until}"


def _cure(found):
    """The table of `mnist-vg cure` without its seconds, and what it recommends."""
    table = cure_table(found)
    columns = [column for column in table.columns if column.header != "Seconds"]
    cells = zip(*(column.cells for column in columns), strict=True)
    rows = [
        [f"**{cell}**" if row.style and cell else cell for cell in line]
        for row, line in zip(table.rows, cells, strict=True)
    ]
    said, *commands = cure_lines(found)
    lines = [markdown_table([column.header for column in columns], rows), said, ""]
    lines += [f"```sh\n{command.removeprefix('Train it: ')}\n```\n" for command in commands]
    return "\n".join(lines)


def _page(name):
    return f"{name.replace(' ', '-')}.md"


def _link(name):
    return f"[{name}]({_page(name)})"


def smoke(folder: Path) -> None:
    """No gradient, and the symptom whose cures share one compiled program, under one seed."""
    quick = (NO_GRADIENT, UPDATES_TOO_SMALL)
    symptoms = [symptom for symptom in SYMPTOMS if symptom.name in quick]
    main(folder / "runs", folder / "pages", symptoms, seeds=1, seconds=1)


if __name__ == "__main__":
    run(main, __doc__, "logdir", "folder", smoke=smoke)
