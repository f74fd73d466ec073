"""What the benchmarks share: their first lines, ways run in turn, and how figures are printed.

Other programs use the machine too, and slow whatever happens to run at the moment.
So nothing here is measured alone: ways take turns, and only ratios within a round
are worth comparing.
"""

import functools
import inspect
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import click
import joblib

Figure = TypeVar("Figure")


def run(main: Callable[..., None], description: str, *, takes: str, smoke: dict[str, Any]) -> None:
    """Call `main` from the command line; each whole number among its defaults is an option.

    Args:
        main: measures and prints; its parameters are sizes.
        description: of what is measured; its first line is said before it starts.
        takes: about how long that takes with the defaults, on two cores; said with it.
        smoke: the arguments of `main` with `--smoke`.
    """
    title = description.partition("\n")[0]
    options = [
        click.Option([f"--{size.name}"], default=size.default, show_default=True)
        for size in inspect.signature(main).parameters.values()
        if type(size.default) is int
    ]
    command = click.Command(None, callback=main, params=options, help=f"{title} About {takes}.")
    opening(functools.partial(main, **smoke))(command)()


def opening(smoke: Callable[[], None]) -> Callable:
    """How the command of a benchmark opens: it says what it does, and what it runs on.

    Then, with `--smoke`, it calls `smoke` and nothing else.
    """

    def call(context, parameter, given):
        title = context.command.help.partition("\n")[0]
        click.echo(f"== {sys.argv[0]}: {title}")
        click.echo(f"{machine()}\n")
        if given:
            smoke()
            context.exit()

    return click.option(
        "--smoke",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=call,
        help="Go the whole way at the smallest size, only to see that it runs.",
    )


def machine() -> str:
    """What figures are from: CPU, cores, versions, and the load before, of 1, 5 and 15 minutes."""
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpus.read_text()) if cpus.exists() else None
    packages = ("TensorFlow", "Keras")
    facts = [
        named[1] if named else platform.processor() or platform.machine(),
        f"{joblib.cpu_count()} cores",
        f"Python {platform.python_version()}",
        *(f"{package} {metadata.version(package.lower())}" for package in packages),
        "load before " + " ".join(f"{load:.1f}" for load in os.getloadavg()),
    ]
    return ", ".join(facts)


def in_turn(ways: dict[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Call every way once a round: A B C, A B C and so on.

    Args:
        ways: what is measured, by name; each returns its figure.
        rounds: how often.

    Returns:
        The figures of each way, one a round.
    """
    figures = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way())
    return figures


def ratios(figures: list[float], others: list[float]) -> list[float]:
    """The first over the second, round by round."""
    return [figure / other for figure, other in zip(figures, others, strict=True)]


def spread(figures: list[float], spec: str = ",.0f") -> str:
    """`median (min–max)`, each number formatted by `spec`."""
    return f"{median(figures):{spec}} ({min(figures):{spec}}–{max(figures):{spec}})"
