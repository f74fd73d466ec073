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

import numpy as np
from pages import markdown_table, run, write
from picture import take_picture
from symptom_models import EXAMPLES, train
from symptom_texts import TEXTS

from mnist_vg import Scenario, UsageError, diagnose
from mnist_vg.cure import cure
from mnist_vg.diagnosis.symptoms import (
    LOSS_OF_ZERO,
    NO_GRADIENT,
    SYMPTOMS,
    UPDATES_TOO_SMALL,
    Symptom,
)
from mnist_vg.report import Display, command, cure_lines, cure_table, make_console
from mnist_vg.runs.tags import LOSS_DATA, LOSS_SAME_ANSWER, LOSS_VALIDATION
from mnist_vg.scenarios.suites import find_scenario

SCOPES = {
    "layers": ", in any layer",
    "activation_layers": ", in any layer with an activation",
    None: "",
}
"""What a symptom's columns are, in words."""

INDEX = """# Symptoms

What keeps a network from learning, how to see it in TensorBoard, and what helps. `make symptoms`
trains an example of each with the remedies that fit, and writes these pages.

{table}
A symptom is a fault while it harms: most do not harm a network that learns all the same, see
[diagnosis](../diagnosis.md). The examples of ten symptoms are the suite `symptoms`
(`mnist-vg list`), each under three seeds; the picture is of the first seed that shows the symptom.
The other examples are models of Keras.
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
        if symptom.name in EXAMPLES:
            example = EXAMPLES[symptom.name]
            runs = train(example, logdir / page.stem)
            _picture(runs, page.with_suffix(".png"), text, seconds)
            write(page, _text(symptom, runs[0], logdir, *_keras_example(example, runs)))
            continue
        with Display(make_console(), brief=True) as display:
            told = {"watch": display.watch, "expect": display.expect}
            found = cure(find_scenario(text.example), logdir, seeds=seeds, **told)
        sick, cured = _example(symptom, found)
        _picture([sick, cured], page.with_suffix(".png"), text, seconds)
        write(page, _text(symptom, sick, logdir, *_scenario_example(found, logdir)))
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
        evidence = diagnose(sick).evidence
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
    typed = command("cure", scenario.name, "--logdir", logdir)
    return example, f"```sh\n{typed}\n```\n\n{_cure(found)}"


def _keras_example(example, runs):
    """The same for a model of Keras."""
    code = "\n\n".join(inspect.getsource(part) for part in (example.make, *example.parts))
    words = f"""The example is this model, {example.task}, with `{runs[0].name}`:

```python
{code}```"""
    return words, f"{example.cure}\n\n{_results(runs)}"


COLUMNS = {
    LOSS_DATA: ("Loss, mean of the last ten records", "{:.3g}"),
    LOSS_SAME_ANSWER: ("Loss of the same answer for all inputs", "{:.3g}"),
    LOSS_VALIDATION: ("Validation loss", "{:.3g}"),
    "val_accuracy": ("Validation accuracy", "{:.1%}"),
}
"""What the results of a model of Keras are: ten records of a batch each, or the last validation."""


def _results(runs):
    """What the runs of an example have learned."""
    columns = [(tag, *column) for tag, column in COLUMNS.items() if tag in runs[0].history]
    rows = []
    for run_of in runs:
        cells = [f"`{run_of.name}`"]
        for tag, _, form in columns:
            values = run_of.history[tag][np.isfinite(run_of.history[tag])]
            cells.append(form.format(values[-10 if tag.startswith("loss") else -1 :].mean()))
        rows.append(cells)
    return markdown_table(["", *(heading for _, heading, _ in columns)], rows)


def _text(symptom, sick, logdir, example, cure):
    text = TEXTS[symptom.name]
    evidence = diagnose(sick).evidence
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
$ {command("diagnose", "--logdir", logdir, sick.folder.relative_to(logdir))}
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


CONDITIONS = {NO_GRADIENT: "it gets none", LOSS_OF_ZERO: "both are 0, up to rounding"}
"""Of symptoms that have no number for a threshold."""


def _limit(symptom):
    """Threshold, where, and for how long, in words."""
    bound = f"{'at most' if symptom.below else 'at least'} {symptom.threshold:.4g}"
    unit = "validation" if symptom.of_validation else "record"
    several = f"{symptom.records} {unit}s in a row"
    since = ", from the first one on" if symptom.from_start else ""
    until = ", and at the newest one" if symptom.still else ""
    return (
        f"{CONDITIONS.get(symptom.name, bound)}{SCOPES[symptom.columns]}, at "
        f"{f'a {unit}' if symptom.records == 1 else several}{since}{until}"
    )


def _cure(found):
    """The table of `mnist-vg cure` without its seconds, and what it recommends."""
    table = cure_table(found)
    headings = [column.header for column in table.columns]
    shown = [n for n, heading in enumerate(headings) if heading != "Seconds"]
    rows = [
        [f"**{cells[n]}**" if style and cells[n] else cells[n] for n in shown]
        for cells, style in table.rows
    ]
    said, *commands = cure_lines(found)
    lines = [markdown_table([headings[n] for n in shown], rows), said, ""]
    lines += [f"```sh\n{typed.removeprefix('Train it: ')}\n```\n" for typed in commands]
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
