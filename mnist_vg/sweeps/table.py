"""A sweep's folder: `sweep.json`, and a Parquet table of what its networks recorded.

    LOGDIR/NAME/sweep.json
    LOGDIR/NAME/records/group00000.parquet …    a part of the table for each group

The table has one row per network and record. A part is written under a temporary name and then
renamed, so a part with this name is complete. pandas and pyarrow are imported on first use.
"""

import contextlib
import functools
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_vg.diagnosis.diagnosis import Diagnosis, is_verdict
from mnist_vg.errors import UsageError, first_line, nearest
from mnist_vg.runs.folder import remove_run
from mnist_vg.runs.paths import as_path, is_remote, make_folder, write_whole
from mnist_vg.runs.run import SWEEP_FILE
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACCURACY_TRAIN,
    GRADIENT_FLOW,
    LOSS_TEST,
    LOSS_TRAIN,
    TABLE_MEASURES,
)
from mnist_vg.scenarios.scenario import Scenario, setting_fields
from mnist_vg.sweeps.records import Records
from mnist_vg.sweeps.sweep import check_axes

if TYPE_CHECKING:
    from pathlib import Path

    import pandas
    import pyarrow

    from mnist_vg.runs.paths import RemotePath

RECORDS_FOLDER = "records"
RUNS_FOLDER = "runs"
"""The folder inside a sweep's folder that holds its networks' run folders, for TensorBoard."""
RECORD_CHOICES = ("none", "sick", "all")
"""Which networks get a run folder."""

TEST_ACCURACY = "test_accuracy"
GRADIENT_RATIO = "log10_gradient_ratio"
TAGS = {
    "train_loss": LOSS_TRAIN,
    "train_accuracy": ACCURACY_TRAIN,
    "test_loss": LOSS_TEST,
    TEST_ACCURACY: ACCURACY_TEST,
    GRADIENT_RATIO: GRADIENT_FLOW,
}
"""Columns with one number per record, and their tags in event files."""
SCALARS = (*TAGS, "chance")
"""All columns with one number per record."""

CHUNK = 2**20
"""How many rows `read_ends` loads at a time."""


@functools.cache
def schema() -> "pyarrow.Schema":
    """The columns of the table: the settings, `step`, `SCALARS`, `TABLE_MEASURES` and `verdict`."""
    import pyarrow

    word = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    whole = dict.fromkeys((int, int | None), pyarrow.int64())
    kinds = {**whole, bool: pyarrow.bool_(), str: word, str | None: word}
    layers = pyarrow.list_(pyarrow.float32())
    return pyarrow.schema(
        {field.name: kinds.get(field.type, pyarrow.float64()) for field in setting_fields()}
        | {"step": pyarrow.int64()}
        | dict.fromkeys(SCALARS, pyarrow.float64())
        | dict.fromkeys(TABLE_MEASURES, layers)
        | {"verdict": word}
    )


def rows_of(
    scenarios: Sequence[Scenario],
    records: Records,
    diagnoses: Sequence[Diagnosis],
    chance: float,
) -> "pyarrow.Table":
    """The rows of a group of networks, network by network.

    Args:
        scenarios: the networks' scenarios.
        records: what the networks recorded.
        diagnoses: the networks' diagnoses.
        chance: test accuracy of always answering the most frequent label, 0 to 1.
    """
    import pyarrow

    times, count = len(records.steps), len(scenarios)
    network_of_row = np.repeat(np.arange(count), times)

    def column(field):
        name, kind = field.name, field.type
        if name == "step":
            return np.tile(records.steps, count)
        if name == "chance":
            return np.full(times * count, chance)
        if name in TAGS:
            return records.measured[TAGS[name]].T.ravel()
        if name in TABLE_MEASURES:
            measure = records.measured.get(name, np.zeros((times, 0, count), np.float32))
            ends = measure.shape[1] * np.arange(times * count + 1, dtype=np.int32)
            values = np.ascontiguousarray(measure.transpose(2, 0, 1), np.float32).ravel()
            return pyarrow.ListArray.from_arrays(ends, values)
        verdicts = [diagnosis.verdict for diagnosis in diagnoses]
        values = verdicts if name == "verdict" else [getattr(s, name) for s in scenarios]
        return pyarrow.array(values, kind).take(network_of_row)

    columns = schema()
    return pyarrow.table([column(field) for field in columns], schema=columns)


def write_part(folder: str | os.PathLike, number: int, part: "pyarrow.Table") -> None:
    """Add the rows of group `number` to a sweep's table: all of them or, on an error, none.

    Raises:
        OSError: the folder cannot be written.
    """
    from pyarrow import parquet

    path = part_path(folder, number)
    make_folder(path.parent)
    written = io.BytesIO()
    parquet.write_table(part, written, write_page_checksum=True)
    write_whole(path, written.getvalue())


def remove_sweep(folder: str | os.PathLike) -> None:
    """Remove what this package wrote to a sweep's folder, and nothing else."""
    folder = as_path(folder)
    # `sweep.json` last: if this is killed half way, what is left is a sweep with groups to train.
    for path in parts_of(folder).values():
        path.unlink()
    for run in [path for path in (folder / RUNS_FOLDER).glob("*") if path.is_dir()]:
        remove_run(run)
        if not is_remote(run):
            with contextlib.suppress(OSError):  # Something else is in it.
                run.rmdir()
    if not is_remote(folder):
        os.sync()
    (folder / SWEEP_FILE).unlink(missing_ok=True)
    if not is_remote(folder):
        for name in (RECORDS_FOLDER, RUNS_FOLDER):
            with contextlib.suppress(OSError):  # It is not there, or something else is in it.
                (folder / name).rmdir()


def parts_of(folder: str | os.PathLike) -> dict[int, "Path | RemotePath"]:
    """The numbers of the groups that the table has, in order, and the paths of their parts."""
    named = {
        path: re.fullmatch(r"group(\d{5,})\.parquet", path.name)
        for path in (as_path(folder) / RECORDS_FOLDER).glob("group*.parquet")
    }
    return dict(sorted((int(name[1]), path) for path, name in named.items() if name))


def part_path(folder: str | os.PathLike, number: int) -> "Path | RemotePath":
    """The path of a group's part of the table."""
    return as_path(folder) / RECORDS_FOLDER / f"group{number:05}.parquet"


def load_sweep(folder: str | os.PathLike) -> dict[str, Any]:
    """Read `sweep.json`.

    Returns:
        Its content. `base` has the settings that are not varied, `axes` the varied fields and
        their values.

    Raises:
        UsageError: the file is missing or damaged.
    """
    path = as_path(folder) / SWEEP_FILE
    try:
        sweep = json.loads(path.read_text())
        if not isinstance(sweep["axes"], dict) or not isinstance(sweep["base"], dict):
            raise ValueError("axes and base must be objects")
        check_axes(sweep["axes"])
        return sweep
    except FileNotFoundError:
        raise UsageError(
            f"sweep: {folder} has no {SWEEP_FILE}; give the folder of a sweep"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"sweep: {path} is damaged ({error}); train the sweep again under another name"
        ) from error


def read_table(folder: str | os.PathLike, columns: list[str] | None = None) -> "pandas.DataFrame":
    """Read a sweep's table, or some of its columns: one row per network and record.

    Raises:
        UsageError: the table has no rows yet or no such column, or a part cannot be read or is
            not as `schema` has it.
    """
    import pyarrow

    columns = schema().names if columns is None else columns
    return pyarrow.concat_tables(_parts(folder, columns)).select(columns).to_pandas()


def read_ends(
    folder: str | os.PathLike, columns: list[str], axes: Mapping[str, Sequence] | None = None
) -> "pandas.DataFrame":
    """Read the first and the last record of each network.

    Loads about `CHUNK` rows at a time, so that a long table needs little memory.

    Args:
        folder: the sweep's folder.
        columns: the columns to read, besides `name` and `step`.
        axes: fields and their values, as in `sweep.json`; no network may have others.

    Raises:
        UsageError: as `read_table`.
    """
    import pandas
    import pyarrow

    def ends_of(parts):
        return _ends(pyarrow.concat_tables(parts).to_pandas())

    ends, waiting = [], []
    for part in _parts(folder, columns, axes):
        waiting.append(part)
        if sum(map(len, waiting)) >= CHUNK:
            ends.append(ends_of(waiting))
            waiting = []
    ends += [ends_of(waiting)] if waiting else []
    return pandas.concat(ends, ignore_index=True)


def read_sweep(folder: str | os.PathLike) -> tuple["pandas.DataFrame", dict[str, list]]:
    """Read what figures and rankings need.

    Returns:
        The first and the last record of each network, and the varied fields with their values.

    Raises:
        UsageError: as `load_sweep` and `read_ends`.
    """
    axes = load_sweep(folder)["axes"]
    measured = (TEST_ACCURACY, GRADIENT_RATIO, "chance", "verdict")
    return read_ends(folder, [*axes, "seed", *measured], axes), axes


def _parts(
    folder: str | os.PathLike, columns: Sequence[str], axes: Mapping[str, Sequence] | None = None
) -> Iterator["pyarrow.Table"]:
    """Some columns of the table, with `name` and `step`, part by part. All that is read is checked.

    Raises:
        UsageError: as `read_table`.
    """
    from pyarrow import ArrowException

    allowed = schema()
    for name in columns:
        if name not in allowed.names:
            raise UsageError(
                f"columns: {name!r} is not in a sweep's table; {nearest(name, allowed.names)}"
            )
    paths = parts_of(folder).values()
    if not paths:
        raise UsageError(f"sweep: {folder} has no records yet; wait for its first group")
    part_of: dict[str, str] = {}
    for path in paths:
        try:
            part = _read_part(path, list(dict.fromkeys(["name", "step", *columns])))
            _check_values(part, axes or {})
            for network in part["name"].unique().to_pylist():
                if network in part_of:
                    raise ValueError(f"network {network} is in {part_of[network]}, too")
                part_of[network] = path.name
        except (ArrowException, OSError, ValueError) as error:
            raise UsageError(
                f"sweep: {path} is damaged or not a part of this table ({first_line(error)}); "
                "remove the file, and run the same command to train its group again"
            ) from error
        yield part


def _read_part(path, columns):
    """Read columns of a part that has each of them once, with the type that `schema` tells."""
    from pyarrow import parquet

    source = io.BytesIO(path.read_bytes()) if is_remote(path) else path
    with parquet.ParquetFile(source, page_checksum_verification=True) as file:
        part = file.read(columns)
    for name in columns:
        wanted = schema().field(name).type
        found = [field.type for field in part.schema if field.name == name]
        if found != [wanted]:
            kinds = " and ".join(map(str, found)) or "missing"
            raise ValueError(f"column {name} is {kinds}, not {wanted}")
    part.validate(full=True)
    return part


def _check_values(part, axes):
    """Check what types do not say: nulls, one row per network and step, words and settings."""
    from pyarrow import compute, types

    optional = {field.name for field in setting_fields() if "None" in str(field.type)}
    for name in part.column_names:
        column = part[name]
        inside = compute.list_flatten(column).null_count if types.is_list(column.type) else 0
        if name not in optional and (column.null_count or inside):
            raise ValueError(f"column {name} has nulls")
    networks, steps = (part[name].unique() for name in ("name", "step"))
    rows = part.group_by(["name", "step"]).aggregate([])
    if not len(part) == len(rows) == len(networks) * len(steps) > 0:
        raise ValueError("it must have one row for each of its networks and each of their steps")
    for field, values in axes.items():
        for value in part[field].unique().to_pylist():
            if value not in values:
                raise ValueError(f"column {field} has {value!r}, which {SWEEP_FILE} does not vary")
    for verdict in part["verdict"].unique().to_pylist() if "verdict" in part.column_names else ():
        if not is_verdict(verdict):
            raise ValueError(f"column verdict has {verdict!r}, which is no diagnosis")


def first_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The first record of each network. Rows may be in any order."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmin()]


def last_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The last record of each network. Rows may be in any order."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmax()]


def _ends(records):
    steps = records.groupby("name", observed=True, sort=False)["step"].agg(["idxmin", "idxmax"])
    return records.loc[steps.stack().unique()]
