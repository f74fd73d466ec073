"""Write docs/experiments.md: what the tutorials and papers claim, and what came out here.

    make experiments
    .venv/bin/python docs/experiments.py .experiments docs/experiments.md

reads the runs in FOLDER/SUITE/, as `make experiments` trains them, and draws the figures
beside the page.
"""

import dataclasses
import inspect
import shutil
import statistics
from collections import Counter
from pathlib import Path

import claims_circles  # noqa: F401 - it registers its claims
import claims_digits  # noqa: F401 - and so does it
from claims import CLAIMS, Suite
from pages import markdown_table, run, write

from mnist_vg import SUITES, Scenario, UsageError, figures, train
from mnist_vg.figures.drawings import FIGURES
from mnist_vg.figures.style import png
from mnist_vg.runs.results import result_row
from mnist_vg.runs.run import find_runs

INTRODUCTIONS = {
    "circles": "Two circles of points, the inner one half as wide, told apart by networks of a few "
    "units a layer; 100 epochs of batches of 32, accuracy on the training points.",
    "circles_uniform": "Two circles that are close to each other, 500 points to train and 500 to "
    "test; five layers of five units whose kernels start between 0 and 1; 500 epochs.",
    "initializers": "MNIST with ten hidden layers of 64, 1,000 updates of batches of 64. The "
    "tutorial has no network and no numbers; these settings are this project's.",
    "remedies": "The seven-layer MNIST network with sigmoid, the same with each cure that the "
    "tutorial lists, and all of them with 20 and with 50 layers (the input counted, as there); "
    "2,500 updates. A cure is more accurate than the sick network at every seed, and more than "
    "half of its seeds could learn. The gradient ratio is layer 1's mean absolute gradient over "
    "the last one's, before training.",
    "depth": "MNIST with dense layers of ten units, 3 to 50 of them, 500 updates.",
    "glorot2010": "Five hidden layers of 1,000 units at initialization, on scikit-learn's digits, "
    "one batch of 100. A variance holds within three standard errors of one run, that of four "
    "layers of 1,000 units each; nothing is trained, so accuracies mean nothing.",
}

THREE = ("circles-sigmoid", "circles-tanh", "circles-relu")
GLOROT_2010 = tuple(scenario.name for scenario in SUITES["glorot2010"])
PICTURES = {
    "circles": {
        "three": (figures.decisions, THREE),
        "weights": (figures.weights_by_epoch, THREE),
        "gradients": (figures.gradients_by_epoch, THREE),
        "activations": (figures.activations, THREE),
        "decisions": (figures.decisions, "circles-"),
        "profile": (figures.gradient_profile, "circles-"),
    },
    "circles_uniform": {
        "decisions": (figures.decisions, "uniform-"),
        "learning": (figures.learning, ("uniform-tanh", "uniform-relu", "uniform-tanh-shallow")),
    },
    "initializers": {
        "tanh": (figures.gradient_profile, "tanh-sgd-"),
        "relu": (figures.gradient_profile, "relu-sgd-"),
    },
    "remedies": {
        "profile-7": (figures.gradient_profile, "-7"),
        "profile-50": (figures.gradient_profile, "-50"),
    },
    "depth": {
        "profile": (
            figures.gradient_profile,
            [f"depth-{name}-{depth}" for depth in (10, 50) for name in ("sigmoid", "tanh", "relu")],
        )
    },
    "glorot2010": {"signals": (figures.signals_by_layer, GLOROT_2010)},
}
"""The figures of each suite: their function, and the scenarios, by name or by a part of it."""

WORDS = {True: "holds", False: "does not hold", None: "answered"}


def main(folder: Path, page: Path) -> None:
    """Write the page and its pictures."""
    suites = {name: _finished(folder / name, name) for name in INTRODUCTIONS}
    findings = {
        name: [(claim, claim.measure(Suite.of(runs))) for claim in CLAIMS if claim.suite == name]
        for name, runs in suites.items()
    }
    sections = [_introduction(suites, findings)]
    sections += [
        _section(name, Suite.of(runs), findings[name], page) for name, runs in suites.items()
    ]
    write(page, "\n".join(sections))


def _finished(folder, name):
    runs = [run for run in find_runs(folder) if run.status == "finished"]
    lacking = {scenario.name for scenario in SUITES[name]} - {run.recipe for run in runs}
    if lacking:
        raise UsageError(
            f"folder: {folder} has no finished run of {', '.join(sorted(lacking))}; train them "
            f"with `make {name}`"
        )
    return runs


def _introduction(suites, findings):
    runs = [run for of_suite in suites.values() for run in of_suite]
    seeds = max(run.settings["seed"] for run in runs) + 1
    return f"""# What the tutorials claim, and what came out here

`make experiments` trains every suite and writes this page: {len(runs)} runs of
{len({run.recipe for run in runs})} scenarios under {seeds} seeds each. Numbers of ours are medians
over the seeds, with the least and the largest. A published number *holds* where it is among
ours, at the digits that it was published with. It was one run's, which nobody can repeat: the
listings no longer run. Where our range is wide that says little, so the row tells how many of
ours are below. No setting that a tutorial gives was changed to make a number fit.

Figures are of the seed whose accuracy is in the middle. *Could learn* is a test accuracy that,
corrected for chance, is at least 0.61 (Cohen's kappa). The rules behind the words stand in
`docs/claims_*.py`, the scenarios in `mnist_vg/scenarios/suites.py` (`mnist-vg list`).

{_summary(findings)}"""


def _summary(findings):
    verdicts = {
        name: Counter(WORDS[finding.holds] for _, finding in found)
        for name, found in findings.items()
    }
    rows = [
        [f"[{name}](#{name})", *(verdicts[name][word] for word in WORDS.values())]
        for name in verdicts
    ]
    return markdown_table(["Suite", *WORDS.values()], rows)


def _section(name, suite, findings, page):
    source = Counter(claim.source for claim, _ in findings).most_common(1)[0][0]
    rows, remarks = [], []
    for claim, finding in findings:
        text = claim.text if claim.source == source else f"{claim.text} ({claim.source})"
        verdict = WORDS[finding.holds]
        if finding.why:
            if finding.why not in remarks:
                remarks.append(finding.why)
            verdict += f" ({remarks.index(finding.why) + 1})"
        rows.append([text, claim.published, finding.ours, verdict])
    return "\n".join(
        [
            f"## {name}\n\n{INTRODUCTIONS[name]}\n\nSource: {source}.\n",
            markdown_table(["Claim", "Published", "Ours", "Verdict"], rows),
            *(f"{number}. {remark}" for number, remark in enumerate(remarks, 1)),
            "",
            _results(name, suite),
            *_pictures(name, suite, page),
        ]
    )


def _results(name, suite):
    rows = []
    for scenario in SUITES[name]:
        runs = suite.runs[scenario.name]
        row = result_row([run.results for run in runs])
        del row["Train accuracy"]
        seconds = statistics.mean(run.seconds for run in runs)
        rows.append({"Scenario": scenario.name, **row, "Seconds": f"{seconds:.1f}"})
    table = markdown_table(list(rows[0]), [row.values() for row in rows])
    return f"<details><summary>Every scenario</summary>\n\n{table}\n</details>\n"


def _pictures(name, suite, page):
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for picture, (draw, chosen) in PICTURES[name].items():
        runs = [
            suite.runs[scenario.name]
            for scenario in SUITES[name]
            if (chosen in scenario.name if isinstance(chosen, str) else scenario.name in chosen)
        ]
        every_seed = FIGURES[draw.__name__].all_seeds
        figure = draw(
            [run for of_one in runs for run in (of_one if every_seed else _median(of_one))]
        )
        path = folder / f"{name}-{picture}.png"
        path.write_bytes(png(figure))
        caption = inspect.getdoc(draw).partition("\n")[0]
        yield f"*{caption}*\n\n![{name}: {picture}]({folder.name}/{path.name})\n"


def _median(runs):
    """The run whose test accuracy is in the middle."""
    return [sorted(runs, key=lambda run: run.results["test_accuracy"])[len(runs) // 2]]


def smoke(folder: Path) -> None:
    """One small run stands for those of all scenarios."""
    small = Scenario(
        dataset="circles",
        num_layers=5,
        hidden_size=5,
        iterations=500,
        log_every=25,
        measures="full",
    )
    run = train(small, folder)
    for name in INTRODUCTIONS:
        for scenario in SUITES[name]:
            copy = folder / name / scenario.name
            shutil.copytree(run.folder, copy)
            settings = {**run.settings, "name": scenario.name}
            dataclasses.replace(run, folder=copy, settings=settings).save()
    main(folder, folder / "page.md")


if __name__ == "__main__":
    run(main, __doc__, "folder", "page", smoke=smoke)
