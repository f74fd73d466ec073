"""Whether anyone's models are judged right: runs of many architectures, diagnosed.

    python benchmarks/anyone.py                  trains all cases and judges them
    python benchmarks/anyone.py convnet vae      these alone
    python benchmarks/anyone.py sick twin        all of these kinds
    python benchmarks/anyone.py --keep FOLDER    keeps their runs in FOLDER
    python benchmarks/anyone.py --judge FOLDER   judges runs that are kept, without training
    python benchmarks/anyone.py --judge FOLDER --recheck    also runs `mnist_vg.check` anew

Besides healthy cases there are public reports of trainings that went wrong, each as it was ("sick")
and put right ("twin"). Of those it counts how often the first words about them name the cause, and
how often those of published linters do, where they are installed (see `_rivals`).

Every case trains under the defaults of `GradientLogger`. What is announced meanwhile is collected,
or found out anew from the records of runs that are kept, so that rules can be changed without
training again. An announcement is withdrawn if its symptom is none at the end.
"""

import functools
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
from _common import opening
from _report_scores import print_reports, recheck
from _rivals import RIVALS, opinions
from click.testing import CliRunner
from diagnosis import announcements

from mnist_vg.cli import cli
from mnist_vg.diagnosis import diagnose
from mnist_vg.diagnosis.measurements import measurements_of
from mnist_vg.errors import nearest
from mnist_vg.runs.run import Run, find_runs

CASE_FILE = "case.json"
"""Beside the runs of a case: what it reached, its seconds of CPU, and announcements by run."""
WORKERS = 2
"""Cases that train at a time."""
CASES_OF_A_PROCESS = 15
EXIT_CODES = {0: "healthy", 1: "sick", 3: "could not judge"}
"""What the exit codes of `mnist-vg diagnose` mean."""


@dataclass(frozen=True)
class Judgement:
    """How a run was judged.

    Attributes:
        name: kind of the case, case and run.
        reached: what the case says that it reached.
        verdict: in words, at the end.
        code: the exit code of `mnist-vg diagnose`.
        announced: the symptoms that were announced while it trained.
        withdrawn: those of them that are no symptoms at the end.
    """

    name: str
    reached: str
    verdict: str
    code: int
    announced: list[str]
    withdrawn: list[str]

    @property
    def row(self) -> str:
        """A row of the table."""
        cells = (
            self.name.removesuffix("/run"),
            self.reached or "",
            self.verdict,
            EXIT_CODES.get(self.code, str(self.code)),
            ", ".join(self.announced),
            str(len(self.withdrawn)),
        )
        return f"| {' | '.join(cells)} |"


@functools.cache
def all_cases() -> dict[str, Callable]:
    """Every case by its kind and name, such as "healthy/convnet"."""
    import _sick_runs_kept  # noqa: F401 - fills in REPORTS
    from _healthy_runs import HEALTHY
    from _sick_runs import REPORTS

    cases = {f"healthy/{name}": case for name, case in HEALTHY.items()}
    for state in ("sick", "twin"):
        for name, report in REPORTS.items():
            cases[f"{state}/{name}"] = functools.partial(report, sick=state == "sick")
    return cases


def train_one(name: str, folder: Path, options: dict) -> str:
    """Train a case into its folder; the line that says so."""
    from _runs_log import train

    about = train(all_cases()[name], folder / name, **options)
    (folder / name / CASE_FILE).write_text(json.dumps(about, indent=1))
    return f"{name}: {about['reached']}; {about['seconds']} s of CPU"


def train_all(names: Iterable[str], folder: Path, **options) -> None:
    """Train cases, or all of a kind, into `folder/KIND/CASE`; default: all."""
    names = set(names)
    known = {name for case in all_cases() for name in (case, *case.split("/"))}
    if unknown := sorted(names - known):
        raise click.UsageError(f"case: {unknown[0]!r} is none; {nearest(unknown[0], known)}")
    chosen = [case for case in all_cases() if not names or names & {case, *case.split("/")}]
    # TensorFlow keeps what it has traced, so a process trains a few cases only. With
    # `max_tasks_per_child`, Python 3.11 may wait forever for processes that have ended.
    spawn = multiprocessing.get_context("spawn")
    for start in range(0, len(chosen), WORKERS * CASES_OF_A_PROCESS):
        some = chosen[start : start + WORKERS * CASES_OF_A_PROCESS]
        with ProcessPoolExecutor(WORKERS, spawn) as pool:
            jobs = {case: pool.submit(train_one, case, folder, options) for case in some}
            for case, job in jobs.items():
                error = job.exception()
                click.echo(f"{case}: left out: {error!r}" if error else job.result(), err=True)


def judge(run: Run, folder: Path, replay: bool) -> Judgement:
    """Judge a run of a case.

    Args:
        run: the run.
        folder: that `train_all` trained into.
        replay: whether to find out from the records what would be announced by the rules as they
            are now, instead of reading what was announced.
    """
    case = json.loads((run.folder.parent / CASE_FILE).read_text())
    diagnosis = diagnose(run)
    found = {evidence.symptom for evidence in diagnosis.evidence}
    announced = [symptom for _, symptom in case["announced"].get(run.folder.name, [])]
    if replay:
        announced = list(announcements(measurements_of(run.history)))
    return Judgement(
        run.folder.relative_to(folder).as_posix(),
        case["reached"],
        diagnosis.verdict,
        exit_code(run),
        announced,
        [symptom for symptom in announced if symptom not in found],
    )


def exit_code(run: Run) -> int:
    """That of `mnist-vg diagnose`."""
    arguments = "diagnose", str(run.folder.parent), run.folder.name
    return CliRunner().invoke(cli, arguments).exit_code


def judge_all(folder: Path, replay: bool) -> None:
    """Judge the runs in a folder, and print."""
    runs = [run for run in find_runs(folder) if (run.folder.parent / CASE_FILE).exists()]
    judgements = [judge(run, folder, replay) for run in runs]
    print("| Run | Reached | Verdict | Exit code | Announced | Withdrawn |")
    print("|---|---|---|---|---|---|")
    for judgement in judgements:
        print(judgement.row)
    for kind in sorted({judgement.name.partition("/")[0] for judgement in judgements}):
        print_totals(kind, [j for j in judgements if j.name.startswith(f"{kind}/")])
    print_rivals([run for run in runs if run.folder.parents[1].name == "healthy"])
    codes = {folder / judgement.name: judgement.code for judgement in judgements}
    print_reports(folder, lambda run: codes[run.folder])


def print_rivals(runs: list[Run]) -> None:
    """Print how many healthy runs each rival calls sick."""
    for name in RIVALS if runs else ():
        sick = sum(opinions(run)[name].sick for run in runs)
        print(f"healthy, {name}: {sick} of {len(runs)} runs called sick")


def print_totals(kind: str, judgements: list[Judgement]) -> None:
    """Print the totals of one kind."""
    runs = len(judgements)
    sick = sum(judgement.code == 1 for judgement in judgements)
    unknown = sum(judgement.code == 3 for judgement in judgements)
    announced = sum(len(judgement.announced) for judgement in judgements)
    withdrawn = sum(len(judgement.withdrawn) for judgement in judgements)
    print(
        f"\n{kind}: {sick} of {runs} runs called sick at the end, {unknown} not judged; "
        f"{announced} announcements, {withdrawn} withdrawn ({withdrawn / runs:.1%} of runs)"
    )


def smoke() -> None:
    """Train and judge one case."""
    with tempfile.TemporaryDirectory() as folder:
        for case in ("healthy/logistic_regression", "sick/all_frozen", "twin/all_frozen"):
            train_one(case, Path(folder), {})
        judge_all(Path(folder), replay=False)
        judge_all(Path(folder), replay=True)


@click.command()
@opening(smoke)
@click.argument("cases", nargs=-1)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the runs in this folder")
@click.option(
    "--judge",
    "kept",
    type=click.Path(path_type=Path, exists=True),
    help="Judge the runs that were kept in this folder, and train nothing",
)
@click.option("--recheck", "anew", is_flag=True, help="Run `mnist_vg.check` anew on the reports")
@click.option("--measures", default="default", show_default=True, help="Of `GradientLogger`")
def main(cases, keep, kept, anew, measures):
    """Train CASES (default: all), and judge their runs."""
    if kept:
        if anew:
            recheck(kept)
        judge_all(kept, replay=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        train_all(cases, keep or Path(folder), measures=measures)
        judge_all(keep or Path(folder), replay=False)


if __name__ == "__main__":
    main()
