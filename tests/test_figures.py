"""The figures, for runs with known numbers."""

import io
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from mnist_vg import SUITES, UsageError, figures
from mnist_vg.figures import drawings, style
from mnist_vg.recording.event_log import EventLog
from mnist_vg.runs.run import Run

FULL = ("circles-tanh", "circles-relu")
STEPS = [0, 32, 64, 95]
WEIGHTS_STEP = 96
"""The step of the last full record, which has only the final weights."""


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def write(folder, records, dataset="circles", steps_per_epoch=None, **settings):
    """Write a run with these records: step, scalars, tables of layers, arrays."""
    folder.mkdir()
    settings = {"name": folder.name, "seed": 0, **settings}
    results = {"test_accuracy": 0.75}
    facts = {"results": results, "steps_per_epoch": steps_per_epoch}
    run = Run(folder, "finished", settings, dataset, {}, **facts)
    log = EventLog(folder)
    for step, scalars, tables, arrays in records:
        log.record(step, scalars, tables, arrays)
    log.close()
    run.save()
    return Run.load(folder)


def layers(count):
    return [f"layer{layer}" for layer in range(1, count + 1)]


def profile_run(folder, table, nonfinite=False, steps=None, **settings):
    """Write a run with default measures and these gradients, `[records, layers]`."""
    table = np.array(table, np.float32)
    count = ~np.isfinite(table) if nonfinite else np.zeros_like(table)
    names = layers(table.shape[1])
    records = [
        (step, {}, [(names, {"gradient_mean_abs": row, "gradient_nonfinite": lost})], {})
        for step, row, lost in zip(steps or range(len(table)), table, count, strict=True)
    ]
    return write(folder, records, **settings)


def full_run(folder, seed=0, activation="tanh", depth=3, accuracy=0.5):
    random = np.random.default_rng(seed)
    hidden = layers(depth - 1)

    def of_layers(*measures):
        return layers(depth), {measure: random.random(depth) + 0.1 for measure in measures}

    inputs = {
        "min": np.full(depth - 1, -2.0),
        "max": np.full(depth - 1, 3.0),
        "counts": random.integers(1, 9, (depth - 1, 30)),
    }
    activations = {"activation_mean": np.zeros(depth - 1), "activation_inputs": inputs}
    activations["activation_std"] = random.random(depth - 1) + 0.1
    activations["units_dead"] = np.zeros(depth - 1)
    of_weights = ("weight_mean", "weight_std")
    of_gradients = ("gradient_mean_abs", "gradient_mean", "gradient_std", "backpropagated_rms")
    records = [
        (
            step,
            {tag: accuracy + step / 1000 for tag in ("loss/train", "loss/test", "accuracy/test")},
            [of_layers(*of_gradients, *of_weights), (hidden, activations)],
            {},
        )
        for step in STEPS
    ]
    axis = np.linspace(-1.5, 1.5, 20)
    points = np.column_stack([random.uniform(-1, 1, (1000, 2)), np.arange(1000) % 2])
    plane = 1 / (1 + np.exp(-np.add.outer(axis, axis)))
    decision = {"axis": axis, "probability": plane, "points": points}
    decision = {f"decision/{key}": array for key, array in decision.items()}
    records.append((WEIGHTS_STEP, {}, [of_layers(*of_weights)], decision))
    return write(folder, records, steps_per_epoch=32, seed=seed, activation=activation)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Two scenarios of one suite with full records."""
    folder = tmp_path_factory.mktemp("full")
    return [
        full_run(folder / "circles-tanh"),
        full_run(folder / "circles-relu", activation="relu", depth=4),
    ]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """One scenario with three seeds, whose first accuracies are 0.4, 0.5 and 0.3."""
    folder = tmp_path_factory.mktemp("seeds")
    return [
        full_run(folder / f"circles-tanh-seed{seed}", seed, accuracy=accuracy)
        for seed, accuracy in ((2, 0.4), (0, 0.5), (1, 0.3))
    ]


def panels(figure):
    """The axes of a figure, without the colour bar."""
    return [axis for axis in figure.axes if axis.get_title()]


def drawn(axis):
    """The lines of an axis, without the marks for zero and not finite."""
    return [line for line in axis.lines if line.get_linestyle() != "None"]


def marked(axis):
    """For each kind of mark, the layers that have it."""
    return {
        line.get_marker(): line.get_xdata().tolist()
        for line in axis.lines
        if line.get_linestyle() == "None"
    }


def test_a_profile_has_every_record_on_shared_log_axes(full):
    figure = figures.gradient_profile(full)
    assert [axis.get_title() for axis in panels(figure)] == list(FULL)
    for axis, run in zip(panels(figure), full, strict=True):
        table = run.history["gradient_mean_abs"][:-1]
        lines = drawn(axis)
        assert len(lines) == len(STEPS) == len(table)
        np.testing.assert_array_equal([line.get_ydata() for line in lines], table)
        assert lines[0].get_xdata().tolist() == list(range(1, table.shape[1] + 1))
        assert len({line.get_color() for line in lines}) == len(lines)
        assert axis.get_yscale() == "log"
    first, second = panels(figure)
    assert first.get_ylim() == second.get_ylim()
    assert first.get_xlim() == second.get_xlim()
    assert len(figure.axes) == 3  # and one colour bar


def test_what_a_log_axis_cannot_show_is_marked(tmp_path):
    table = [[0, 1e-3, 1e-2], [1e-4, np.nan, np.inf], [0, 0, 0]]
    run = profile_run(tmp_path / "odd", table, nonfinite=True)
    figure = figures.gradient_profile([run])
    [axis] = panels(figure)
    assert [np.isfinite(line.get_ydata()).sum() for line in drawn(axis)] == [2, 1, 0]
    assert marked(axis) == {"v": [1, 2, 3], "x": [2, 3]}
    assert "▼ zero" in figure.get_supxlabel()
    assert "× not finite" in figure.get_supxlabel()
    style.png(figure)


@pytest.mark.parametrize("value", [0, np.nan, np.inf, 1e-45, 3e38])
def test_a_profile_whose_gradients_are_all_the_same_odd_value(tmp_path, value):
    run = profile_run(tmp_path / "odd", [[value] * 3] * 2, nonfinite=True)
    figure = figures.gradient_profile([run])
    assert style.png(figure).startswith(b"\x89PNG")
    [axis] = panels(figure)
    mark = {0: "v"}.get(value, None if np.isfinite(value) else "x")
    assert marked(axis) == ({mark: [1, 2, 3]} if mark else {})
    shown = [np.isfinite(line.get_ydata()).all() for line in drawn(axis)]
    assert shown == [mark is None] * 2


def test_pictures_of_runs_share_their_axis(tmp_path):
    tables = {
        "flat": [[1e-2, 1e-2, 3e-2]],
        "steep": [[1e-7, 1e-4, 0.5]],
        "dead": [[0, 0, 0]],
        "vanished": [[1e-45, 1e-4, 1]],
        "exploded": [[1, 1e20, 3e38]],
    }
    axes = {}
    for name, table in tables.items():
        [(tag, png)] = drawings.profile_picture(profile_run(tmp_path / name, table)).items()
        assert tag == "gradient_profile"
        axes[name] = imread(io.BytesIO(png))[:, :70]  # What is left of the panel: the axis.
    np.testing.assert_array_equal(axes["flat"], axes["steep"])
    np.testing.assert_array_equal(axes["flat"], axes["dead"])
    assert (axes["flat"] != axes["vanished"]).any()
    assert (axes["flat"] != axes["exploded"]).any()


def test_a_record_without_gradients_is_left_out(tmp_path):
    run = profile_run(tmp_path / "some", [[np.nan, np.nan], [1e-3, 1e-2]])
    [axis] = panels(figures.gradient_profile([run]))
    assert len(drawn(axis)) == 1
    assert marked(axis) == {}


def test_a_single_layer_and_record_is_drawn_as_a_dot(tmp_path):
    run = profile_run(tmp_path / "tiny", [[1e-3]])
    [axis] = panels(figures.gradient_profile([run]))
    [line] = drawn(axis)
    assert line.get_marker() == "o"
    assert axis.get_ylim()[0] <= 1e-3 < axis.get_ylim()[1]


def test_a_profile_of_many_records_has_the_first_and_the_last(tmp_path):
    table = np.arange(1, 401)[:, np.newaxis] * [1e-3, 1e-2]
    run = profile_run(tmp_path / "long", table)
    [axis] = panels(figures.gradient_profile([run]))
    lines = drawn(axis)
    assert len(lines) == drawings.MAX_RECORDS
    for line, row in ((lines[0], table[0]), (lines[-1], table[-1])):
        np.testing.assert_allclose(line.get_ydata(), row, rtol=1e-6)


def test_weights_by_epoch_start_before_training(full):
    figure = figures.weights_by_epoch(full)
    table = np.array(figure.axes).reshape(2, 2)
    for row, tag in zip(table, ("weight_mean", "weight_std"), strict=True):
        for axis, run in zip(row, full, strict=True):
            lines = [line.get_ydata() for line in axis.lines]
            np.testing.assert_array_equal(np.transpose(lines), run.history[tag])
            assert axis.lines[0].get_xdata().tolist() == [0, 1, 2, 95 / 32, 3]
    assert {axis.get_xlabel() for axis in table[-1]} == {"epoch"}
    styles = [(line.get_color(), line.get_linestyle()) for line in table[0, 1].lines]
    assert len({style for _, style in styles}) == 4
    assert styles[0] == (table[0, 0].lines[0].get_color(), table[0, 0].lines[0].get_linestyle())
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"layer {n}" for n in range(1, 5)]


def test_without_the_length_of_an_epoch_the_axis_is_the_step(full, tmp_path):
    names = layers(2)
    weights = {"gradient_mean_abs": [1, 1], "weight_mean": [1, 2], "weight_std": [3, 4]}
    run = write(tmp_path / "mine", [(7, {}, [(names, weights)], {})], dataset=None)
    figure = figures.weights_by_epoch([run])
    assert figure.axes[1].get_xlabel() == "step"
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[7], [7]]
    assert figure.axes[0].lines[0].get_marker() == "o"  # else one point could not be seen


def test_gradients_by_epoch_have_the_tutorials_three_rows(full):
    figure = figures.gradients_by_epoch(full)
    table = np.array(figure.axes).reshape(3, 2)
    assert [row[0].get_yscale() for row in table] == ["linear", "log", "linear"]
    for tag, row in zip(("gradient_mean", "gradient_std", "loss/train"), table, strict=True):
        for axis, run in zip(row, full, strict=True):
            lines = np.transpose([line.get_ydata() for line in axis.lines])
            values = run.history[tag].reshape(len(lines), -1)
            np.testing.assert_array_equal(lines, values)
        assert row[0].get_ylim() == row[1].get_ylim()


def test_decisions_show_both_classes_and_the_plane(full):
    figure = figures.decisions(full)
    assert len(panels(figure)) == 2
    for axis, run in zip(panels(figure), full, strict=True):
        assert axis.get_title() == f"{run.name}\ntest accuracy 75.0%"
        [image] = axis.images
        np.testing.assert_array_equal(image.get_array(), run.decision["probability"])
        assert image.get_clim() == (0, 1)
        contour, *classes = axis.collections
        # The probability is one half where the two inputs sum to 0.
        [line] = contour.get_paths()
        np.testing.assert_allclose(line.vertices.sum(axis=1), 0, atol=1e-6)
        for label, points in enumerate(classes):
            expected = run.decision["points"]
            np.testing.assert_array_equal(
                points.get_offsets(), expected[expected[:, 2] == label, :2]
            )
        shapes = [len(points.get_paths()[0].vertices) for points in classes]
        assert shapes[0] != shapes[1]


def test_activations_are_drawn_with_slope_and_inputs(full):
    figure = figures.activations(full)
    table = np.array(figure.axes).reshape(2, 2)
    for (top, bottom), run, function, slope in zip(
        table.T,
        full,
        (np.tanh, lambda x: np.maximum(x, 0)),
        (lambda x: 1 - np.tanh(x) ** 2, lambda x: x > 0),
        strict=True,
    ):
        curve, its_slope = top.lines
        x = curve.get_xdata()
        np.testing.assert_allclose(curve.get_ydata(), function(x))
        away = np.abs(x) > 0.1
        np.testing.assert_allclose(its_slope.get_ydata()[away], slope(x)[away], atol=1e-2)
        histograms = run.history["activation_inputs"]
        last, first = np.split(np.array(bottom.patches), 2)
        for record, ridges in ((0, first), (-2, last)):
            for layer, ridge in enumerate(ridges):
                heights, edges, baseline = ridge.get_data()
                counts = histograms[record, layer, :, 2]
                assert baseline == layer + 1
                np.testing.assert_allclose((baseline - heights) / 0.9, counts / counts.max())
                assert (edges[0], edges[-1]) == (-2, 3)


def test_an_activation_that_cannot_be_drawn_is_left_out(full, tmp_path):
    odd = full_run(tmp_path / "odd", activation="parametric_relu")
    assert len(figures.activations([odd, *full]).axes) == 4
    with pytest.raises(UsageError, match="activation"):
        figures.activations([odd])
    assert "activations" not in figures.draw_all([odd])


def test_learning_is_median_and_range_of_the_seeds(seeds, full):
    figure = figures.learning([*seeds, full[1]])
    for axis, tag in zip(figure.axes, ("accuracy/test", "loss/test"), strict=True):
        median, other = axis.lines
        steps = np.array(STEPS)
        assert median.get_xdata().tolist() == STEPS
        np.testing.assert_allclose(median.get_ydata(), 0.4 + steps / 1000, atol=1e-6)
        np.testing.assert_array_equal(other.get_ydata(), full[1].history[tag][:-1])
        band = axis.collections[0].get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose((band.min(), band.max()), (0.3, 0.595), atol=1e-6)
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "circles-tanh (3 seeds)",
        "circles-relu",
    ]


def test_the_median_loss_counts_nan_as_infinite(tmp_path):
    names = [f"mine-seed{seed}" for seed in range(3)]
    losses = [[1, 1], [2, np.nan], [3, np.inf]]
    several = [
        write(
            tmp_path / name,
            [(s, {"accuracy/test": 0.5, "loss/test": loss[s]}, [], {}) for s in range(2)],
            seed=seed,
        )
        for seed, (name, loss) in enumerate(zip(names, losses, strict=True))
    ]
    figure = figures.learning(several)
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [2, np.nan])
    style.png(figure)


def test_signals_are_those_of_the_first_record_in_the_scenarios_colours(full):
    figure = figures.signals_by_layer(full)
    tags = ("activation_std", "backpropagated_rms", "gradient_mean_abs")
    for axis, tag in zip(figure.axes, tags, strict=True):
        assert axis.get_yscale() == "log"
        for line, run in zip(axis.lines, full, strict=True):
            first = run.history[tag][0]
            np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(first) + 1))
            np.testing.assert_array_equal(line.get_ydata(), first)
            assert line.get_color() == colour(run.name)


def colour(name):
    return style.looks([name])[name]["color"]


def test_lines_are_distinct_within_a_figure():
    for suite in SUITES.values():
        alone = [style.looks([scenario.name])[scenario.name] for scenario in suite]
        assert len(set(map(str, alone))) == len(suite)
        assert alone == list(style.looks(scenario.name for scenario in suite).values())
    alike = ["sigmoid", "sigmoid-relu-he_normal-batch"]
    assert style.looks(alike[:1])[alike[0]] == style.looks(alike[1:])[alike[1]]
    several = [*alike, *(f"mine{n}" for n in range(40))]
    for names in (alike, several):
        looks = style.looks(names)
        assert len(set(map(str, looks.values()))) == len(names)
        assert looks == style.looks(reversed(names))
        assert looks["sigmoid"] == style.looks(["sigmoid"])["sigmoid"]
    assert len(style.looks(map(str, range(100)))) == 100


def test_a_colour_depends_only_on_the_name():
    # Written down once, so that another process must find the same.
    known = {"circles-tanh": "#000000", "mine": "#E69F00", "another": "#000000"}
    assert {name: colour(name) for name in known} == known
    assert colour("circles-relu-seed3") == colour("circles-relu")


def test_the_order_of_runs_changes_no_colour(seeds, full):
    def colours(several):
        lines = figures.learning(several).axes[0].lines
        return {line.get_label(): (line.get_color(), line.get_linestyle()) for line in lines}

    assert colours([*seeds, full[1]]) == colours([full[1], *reversed(seeds)])


def test_which_figures_full_and_default_records_give(full, tmp_path):
    assert set(figures.draw_all(full)) == set(drawings.FIGURES)
    default = profile_run(tmp_path / "default", [[1e-3, 1e-2]])
    assert set(figures.draw_all([default])) == {"gradient_profile"}
    assert figures.draw_all([]) == {}


def test_a_scenario_that_others_are_compared_with_is_on_every_page(tmp_path, full):
    remedies = [profile_run(tmp_path / f"sick-{n:02}", [[1e-3, 1e-2]]) for n in range(13)]
    drawn_all = figures.draw_all([*remedies, full[0]], compared_with=full[0].name)
    profiles = [figure for name, figure in drawn_all.items() if "profile" in name]
    assert [len(panels(figure)) for figure in profiles] == [7, 8]
    for figure in profiles:
        first, *others = panels(figure)
        assert first.get_title() == full[0].name
        assert {axis.get_ylim() for axis in others} == {first.get_ylim()}
        assert {axis.get_xlim() for axis in others} == {first.get_xlim()}
    # What only it has recorded is drawn of it alone.
    assert len(panels(drawn_all["decisions"])) == 1
    assert figures.draw_all([], compared_with="sick") == {}


def test_panels_show_the_lowest_of_several_seeds(seeds):
    drawn_all = figures.draw_all(seeds)
    [axis] = panels(drawn_all["gradient_profile"])
    assert axis.get_title() == "circles-tanh-seed0"
    assert "3 seeds" in drawn_all["learning"].axes[0].lines[0].get_label()


def test_many_scenarios_are_split_and_suites_kept_apart(tmp_path, full):
    many = [profile_run(tmp_path / f"mine{n}", [[1e-3, 1e-2]]) for n in range(13)]
    drawn_all = figures.draw_all([*many, full[0]])
    profiles = [figure for name, figure in drawn_all.items() if "profile" in name]
    assert [len(panels(figure)) for figure in profiles] == [6, 7, 1]
    assert list(drawn_all)[:3] == [f"gradient_profile-{number}" for number in (1, 2, 3)]
    assert "decisions" in drawn_all


@pytest.mark.parametrize("name", drawings.FIGURES)
def test_runs_without_the_records_are_refused_in_one_line(name, tmp_path):
    empty = write(tmp_path / "empty", [])
    for none in ([], [empty]):
        with pytest.raises(UsageError, match=name) as caught:
            drawings.FIGURES[name].draw(none)
        assert "\n" not in str(caught.value)


def test_saved_files_are_whole_and_the_same_each_time(full, tmp_path):
    def save(folder):
        kinds = (figures.gradient_profile, figures.decisions)
        return figures.save({draw.__name__: draw(full) for draw in kinds}, folder)

    first, second = save(tmp_path / "new" / "folder"), save(tmp_path / "again")
    names = [path.name for path in first]
    assert names == [f"{n}.{k}" for n in ("gradient_profile", "decisions") for k in ("png", "svg")]
    for path, again in zip(first, second, strict=True):
        data = path.read_bytes()
        assert data == again.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
        else:
            assert data.startswith(b"\x89PNG\r\n\x1a\n")


def test_a_folder_that_cannot_be_written_is_refused(full, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"folder: .*file cannot be written"):
        figures.save({"one": Figure()}, tmp_path / "file")


def test_a_png_is_as_large_as_its_figure(full):
    figure = figures.gradient_profile(full)
    data = style.png(figure)
    size = [int.from_bytes(data[start : start + 4], "big") for start in (16, 20)]
    # Matplotlib 3.10, the last one for Python 3.10, cuts off a fraction of a pixel.
    exact = figure.get_size_inches() * 100
    assert size in (exact.round().tolist(), np.trunc(exact).tolist())


def test_figures_show_in_a_notebook_and_no_text_is_small(full):
    for figure in figures.draw_all(full).values():
        assert figure._repr_png_().startswith(b"\x89PNG")
        for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
            assert text.get_fontsize() >= style.SMALL or not text.get_text()


def test_drawing_needs_no_tensorflow_nor_pyplot(full):
    code = f"""
import sys
from mnist_vg import figures
from mnist_vg.figures import style
from mnist_vg.runs.run import Run
assert "matplotlib" not in sys.modules
for figure in figures.draw_all([Run.load({str(full[0].folder)!r})]).values():
    style.png(figure)
assert not {{"tensorflow", "keras", "matplotlib.pyplot"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
