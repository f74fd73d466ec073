"""A sweep's figures, for tables with known numbers."""

import itertools
import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pyarrow
import pytest
from conftest import of_scenarios
from matplotlib.colors import to_rgb
from pyarrow import parquet

from mnist_vg import Scenario, UsageError
from mnist_vg.diagnosis.diagnosis import HEALTHY, NOT_LEARNED, first_cause
from mnist_vg.diagnosis.symptoms import SYMPTOMS
from mnist_vg.figures.drawings import png
from mnist_vg.figures.style import SMALL
from mnist_vg.sweeps import heatmaps, table
from mnist_vg.sweeps.axes import RATIO_LIMIT, Axis

SPREADS = [f"random_normal(stddev={spread})" for spread in (0.4, 0.05, 0.1)]
AXES = {"num_layers": [6, 2], "kernel_initializer": SPREADS, "activation": ["tanh", "relu"]}
SEEDS = 3
SCHEMA = table.schema()


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def sweep(axes, seeds=SEEDS, records=3, seed=0):
    """A sweep's table with random results for each combination, its rows in random order."""
    random = np.random.default_rng(seed)
    rows = []
    for number, values in enumerate(itertools.product(*axes.values(), range(seeds))):
        given = dict(zip([*axes, "seed"], values, strict=True))
        verdict = ["healthy", "dead units, stuck at chance", "not learned, no known symptom"]
        facts = {"name": f"n{number}", **given, "chance": 0.1, "verdict": random.choice(verdict)}
        for step in range(records):
            measured = {
                "test_accuracy": random.random(),
                "log10_gradient_ratio": random.normal(0, 5),
            }
            rows.append({**facts, "step": 100 * step, **measured})
    return pandas.DataFrame(rows).sample(frac=1, random_state=seed)


@pytest.fixture(scope="module")
def records():
    return sweep(AXES)


def pictures(figure):
    """What the panels show, `[panels, rows, columns]`; hidden cells are NaN."""
    axes = [axis for axis in figure.axes if axis.images]
    return np.array([np.ma.filled(axis.images[-1].get_array(), np.nan) for axis in axes])


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def median_by_hand(records, step, column, conditions, clip=np.inf):
    for field, value in conditions.items():
        records = records[records[field] == value]
    return np.median(records[records.step == step][column].clip(-clip, clip))


@pytest.mark.parametrize(
    ("name", "step", "column", "clip"),
    [
        ("test_accuracy", 200, "test_accuracy", np.inf),
        ("first_gradient_ratio", 0, "log10_gradient_ratio", RATIO_LIMIT),
        ("last_gradient_ratio", 200, "log10_gradient_ratio", RATIO_LIMIT),
    ],
)
def test_cells_are_medians_over_seeds_on_sorted_axes(records, name, step, column, clip):
    figure = heatmaps.draw(records, AXES)[name]
    shown = pictures(figure)
    assert shown.shape == (2, 3, 2)
    sorted_spreads = [SPREADS[1], SPREADS[2], SPREADS[0]]
    for (p, activation), (r, spread), (c, layers) in itertools.product(
        enumerate(["tanh", "relu"]), enumerate(sorted_spreads), enumerate([2, 6])
    ):
        conditions = dict(activation=activation, kernel_initializer=spread, num_layers=layers)
        expected = median_by_hand(records, step, column, conditions, clip)
        np.testing.assert_allclose(shown[p, r, c], expected)
    axes = figure.axes[:2]
    assert [axis.get_title() for axis in axes] == ["activation tanh", "activation relu"]
    assert ticks(axes[0].xaxis) == ["2", "6"]
    assert ticks(axes[0].yaxis) == ["0.05", "0.1", "0.4"]
    assert figure.get_supylabel() == "kernel_initializer random_normal stddev"
    assert figure.get_supxlabel() == "num_layers\nmedian over 3 seeds"


def test_a_field_with_too_many_values_for_panels_is_part_of_the_median(records):
    axes = dict(list(AXES.items())[:2]) | {"hidden_size": list(range(13)), "activation": ["tanh"]}
    records = pandas.concat(
        records.assign(hidden_size=n, name=records.name + f"-{n}", test_accuracy=n / 13)
        for n in range(13)
    )
    figure = heatmaps.draw(records, axes)["test_accuracy"]
    np.testing.assert_allclose(pictures(figure), 6 / 13)
    assert figure.axes[0].get_title() == "activation tanh"
    assert figure.get_supxlabel().endswith("median over 3 seeds and hidden_size")


def test_fields_are_drawn_where_they_were_asked_for(records):
    chosen = {"x": "activation", "y": "num_layers", "by": "kernel_initializer"}
    default = pictures(heatmaps.draw(records, AXES)["test_accuracy"])
    shown = pictures(heatmaps.draw(records, AXES, **chosen)["test_accuracy"])
    # By default panels, rows and columns are activation, spread and layers.
    np.testing.assert_array_equal(shown, default.transpose(1, 2, 0))
    part = heatmaps.draw(records, AXES, y="activation")["test_accuracy"]
    np.testing.assert_array_equal(pictures(part), default.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"x": "optimizer"}, ["x: optimizer was not varied", *AXES]),
        ({"by": "seed"}, ["by: seed was not varied", *AXES]),
        ({"x": "activation", "by": "activation"}, ["twice"]),
    ],
)
def test_a_wrong_choice_of_fields_is_refused_in_one_line(records, chosen, words):
    with pytest.raises(UsageError) as caught:
        heatmaps.draw(records, AXES, **chosen)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_nothing_varied_and_too_many_panels_are_refused(records):
    with pytest.raises(UsageError, match="no field was varied"):
        heatmaps.draw(records, {})
    with pytest.raises(UsageError, match="batch_size has 13 values"):
        heatmaps.draw(records, AXES | {"batch_size": list(range(13))}, by="batch_size")


def test_both_ratio_figures_share_a_scale_around_zero_and_mention_clipping(records):
    records = records.assign(log10_gradient_ratio=np.where(records.step == 0, -2.5, 1.0))
    first, last = (heatmaps.draw(records, AXES)[f"{n}_gradient_ratio"] for n in ("first", "last"))
    for figure, value in ((first, -2.5), (last, 1)):
        assert figure.axes[0].images[-1].get_clim() == (-3, 3)
        assert (pictures(figure) == value).all()
        assert "clipped" not in figure.axes[-1].get_ylabel()
    ratio = records.log10_gradient_ratio.mask(records.step == 0, -np.inf)
    lost = heatmaps.draw(records.assign(log10_gradient_ratio=ratio), AXES)
    first, last = (lost[f"{which}_gradient_ratio"] for which in ("first", "last"))
    assert (pictures(first) == -RATIO_LIMIT).all()
    assert f"clipped at ±{RATIO_LIMIT}" in first.axes[-1].get_ylabel()
    assert "clipped" not in last.axes[-1].get_ylabel()
    png(first)


def test_cells_without_a_number_are_marked_and_explained(records):
    on = records.activation == "relu"
    many = on & (records.num_layers == 2) & (records.seed < 2)
    few = on & (records.num_layers == 6) & (records.seed < 1)
    untrained = (records.activation == "tanh") & (records.kernel_initializer == SPREADS[1])
    accuracy = records.test_accuracy.mask(many | few)
    figure = heatmaps.draw(records.assign(test_accuracy=accuracy)[~untrained], AXES)
    shown = pictures(figure["test_accuracy"])
    assert np.isnan(shown[1, :, 0]).all()
    assert np.isfinite(shown[1, :, 1]).all()
    assert np.isnan(shown[0, 0]).all()
    assert legend_of(figure["test_accuracy"]) == ["not finite", "not trained yet"]
    grey = figure["test_accuracy"].axes[1].images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(grey, np.nan) == 1, np.isnan(shown[1]))
    assert legend_of(figure["verdict"])[-1] == "not trained yet"
    assert legend_of(heatmaps.draw(records, AXES)["test_accuracy"]) == []
    for one in figure.values():
        png(one)


def test_a_verdict_is_the_most_frequent_first_cause(records):
    figure = heatmaps.draw(records, AXES)["verdict"]
    words = list(heatmaps.VERDICTS)
    [*_, first] = sorted(SPREADS)
    conditions = (records.activation == "tanh") & (records.kernel_initializer == first)
    for column, layers in enumerate((2, 6)):
        cell = records[conditions & (records.num_layers == layers) & (records.step == 0)]
        counts = cell.verdict.map(first_cause).value_counts()
        shown = words[int(pictures(figure)[0, 2, column])]
        assert counts[shown] == counts.max()
    assert set(legend_of(figure)) <= {"dead units", NOT_LEARNED, HEALTHY}


def test_of_equally_frequent_verdicts_a_symptom_wins():
    axes = {"num_layers": [2, 3], "batch_size": [1, 2]}
    records = sweep(axes, seeds=2)
    verdicts = np.where(records.seed == 0, "healthy", "frozen layers, stuck at chance")
    figure = heatmaps.draw(records.assign(verdict=verdicts), axes)["verdict"]
    assert (pictures(figure) == list(heatmaps.VERDICTS).index("frozen layers")).all()
    assert legend_of(figure) == ["frozen layers"]


def test_colour_blind_readers_can_tell_the_verdicts_apart():
    assert list(heatmaps.VERDICTS)[:-3] == [s.name for s in SYMPTOMS if of_scenarios(s)]
    assert first_cause(NOT_LEARNED) == NOT_LEARNED
    for matrix in SIGHT.values():
        lab = np.array([cielab(np.array(matrix) @ linear(c)) for c in heatmaps.VERDICTS.values()])
        apart = np.linalg.norm(lab[:, np.newaxis] - lab, axis=-1) + 100 * np.eye(len(lab))
        assert apart.min() > 20


SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
"""How a reader sees linear sRGB colours: Machado, Oliveira and Fernandes 2009."""


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def cielab(rgb):
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    relative = np.array(matrix) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def test_a_single_field_gives_lines_with_the_range_of_seeds():
    axes = {"num_layers": [4, 2, 3]}
    records = sweep(axes)
    lost = records.num_layers == 4
    records["test_accuracy"] = records.test_accuracy.mask(lost)
    figures = heatmaps.draw(records, axes)
    [panel] = figures["test_accuracy"].axes
    last = [records[(records.step == 200) & (records.num_layers == n)] for n in (2, 3)]
    median = next(line for line in panel.lines if line.get_label() == "median")
    expected = [np.median(one.test_accuracy) for one in last]
    np.testing.assert_array_equal(median.get_ydata(), [*expected, np.nan])
    band = panel.collections[0].get_paths()[0].vertices
    for place, one in enumerate(last):
        low, high = one.test_accuracy.min(), one.test_accuracy.max()
        heights = band[band[:, 0] == place, 1]
        assert (heights.min(), heights.max()) == (low, high)
    assert legend_of(figures["test_accuracy"]) == ["median", "not finite", "lowest to highest"]
    bars = figures["verdict"].axes[0].patches
    heights = np.array([bar.get_height() for bar in bars]).reshape(-1, 3)
    np.testing.assert_allclose(heights.sum(axis=0), 1)
    for figure in figures.values():
        png(figure)


def test_a_field_of_words_gives_dots_and_may_have_panels():
    axes = {"activation": ["tanh", "relu"], "num_layers": [2, 3]}
    records = sweep(axes)
    figure = heatmaps.draw(records, axes, x="activation", by="num_layers")
    # Both fields are used as panels and columns, so there are no rows.
    assert "y" not in heatmaps.choose(axes, 12, "activation", None, "num_layers")[0]
    last = records[records.step == 200]
    for panel, layers in zip(figure["test_accuracy"].axes, (2, 3), strict=True):
        [dots] = panel.lines
        assert dots.get_linestyle() == "None"
        expected = last[last.num_layers == layers].groupby("activation").test_accuracy.median()
        np.testing.assert_array_equal(dots.get_ydata(), expected[["tanh", "relu"]])


@pytest.mark.parametrize(
    ("field", "values", "title", "labels"),
    [
        ("num_layers", [10, 2], "num_layers", ["2", "10"]),
        ("learning_rate", [0.1, None, 1e-5], "learning_rate", ["none", "1e-05", "0.1"]),
        ("activation", ["tanh", "relu"], "activation", ["tanh", "relu"]),
        ("skip_connections", [True, False], "skip_connections", ["True", "False"]),
        ("kernel_initializer", ["zeros", "random_normal(stddev=1.0)"], "kernel_initializer", None),
        (
            "kernel_initializer",
            ["truncated_normal(stddev=2.0)", "random_normal(stddev=1.0)"],
            "kernel_initializer",
            None,
        ),
        (
            "kernel_initializer",
            ["random_normal(mean=1.0, stddev=1.0)", "random_normal(mean=0.0, stddev=2.0)"],
            "kernel_initializer",
            None,
        ),
        (
            "output_initializer",
            ["random_uniform(minval=0.0, maxval=1.0)", "random_uniform(minval=0.0, maxval=0.5)"],
            "output_initializer random_uniform(minval=0) maxval",
            ["0.5", "1"],
        ),
    ],
)
def test_axes_sort_numbers_and_find_the_position_of_every_value(field, values, title, labels):
    axis = Axis.of(field, values)
    assert axis.title == title
    assert list(axis.labels) == (labels or values)
    for column in (
        pandas.Series(list(axis.values)),
        pandas.Series(pyarrow.array(list(axis.values)).dictionary_encode().to_pandas()),
    ):
        assert axis.positions(column).tolist() == list(range(len(values)))
    missing = pandas.Series(["other" if isinstance(values[0], str) else 77])
    assert axis.positions(missing).tolist() == [-1]


@pytest.mark.parametrize("axes", ["numbers", "words"])
def test_labels_of_many_cells_do_not_overlap(axes):
    long = [f"random_uniform(minval=-{n}.0, maxval=1.0)" for n in range(25)]
    axes = {
        "numbers": {"learning_rate": [n / 1000 for n in range(1, 51)], "num_layers": [*range(50)]},
        "words": {"activation": [f"activation{n}" for n in range(12)], "kernel_initializer": long},
    }[axes]
    if "activation" in axes:
        axes["kernel_initializer"] = ["zeros", *long]
    figure = heatmaps.draw(sweep(axes, seeds=1, records=1), axes)["test_accuracy"]
    png(figure)
    panel, _ = figure.axes
    for axis, low, high in ((panel.xaxis, "x0", "x1"), (panel.yaxis, "y0", "y1")):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= 5
        for box, after in itertools.pairwise(boxes):
            assert getattr(box, high) <= getattr(after, low)
        assert all(figure.bbox.x0 <= box.x0 and figure.bbox.y0 <= box.y0 for box in boxes)
    if "activation" in axes:
        assert len(ticks(panel.xaxis)) == 12
        assert len(ticks(panel.yaxis)) == 26
    for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
        assert text.get_fontsize() >= SMALL or not text.get_text()


def write(folder, records, axes, parts=4):
    """Write a sweep's folder, with so many parts of whole networks."""
    (folder / table.RECORDS_FOLDER).mkdir(parents=True)
    facts = {"base": Scenario().settings(), "axes": axes, "seeds": SEEDS}
    (folder / table.SWEEP_FILE).write_text(json.dumps(facts))
    lists = {name: [[0.5] * int(n) for n in records.step % 7] for name in table.TABLE_MEASURES}
    defaults = {**Scenario().settings(), **dict.fromkeys(table.SCALARS, np.nan)}
    rows = pandas.DataFrame(
        {field.name: records.get(field.name, defaults.get(field.name)) for field in table.schema()}
        | lists,
        index=records.index,
    )
    part_of_row = rows["name"].str.removeprefix("n").astype(int) % parts
    for number, part in rows.groupby(part_of_row):
        columns = [pyarrow.array(part[field.name].to_list(), field.type) for field in SCHEMA]
        table.write_part(folder, number, pyarrow.table(columns, SCHEMA))


@pytest.fixture(scope="module")
def folder(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs") / "sweep"
    write(folder, records, AXES)
    (folder / table.RECORDS_FOLDER / "being-written.part").write_bytes(b"PAR1")
    return folder


def test_the_table_is_read_from_its_parts(folder, records):
    read = table.read_table(folder)
    assert list(read.columns) == table.schema().names
    keys = ["name", "step"]
    read, given = (frame.astype({"name": str}).sort_values(keys) for frame in (read, records))
    for column in ("step", "activation", "num_layers", "test_accuracy", "verdict"):
        assert read[column].tolist() == given[column].tolist()
    assert read["learning_rate"].isna().all()
    assert [len(row) for row in read["units_dead"]] == (given.step % 7).tolist()
    assert list(table.read_table(folder, ["seed"]).columns) == ["seed"]


@pytest.mark.parametrize("chunk", [1, 20, 2**20])
def test_first_and_last_records_do_not_depend_on_chunks(folder, records, chunk, monkeypatch):
    monkeypatch.setattr(table, "CHUNK", chunk)
    ends, axes = table.read_sweep(folder)
    assert axes == AXES
    assert len(ends) == 2 * records.name.nunique()
    expected = records[records.step != 100].set_index(["name", "step"]).test_accuracy
    found = ends.astype({"name": str}).set_index(["name", "step"]).test_accuracy
    pandas.testing.assert_series_equal(found.sort_index(), expected.sort_index())


def test_a_folder_that_is_no_readable_sweep_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"sweep: .* has no sweep\.json"):
        table.load_sweep(tmp_path)
    for damaged in ("{}", "[" * 100_000):
        (tmp_path / "sweep.json").write_text(damaged)
        with pytest.raises(UsageError, match="damaged"):
            table.load_sweep(tmp_path)
    with pytest.raises(UsageError, match="no records yet"):
        table.read_table(tmp_path)
    (tmp_path / "records").mkdir()
    table.part_path(tmp_path, 1).write_bytes(b"PAR1 and no more")
    with pytest.raises(UsageError, match="damaged or not a part of this table") as caught:
        table.read_table(tmp_path)
    assert "\n" not in str(caught.value)


def changed(name, values):
    """Replace a column of a part."""

    def change(part):
        return part.set_column(part.column_names.index(name), name, [values(part)])

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda part: part.drop_columns("verdict"), "column verdict is missing"),
        (
            changed("test_accuracy", lambda p: pyarrow.nulls(len(p), "double")),
            "test_accuracy has n",
        ),
        (changed("step", lambda p: p["step"].cast("double")), "column step is double, not int64"),
        (changed("seed", lambda p: p["name"]), "column seed is dictionary.*, not int64"),
        (changed("num_layers", lambda p: pyarrow.array([9] * len(p))), "num_layers has 9, which"),
        (changed("verdict", lambda p: words(p, "cured")), "verdict has 'cured', which is no diag"),
        (changed("name", lambda p: words(p, "n1")), "one row for each"),
        (lambda part: pyarrow.concat_tables([part, part]), "one row for each"),
        (lambda part: part.slice(1), "one row for each"),
        (lambda part: part.slice(0, 0), "one row for each"),
    ],
)
def test_a_part_that_is_not_ours_is_refused_in_one_line(records, tmp_path, change, words):
    write(tmp_path, records, AXES)
    path = table.part_path(tmp_path, 2)
    table.write_part(tmp_path, 2, change(parquet.read_table(path)))
    with pytest.raises(
        UsageError, match=rf"group00002\.parquet.*{words}.*remove the file"
    ) as caught:
        table.read_sweep(tmp_path)
    assert "\n" not in str(caught.value)


def words(part, word):
    return pyarrow.array([word] * len(part), SCHEMA.field("name").type)


def test_a_part_copied_under_another_number_is_refused_and_another_file_is_not_read(
    folder, tmp_path
):
    copy = shutil.copytree(folder, tmp_path / "copy")
    part = table.part_path(copy, 3)
    shutil.copy(part, part.with_name("group00003 (copy).parquet"))
    assert len(table.read_sweep(copy)[0]) == len(table.read_sweep(folder)[0])
    shutil.copy(part, table.part_path(copy, 4))
    with pytest.raises(
        UsageError, match=r"group00004.*network n\d+ is in group00003\.parquet, too"
    ):
        table.read_sweep(copy)


def test_a_flipped_bit_in_a_part_is_found(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    part = table.part_path(copy, 0)
    place = SCHEMA.get_field_index("test_accuracy")
    column = parquet.read_metadata(part).row_group(0).column(place)
    content = bytearray(part.read_bytes())
    content[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(UsageError, match=r"group00000\.parquet is damaged"):
        table.read_sweep(copy)


@pytest.mark.parametrize(
    "axes", [{"num_layers": 3}, {"num_layers": ["two"]}, {"what": [1]}, {"activation": [None]}]
)
def test_a_sweep_that_varies_what_cannot_be_varied_is_damaged(axes, tmp_path):
    (tmp_path / table.SWEEP_FILE).write_text(json.dumps({"base": {}, "axes": axes}))
    with pytest.raises(UsageError, match=r"sweep\.json is damaged"):
        table.load_sweep(tmp_path)


def test_a_column_that_the_table_does_not_have_is_refused(folder):
    with pytest.raises(UsageError, match="test_accuracy"):
        table.read_table(folder, ["test_acuracy"])


def test_plot_draws_a_sweep_and_ranks_its_fields_without_tensorflow(folder, tmp_path):
    command = ["plot", str(folder), "--out", str(tmp_path), "--x", "activation"]
    code = (
        "import sys\n"
        "from mnist_vg.cli import cli\n"
        "assert not {'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        f"cli.main({command!r}, standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ("test_accuracy", "first_gradient_ratio", "last_gradient_ratio", "verdict")
    files = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == files
    for field in (*AXES, "seed"):
        assert done.stdout.count(f"│ {field} ") == 2
