"""The training service in the tab, as a person uses it in real browsers."""

import json

import numpy as np
import pytest
from servers import free_port
from services import service
from tab import AXE, broken_rules

from mnist_vg import Run, Scenario
from mnist_vg.sweeps import read_table

QUEUE_HAS = """(name, state) => [...document.querySelectorAll(".job")].some((job) =>
  job.dataset.name === name && job.querySelector(".badge").textContent === state)"""

FILL = """(name, value) => {
  const field = document.querySelector(`form [name=${name}]`);
  field.value = value;
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
}"""

TYPE = """(name, value) => {
  const field = find("input", name);
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}"""

TEXTS = "(selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent.trim())"

CELLS = """(selector) => Object.fromEntries(
  [...document.querySelectorAll(selector)].map((cell) => {
    const [where, said] = cell.ariaLabel.split(": ");
    return [where, [said, cell.textContent.trim()]];
  }),
)"""

PLACE = "num layers 3, activation relu"

WAITING_ARE = """(names) => {
  const found = [...document.querySelectorAll(".job")].filter((job) =>
    job.querySelector(".badge").textContent === "waiting");
  return JSON.stringify(found.map((job) => job.dataset.name)) === JSON.stringify(names);
}"""

PAINTED = """(selector) => [...document.querySelectorAll(selector)].map((canvas) => {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
})"""

TINY = {"dataset": "digits", "num_layers": "2", "iterations": "40", "log_every": "10"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with service(tmp_path_factory.mktemp("served")) as served:
        yield served


def job(name, part=""):
    return f".job[data-name={json.dumps(name)}] {part}".strip()


def in_chromium(browser):
    """What the service answers is the same in each browser: one is enough."""
    if browser.name != "Chromium":
        pytest.skip("the form and the sweep are tried in each browser")


def open_training(window, served):
    window.open(f"{served.url}/?token={served.token}#mnist_vg&p.mnist_vg.view=training")
    window.wait("() => !!find('form [name=activation]')")


def fill(window, **settings):
    for field, value in settings.items():
        window.run(FILL, field, value)


def test_a_person_trains_a_deep_network_sees_it_vanish_and_cures_it(browser, served):
    in_chromium(browser)
    with browser.window(1366, 900) as window:
        window.open(f"{served.url}/?token={served.token}")
        window.click("nav button", "Training")
        # Tanh does not vanish in 12 layers with the usual initial weights: these are smaller.
        fill(window, name="deep", activation="tanh", num_layers="12")
        fill(window, kernel_initializer="random_normal(stddev=0.05)")
        fill(window, dataset="digits", iterations="1000")
        window.click(".main")
        window.wait_for_text("vanishing gradients", job("deep", ".damage"))
        [colours] = window.wait(PAINTED, job("deep", "canvas"))
        assert colours > 10, "the queue shows the records as they come"
        window.wait(QUEUE_HAS, "deep", "finished", seconds=120)
        window.click(".job .name", "deep")
        window.wait_for_text("vanishing gradients", "aside .verdict")
        assert Run.load(served.logdir / "deep").verdict.startswith("vanishing gradients")
        window.click("aside button", "Cure")
        window.wait(QUEUE_HAS, "cure/deep", "finished", seconds=300)
        window.wait_for_text("recommended: ", job("cure/deep"))
        window.wait(
            f"(selector) => ({PAINTED})(selector).filter((colours) => colours > 10).length === 2",
            job("cure/deep", "canvas[data-run]"),
        )
        before, after = window.run(TEXTS, job("cure/deep", "figcaption"))
        assert float(before.split()[-1]) < 0.2 < 0.7 < float(after.split()[-1])
        window.click("button", "Compare before and after")
        window.wait_for_text("cure/deep/deep-seed0", ".compare .runs")
        sick, healthy = (text.split()[0] for text in window.run(TEXTS, ".compare .runs li"))
        assert Run.load(served.logdir / sick).verdict.startswith("vanishing gradients")
        assert Run.load(served.logdir / healthy).verdict == "healthy"
        window.go("#mnist_vg")
        window.wait("() => [...document.querySelectorAll('.badge.healthy')].length > 0")


def test_what_is_not_allowed_is_said_at_its_field(browser, served):
    with browser.window() as window:
        open_training(window, served)
        fill(window, num_layers="many")
        window.click(".main")
        window.wait_for_text("num_layers: 'many' must be a whole number", ".field .error")


def test_a_list_shows_what_is_trained(browser, served):
    with browser.window() as window:
        open_training(window, served)
        chosen = "() => document.forms[0].activation.value"
        for activation in ("relu", "tanh"):
            fill(window, activation=activation)
            assert window.run(chosen) == activation
        for scenario in ("relu", "sigmoid", "relu"):
            window.choose("Start from", scenario)
            assert window.run(chosen) == scenario


def test_an_open_page_says_that_its_service_is_gone_and_goes_on_with_the_next(browser, tmp_path):
    port = free_port()
    with browser.window() as window:
        with service(tmp_path, port=port) as served:
            served.wait(served.submit(Scenario(name="before", iterations=1)))
            open_training(window, served)
            window.wait(QUEUE_HAS, "before", "finished")
        window.wait_for_text("The service does not answer", ".queue .error")
        fill(window, name="meanwhile")
        window.click(".main")
        window.wait_for_text("The service does not answer", "form .error")
        with service(tmp_path, port=port) as served:
            served.submit(Scenario(name="after", iterations=1))
            # The new link, in another window, has the new token for both.
            with browser.window() as other:
                open_training(other, served)
            window.wait(QUEUE_HAS, "after", "finished")
            window.wait("() => !find('.queue .error')")


def test_a_sweep_says_how_many_networks_it_has_and_shows_its_heat_map(browser, served):
    name = f"grid-{browser.name}"
    with browser.window(1366, 900) as window:
        open_training(window, served)
        fill(window, name=name, seeds="2", **TINY)
        window.run("() => { document.querySelector('.sweep').open = true; }")
        window.choose("Setting 1 to vary", "num_layers")
        window.run(TYPE, "Values of setting 1", "2:4")
        window.wait_for_text("'2:4' has no step", ".sweep .error")
        window.run(TYPE, "Values of setting 1", "2:4:1")
        window.choose("Setting 2 to vary", "activation")
        window.run(TYPE, "Values of setting 2", "tanh,relu")
        window.wait_for_text("Train 12 networks", ".main")
        window.click(".main")
        window.wait(QUEUE_HAS, name, "finished", seconds=120)
        window.wait("(rows) => document.querySelectorAll(rows).length === 3", job(name, "tr"))
        cells = window.run(CELLS, job(name, "td button"))
        last = read_table(served.logdir / name)
        last = last[last["step"] == last["step"].max()]
        expected = last.groupby(["activation", "num_layers"], observed=True)[
            "test_accuracy"
        ].median()
        assert len(cells) == len(expected) == 6
        for cell, (words, shown) in cells.items():
            depth, activation = cell.removeprefix("num layers ").split(", activation ")
            np.testing.assert_allclose(float(words), expected[activation, int(depth)], rtol=6e-3)
            assert words == shown
        [chosen] = [words for place, (words, _) in cells.items() if place == PLACE]
        window.click(job(name, "td button"), f"{PLACE}: {chosen}")
        fields = "() => [form.num_layers, form.activation, form.dataset].map(({ value }) => value)"
        values = window.run(fields.replace("form", "document.forms[0]"))
        # The run has a folder of its own, and not that of the sweep.
        proposed = window.run("() => document.forms[0].elements.name.placeholder")
        assert proposed == f"{name}-num_layers3-relu"
        assert values == ["3", "relu", "digits"]


def test_jobs_that_wait_are_put_in_another_order(browser, served):
    in_chromium(browser)
    base = Scenario(dataset="digits", num_layers=2, iterations=1_000_000, log_every=1000)
    numbers = [served.submit(base.with_seed(seed)) for seed in range(4)]
    try:
        with browser.window() as window:
            open_training(window, served)
            names = [served.job(number)["name"] for number in numbers[1:]]
            window.wait(WAITING_ARE, names)
            window.wait("() => !!find('.job canvas')")  # From now on, nothing moves by itself.
            window.click(job(names[0], "button"), "Later")
            window.wait(WAITING_ARE, [names[1], names[0], names[2]])
            window.click(job(names[2], "button"), "First")
            window.wait(WAITING_ARE, [names[2], names[1], names[0]])
            window.click(job(names[0], "button"), "Earlier")
            window.wait(WAITING_ARE, [names[2], names[0], names[1]])
            waiting = [
                each for each in served.get("jobs").json["jobs"] if each["state"] == "waiting"
            ]
            assert [each["name"] for each in waiting] == [names[2], names[0], names[1]]
            window.click(job(names[1], "button"), "Stop")
            window.wait(QUEUE_HAS, names[1], "stopped")
    finally:
        for number in reversed(numbers):
            served.post(f"jobs/{number}/stop", {})
        for number in numbers:
            name = served.wait(number)["name"]
            served.post(f"jobs/{number}", {"name": name}, method="DELETE")


def test_more_seeds_of_a_run_share_its_tile(browser, served):
    in_chromium(browser)
    name = "lucky"
    tiny = Scenario(name=name, dataset="digits", num_layers=2, iterations=40, log_every=10)
    served.wait(served.submit(tiny))
    with browser.window() as window:
        window.open(f"{served.url}/?token={served.token}#mnist_vg&p.mnist_vg.run={name}")
        window.click("aside button", "More seeds")
        for seed in range(1, 5):
            window.wait(QUEUE_HAS, f"{name}-seed{seed}", "finished", seconds=60)
        window.click("nav button", "Overview")
        window.wait_for_text("5 seeds", f".tile[data-name='{name}']")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: `make page` does")
def test_the_training_view_keeps_the_rules_of_accessibility(browser, served):
    with browser.window() as window:
        open_training(window, served)
        window.run("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert broken_rules(window) == []
