"""A sweep's folder: `sweep.json`, and a Parquet table of what its networks recorded.

    LOGDIR/NAME/sweep.json
    LOGDIR/NAME/records/group00000.parquet …    a part of the table for each group

The table has one row per network and record. A part is written under a temporary name and then
renamed, so a part with this name is complete. pandas and pyarrow are imported on first use.
"""

import io
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_vg.diagnosis.diagnosis import Diagnosis
from mnist_vg.errors import UsageError, first_line
from mnist_vg.runs.folder import SWEEP_FILE
from mnist_vg.runs.paths import as_path, is_remote, write_whole
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
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    parquet.write_table(part, written)
    write_whole(path, written.getvalue())


def parts_of(folder: str | os.PathLike) -> frozenset[int]:
    """The numbers of the groups that the table has."""
    parts = (as_path(folder) / RECORDS_FOLDER).glob("group*.parquet")
    return frozenset(int(part.stem.removeprefix("group")) for part in parts)


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
        UsageError: the table has no rows yet, or cannot be read.
    """
    return _read(folder, lambda dataset: dataset.to_table(columns).to_pandas())


def read_ends(folder: str | os.PathLike, columns: list[str]) -> "pandas.DataFrame":
    """Read the first and the last record of each network.

    Loads about `CHUNK` rows at a time, so that a long table needs little memory.

    Args:
        folder: the sweep's folder.
        columns: the columns to read, besides `name` and `step`.

    Raises:
        UsageError: as `read_table`.
    """
    import pandas
    import pyarrow

    columns = list(dict.fromkeys(["name", "step", *columns]))

    def read(dataset):
        ends, batches, rows = [], [], 0
        for batch in dataset.to_batches(columns=columns):
            batches.append(batch)
            rows += len(batch)
            if rows >= CHUNK:
                ends.append(_ends(pyarrow.Table.from_batches(batches).to_pandas()))
                batches, rows = [], 0
        rest = pyarrow.Table.from_batches(
            batches, dataset.schema.empty_table().select(columns).schema
        )
        ends.append(_ends(rest.to_pandas()))
        return _ends(pandas.concat(ends, ignore_index=True))

    return _read(folder, read)


def read_sweep(folder: str | os.PathLike) -> tuple["pandas.DataFrame", dict[str, list]]:
    """Read what figures and rankings need.

    Returns:
        The first and the last record of each network, and the varied fields with their values.

    Raises:
        UsageError: as `load_sweep` and `read_ends`.
    """
    axes = load_sweep(folder)["axes"]
    measured = (TEST_ACCURACY, GRADIENT_RATIO, "chance", "verdict")
    return read_ends(folder, [*axes, "seed", *measured]), axes


def _read(folder, read):
    from pyarrow import ArrowException, dataset, parquet

    # Lists the files, because a part that is being written has another suffix.
    parts = sorted((as_path(folder) / RECORDS_FOLDER).glob("*.parquet"))
    if not parts:
        raise UsageError(f"sweep: {folder} has no records yet; wait for its first group")
    try:
        if is_remote(parts[0]):
            tables = [parquet.read_table(io.BytesIO(part.read_bytes())) for part in parts]
            return read(dataset.dataset(tables))
        return read(dataset.dataset(list(map(str, parts)), format="parquet"))
    except (ArrowException, OSError) as error:
        raise UsageError(
            f"sweep: the table in {folder} cannot be read ({first_line(error)}); remove damaged "
            "files, and run the same command to train their groups again"
        ) from error


def first_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The first record of each network. Rows may be in any order."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmin()]


def last_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The last record of each network. Rows may be in any order."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmax()]


def _ends(records):
    steps = records.groupby("name", observed=True, sort=False)["step"].agg(["idxmin", "idxmax"])
    return records.loc[steps.stack().unique()]
