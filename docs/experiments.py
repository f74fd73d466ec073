"""Write docs/experiments.md: what the tutorials and papers claim, and what came out here.

    make experiments
    .venv/bin/python docs/experiments.py .experiments docs/experiments.md

reads the runs in FOLDER/SUITE/, as `make experiments` trains them, and draws the figures
beside the page. Suites that are not there are left out.
"""

import argparse
from pathlib import Path

from claims import CLAIMS, Finding, Suite

from mnist_vg import SUITES, figures
from mnist_vg.report import result_row
from mnist_vg.runs import find_runs

INTRODUCTIONS = {
    "circles": "Two circles of points, the inner one half as wide, told apart by networks of a few "
    "units a layer; 100 epochs of batches of 32, accuracy on the training points.",
    "circles_uniform": "Two circles that are close to each other, 500 points to train and 500 to "
    "test; five layers of five units whose kernels start between 0 and 1; 500 epochs.",
    "initializers": "MNIST with ten hidden layers of 64, 1,000 updates of batches of 64. The "
    "tutorial has no network and no numbers; these settings are this project's.",
    "remedies": "The seven-layer MNIST network with sigmoid, the same with each cure that the "
    "tutorial lists, and all of them with 20 and with 50 layers; 2,500 updates.",
    "depth": "MNIST with layers of ten units, 3 to 50 of them, 500 updates.",
    "glorot2010": "Five hidden layers of 1,000 units at initialization, on scikit-learn's digits, "
    "one batch of 100.",
}

PICTURES = {
    "circles": {
        "decisions": (figures.decisions, "circles-"),
        "profile": (figures.gradient_profile, "circles-"),
        "weights": (figures.weights_by_epoch, ("circles-sigmoid", "circles-tanh", "circles-relu")),
        "gradients": (
            figures.gradients_by_epoch,
            ("circles-sigmoid", "circles-tanh", "circles-relu"),
        ),
        "activations": (figures.activations, ("circles-sigmoid", "circles-tanh", "circles-relu")),
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
    "depth": {"profile": (figures.gradient_profile, "depth-")},
    "glorot2010": {},
}
"""The figures of each suite: their function, and the scenarios, by name or by a part of it."""

WORDS = {True: "holds", False: "does not hold", None: "see there"}


def main(folder: Path, page: Path) -> None:
    """Write the page and its pictures."""
    suites = {name: find_runs(folder / name) for name in SUITES if (folder / name).is_dir()}
    sections = [_introduction(suites)]
    for name, runs in suites.items():
        finished = [run for run in runs if run.status == "finished"]
        sections.append(_section(name, Suite.of(finished), page))
    page.write_text("\n".join(sections))


def _introduction(suites):
    runs = [run for of_suite in suites.values() for run in of_suite]
    seeds = max(run.settings["seed"] for run in runs) + 1
    return f"""# What the tutorials claim, and what came out here

`make experiments` trains every suite and writes this page: {len(runs)} runs of
{len({run.recipe for run in runs})} scenarios under {seeds} seeds each. Numbers of ours are medians
over the seeds, with the least and the largest. A published number *holds* where it is among
ours, at the digits that it was published with. It was one run's, which nobody can repeat: the
listings no longer run. Nothing was tuned until it fits. The rules behind the words stand in
`docs/claims.py`, the scenarios in `mnist_vg/suites.py` (`mnist-vg list`).
"""


def _section(name, suite, page):
    claims = [claim for claim in CLAIMS if claim.suite == name]
    rows, remarks = [], []
    for claim in claims:
        finding: Finding = claim.measure(suite)
        mark = ""
        if finding.why and not finding.holds:
            remarks.append(f"{len(remarks) + 1}. {finding.why}")
            mark = f" ({len(remarks)})"
        cells = [claim.text, claim.source, claim.published, finding.ours]
        rows.append([*cells, WORDS[finding.holds] + mark])
    parts = [f"## {name}\n", INTRODUCTIONS[name] + "\n"]
    parts.append(_table(["Claim", "Source", "Published", "Ours", "It"], rows))
    parts.extend(remarks)
    parts.append("")
    parts.append(_results(suite))
    parts.extend(_pictures(name, suite, page))
    return "\n".join(parts)


def _results(suite):
    rows = []
    for scenario, runs in suite.runs.items():
        row = result_row([run.results for run in runs])
        seconds = sum(run.seconds for run in runs) / len(runs)
        rows.append([scenario, *row.values(), f"{seconds:.1f}"])
    headings = ["Scenario", *result_row([next(iter(suite.runs.values()))[0].results]), "Seconds"]
    return (
        "<details><summary>Every scenario</summary>\n\n" + _table(headings, rows) + "\n</details>\n"
    )


def _pictures(name, suite, page):
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for picture, (draw, chosen) in PICTURES[name].items():
        runs = [
            runs
            for scenario, runs in suite.runs.items()
            if (chosen in scenario if isinstance(chosen, str) else scenario in chosen)
        ]
        every_seed = draw is figures.learning
        figure = draw([run for of_one in runs for run in (of_one if every_seed else of_one[:1])])
        path = folder / f"{name}-{picture}.png"
        path.write_bytes(figures.png(figure))
        yield f"![{name}: {picture}]({folder.name}/{path.name})\n"


def _table(headings, rows):
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.page)
