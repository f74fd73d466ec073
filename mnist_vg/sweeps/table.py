"""A sweep's folder: `sweep.json`, and one Parquet table of what its networks recorded.

    LOGDIR/NAME/sweep.json
    LOGDIR/NAME/records/….parquet    part files, each of some networks

The table has a row a network and record. A part counts once it has its name: it is to be
written under another one, and renamed. pandas and pyarrow are imported when they are needed.
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

    from mnist_vg.runs.folder import SWEEP_FILE
from mnist_vg.runs.paths import RemotePath

RECORDS_FOLDER = "records"
RUNS_FOLDER = "runs"
"""Where a sweep's folder has those of its networks, for TensorBoard."""
RECORD = ("none", "sick", "all")
"""Which networks may have a run folder."""

TEST_ACCURACY = "test_accuracy"
GRADIENT_RATIO = "log10_gradient_ratio"
TAGS = {
    "train_loss": LOSS_TRAIN,
    "train_accuracy": ACCURACY_TRAIN,
    "test_loss": LOSS_TEST,
    TEST_ACCURACY: ACCURACY_TEST,
    GRADIENT_RATIO: GRADIENT_FLOW,
}
"""Columns of one number a record, and the tags that they have in event files."""
SCALARS = (*TAGS, "chance")
"""All columns of one number a record."""

CHUNK = 2**20
"""Rows that are in memory at a time where only the ends of each network are kept."""


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
    """The rows of some networks, network by network.

    Args:
        scenarios: the networks'.
        records: what they have recorded.
        diagnoses: theirs.
        chance: test accuracy of always answering the most frequent label.
    """
    import pyarrow

    times, count = len(records.steps), len(scenarios)
    of_network = np.repeat(np.arange(count), times)

    def column(field):
        name, kind = field.name, field.type
        if name == "step":
            return np.tile(records.steps, count)
        if name == "chance":
            return np.full(times * count, chance)
        if name in TAGS:
            return records.measured[TAGS[name]].T.ravel()
        if name in TABLE_MEASURES:
            table = records.measured.get(name, np.zeros((times, 0, count), np.float32))
            ends = table.shape[1] * np.arange(times * count + 1, dtype=np.int32)
            values = np.ascontiguousarray(table.transpose(2, 0, 1), np.float32).ravel()
            return pyarrow.ListArray.from_arrays(ends, values)
        verdicts = [diagnosis.verdict for diagnosis in diagnoses]
        values = verdicts if name == "verdict" else [getattr(s, name) for s in scenarios]
        return pyarrow.array(values, kind).take(of_network)

    columns = schema()
    return pyarrow.table([column(field) for field in columns], schema=columns)


def write_part(folder: str | os.PathLike, number: int, part: "pyarrow.Table") -> None:
    """Add some networks' rows to a sweep's table, whole or not at all."""
    from pyarrow import parquet

    path = part_path(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    parquet.write_table(part, written)
    write_whole(path, written.getvalue())


def parts_of(folder: str | os.PathLike) -> frozenset[int]:
    """Numbers of the groups whose rows are there."""
    parts = (as_path(folder) / RECORDS_FOLDER).glob("group*.parquet")
    return frozenset(int(part.stem.removeprefix("group")) for part in parts)


def part_path(folder: str | os.PathLike, number: int) -> "Path | RemotePath":
    """Where the rows of a group are."""
    return as_path(folder) / RECORDS_FOLDER / f"group{number:05}.parquet"


def load_sweep(folder: str | os.PathLike) -> dict[str, Any]:
    """What `sweep.json` tells: `base`, the settings of all networks; `axes`, field to values.

    Raises:
        UsageError: it is missing or cannot be read.
    """
    path = as_path(folder) / SWEEP_FILE
    try:
        sweep = json.loads(path.read_text())
        if not isinstance(sweep["axes"], dict) or not isinstance(sweep["base"], dict):
            raise ValueError("it does not tell a sweep")
        return sweep
    except FileNotFoundError:
        raise UsageError(f"sweep: {folder} has no {SWEEP_FILE}; name a sweep's folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"sweep: {path} is damaged ({error}); sweep anew elsewhere") from error


def read_table(folder: str | os.PathLike, columns: list[str] | None = None) -> "pandas.DataFrame":
    """A sweep's table, a row a network and record, or some of its columns.

    Raises:
        UsageError: there is none yet, or it cannot be read.
    """
    return _read(folder, lambda dataset: dataset.to_table(columns).to_pandas())


def read_ends(folder: str | os.PathLike, columns: list[str]) -> "pandas.DataFrame":
    """The first and the last record of each network, with these columns, `name` and `step`.

    However long the table is, no more than `CHUNK` rows beyond the result are in memory.

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
    """The ends of each network, as figures and rankings need them, and the varied fields.

    Raises:
        UsageError: as `load_sweep` and `read_ends`.
    """
    axes = load_sweep(folder)["axes"]
    measured = (TEST_ACCURACY, GRADIENT_RATIO, "chance", "verdict")
    return read_ends(folder, [*axes, "seed", *measured]), axes


def _read(folder, read):
    from pyarrow import ArrowException, dataset, parquet

    # Not the folder itself: a part that is being written has another suffix.
    parts = sorted((as_path(folder) / RECORDS_FOLDER).glob("*.parquet"))
    if not parts:
        raise UsageError(f"sweep: {folder} has no records yet; wait for its first networks")
    try:
        if is_remote(parts[0]):
            whole = [parquet.read_table(io.BytesIO(part.read_bytes())) for part in parts]
            return read(dataset.dataset(whole))
        return read(dataset.dataset(list(map(str, parts)), format="parquet"))
    except (ArrowException, OSError) as error:
        raise UsageError(
            f"sweep: the table in {folder} cannot be read ({first_line(error)})"
        ) from error


def first_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The first record of each network, in any order of rows."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmin()]


def last_records(records: "pandas.DataFrame") -> "pandas.DataFrame":
    """The last record of each network, in any order of rows."""
    return records.loc[records.groupby("name", observed=True)["step"].idxmax()]


def _ends(records):
    steps = records.groupby("name", observed=True, sort=False)["step"].agg(["idxmin", "idxmax"])
    return records.loc[steps.stack().unique()]
