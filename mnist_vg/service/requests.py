"""What a service can be asked for: each kind of request, checked, and as a command line."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_vg.cure import check_cure, find_sick
from mnist_vg.errors import UsageError, nearest
from mnist_vg.runs.folder import check_folder
from mnist_vg.runs.run import CURE_FOLDER
from mnist_vg.scenarios.scenario import Scenario, file_name, setting_fields
from mnist_vg.scenarios.size import check_depth, check_memory
from mnist_vg.service.limits import Limits
from mnist_vg.sweeps.sweep import Sweep, parse_axes
from mnist_vg.sweeps.sweeper import check_sweep_folder

MOST_TEXT = 2000
"""Characters of a text in a request: the queue keeps it."""


class Checked(NamedTuple):
    """A request that can be trained.

    Attributes:
        request: as the queue keeps it; see `queue.Job`.
        name: of the folder in the log folder that gets the run, or the runs.
        networks: how many are trained; of a cure, those of the sick scenario, before the remedies.
    """

    request: dict[str, Any]
    name: str
    networks: int


def checked(asked: Mapping[str, Any], logdir: Path, limits: Limits) -> Checked:
    """Check a request.

    Args:
        asked: `kind` is "train", "cure" or "sweep". "train" takes `settings` of a scenario.
            "sweep" also takes `vary`, texts such as `num_layers=2:20:3`, and a number of `seeds`.
            "cure" takes the name of a `run` in the log folder, or of a named scenario, and `seeds`.
        logdir: the log folder.
        limits: how much the service takes on.

    Raises:
        UsageError: as the command line has it: a setting is not allowed, or the folder holds
            something else; or the service does not take so much.
    """
    kind = asked.get("kind", "train")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UsageError(f"kind: {kind!r} must be {', '.join(_KINDS)}")
    return _KINDS[kind](asked, logdir, limits)


def _train(asked, logdir, limits):
    scenario = _scenario(asked)
    _check_size(scenario, limits)
    check_folder(logdir / scenario.name, scenario)
    return Checked({"kind": "train", "settings": scenario.settings()}, scenario.name, 1)


def _cure(asked, logdir, limits):
    run, seeds = _run_name(_given("run", asked, str, "")), asked.get("seeds", 3)
    scenario = find_sick(run, str(logdir))
    _check_size(scenario, limits)
    check_cure(scenario, seeds)
    limits.check_number("seeds", seeds)
    request = {"kind": "cure", "settings": scenario.settings(), "run": run, "seeds": seeds}
    return Checked(request, f"{CURE_FOLDER}/{scenario.name}", seeds)


def _sweep(asked, logdir, limits):
    scenario, vary = _scenario(asked), _given("vary", asked, list, [])
    if not vary or not all(isinstance(text, str) for text in vary):
        raise UsageError("vary: it must be a list of texts, such as num_layers=2:20:3")
    for text in vary:
        _check_length("vary", text)
    vary = [" ".join(text.split()) for text in vary]
    seeds, axes = asked.get("seeds", 1), parse_axes(vary)
    if isinstance(seeds, int):
        limits.check_number("networks", seeds)  # A product of it may have too many digits to print.
        limits.check_number("networks", math.prod(map(len, axes.values())) * seeds)
    request = {"kind": "sweep", "settings": scenario.settings(), "vary": vary, "seeds": seeds}
    sweep = sweep_of(request)
    for network in sweep.scenarios:
        _check_size(network, limits)
    check_sweep_folder(logdir / sweep.name, sweep.facts())
    return Checked(request, sweep.name, len(sweep.scenarios))


def sweep_of(request: Mapping[str, Any]) -> Sweep:
    """The sweep that a request asks for."""
    base = Scenario(**request["settings"])
    return Sweep(base.name, base, parse_axes(request["vary"]), request["seeds"])


_KINDS = {"train": _train, "cure": _cure, "sweep": _sweep}


def _scenario(asked):
    settings = _given("settings", asked, dict, {})
    names = {field.name for field in setting_fields()}
    unknown = settings.keys() - names
    if unknown:
        name = min(unknown)
        raise UsageError(f"{name}: there is no such setting; {nearest(name, names)}")
    for name, value in settings.items():
        if isinstance(value, str):
            _check_length(name, value)
    return Scenario(**settings)


def _check_length(name, text):
    if len(text) > MOST_TEXT:
        raise UsageError(f"{name}: it has {len(text):,} characters; give at most {MOST_TEXT:,}")


def _check_size(scenario, limits):
    limits.check(scenario)
    check_depth(scenario)
    check_memory(scenario)


def _run_name(name):
    """A run's name, which is a path in the log folder, and leads nowhere else."""
    try:
        for part in name.split("/"):
            file_name(part)
    except ValueError as error:
        raise UsageError(f"run: {name!r} {error}") from None
    return name


def _given(name, asked, kind, default):
    given = asked.get(name, default)
    if not isinstance(given, kind):
        kinds = {dict: "an object", str: "text", list: "a list"}
        raise UsageError(f"{name}: it must be {kinds[kind]}")
    return given


def command_of(request: Mapping[str, Any], logdir: Path, data_dir: str | None) -> str:
    """The command line that does the same as a request, in any folder."""
    kind, settings = request["kind"], request["settings"]
    where = ["--logdir", str(logdir.absolute())]
    where += ["--data-dir", str(Path(data_dir).absolute())] if data_dir else []
    seeds = ["--seeds", str(request["seeds"])] if "seeds" in request else []
    if kind == "cure":
        words = [request["run"], *seeds]
    elif kind == "sweep":
        vary = [word for text in request["vary"] for word in ("--vary", text)]
        without = ("name", "measures", *(text.partition("=")[0] for text in request["vary"]))
        words = [settings["name"], *vary, *seeds, *_options(settings, without)]
    else:
        words = _options(settings)
    return shlex.join(["mnist-vg", kind, *words, *where])


def _options(settings, without=()):
    usual = Scenario(activation=settings["activation"]).settings()
    options = []
    for key, value in settings.items():
        if key not in without and (value != usual[key] or key == "activation"):
            option = f"--{key.replace('_', '-')}"
            given = [option, str(value)]
            if isinstance(value, bool):
                given = [option if value else option.replace("--", "--no-", 1)]
            options += given
    return options
