"""The README and the pages in docs: their code and commands, and what they say is printed."""

import ast
import contextlib
import io
import itertools
import re
import shlex
import shutil
from pathlib import Path

import keras
import pytest
from conftest import call_command, run_command, without_xla

from mnist_vg import GradientLogger, Run, Scenario
from mnist_vg.cli import cli
from mnist_vg.sweeps.sweep import Sweep, parse_axes

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


def blocks(page, language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [content for found, content in fenced if found == language]


def the_block(page, language, words):
    [block] = [block for block in blocks(page, language) if words in block]
    return block


def commands(page):
    """The arguments of each `mnist-vg` that a page tells to type."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", "").splitlines():
            words = shlex.split(line, comments=True)
            if "mnist-vg" in words:
                yield words[words.index("mnist-vg") + 1 :]


def run(code):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


def table(text):
    """The rows of a printed table, headings first; lines that continue a cell are joined."""
    rows = []
    for line in text.splitlines():
        if line[:1] not in ("┃", "│"):
            continue
        cells = [cell.strip() for cell in re.split("[┃│]", line)[1:-1]]
        heading_goes_on = len(rows) == 1 and line[0] == "┃"
        if rows and (heading_goes_on or (line[0] == "│" and not cells[0])):
            rows[-1] = [" ".join(both).strip() for both in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    return rows


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_is_one_page_in_this_order():
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 150
    parts = (
        "# mnist_vg\n",
        "(docs/board.png)",
        "git clone",
        "make train",
        ". .venv/bin/activate",
        "Which network could learn?",
        "## Your own Keras model\n",
        "$ mnist-vg diagnose",
        "## The experiment\n",
        "## Where to read on\n",
    )
    places = [readme.index(part) for part in parts]
    assert places == sorted(places)


def test_the_readme_leads_to_every_command_and_every_page():
    links = set(re.findall(r"\]\(([^)#]+)", PAGES["README.md"]))
    assert links >= PAGES.keys() - {"README.md"}
    assert set(re.findall(r"^- \[`mnist-vg (\w+)`\]", PAGES["README.md"], re.MULTILINE)) == set(
        cli.commands
    )


def slugs(text):
    """The anchors that a page's headings get on GitHub."""
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", PAGES[page])
    for target, anchor in links:
        if target.startswith(("http://", "https://")):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in slugs(path.read_text()), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_option_exists(page):
    for name, *arguments in commands(page):
        if "--help" not in arguments:
            cli.commands[name].make_context(name, arguments)
    known = {flag for command in cli.commands.values() for o in command.params for flag in o.opts}
    of_others = {"--log_dir", "--smoke"}  # The tutorial's, and that of every benchmark.
    assert set(re.findall(r"`(--[\w-]+)", PAGES[page])) <= known | of_others


@pytest.mark.parametrize("page", PAGES)
def test_every_import_works(page):
    for code in blocks(page, "python"):
        body = [n for n in ast.parse(code).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(body, []), page, "exec"), {})


def test_the_library_in_five_lines(in_tmp_path):
    assert "(4, 12)" in run(the_block("docs/train.md", "python", "import Model"))
    assert (in_tmp_path / "logdir" / "tanh" / "run.json").exists()


def test_the_logger_in_a_plain_fit_and_what_diagnose_says_of_it(in_tmp_path, monkeypatch):
    monkeypatch.setitem(GradientLogger.__init__.__kwdefaults__, "check", True)
    keras.utils.set_random_seed(1)  # That of the table.
    run(the_block("README.md", "python", "GradientLogger"))
    history = Run.load(in_tmp_path / "logdir" / "my_run").history
    assert history["step"].tolist() == list(range(0, 1875, 10))
    assert history["gradient_mean_abs"].shape == (188, 6)
    shown = the_block("README.md", "", "$ mnist-vg diagnose")
    command = shlex.split(shown.splitlines()[0])[2:]
    done = run_command(*command, cwd=in_tmp_path)
    assert done.returncode == 1, done.stderr
    assert without_numbers(table(shown)) == without_numbers(table(done.stdout))
    assert not done.stdout.splitlines()[-1].startswith("my_run"), "something is not recorded"


def without_numbers(rows):
    """What was measured differs by machine in its last digits."""
    return [[re.sub(r"loss by [\d.e-]+%", "loss by …%", cell) for cell in row] for row in rows]


COMMANDS = [
    command
    for page in ("docs/train.md", "docs/diagnosis.md", "docs/suites.md")
    for command in commands(page)
]


@pytest.fixture(scope="module")
def one_folder(logdir, tmp_path_factory):
    """Where `make train` has been."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(logdir, folder / "logdir")
    return folder


@pytest.mark.parametrize(
    "arguments", [command for command in COMMANDS if "fashion_mnist" not in command], ids=" ".join
)
def test_the_commands_run_one_after_another(one_folder, arguments, monkeypatch, capfd):
    """With fewer iterations, but for the networks of `make train`, which are there.

    The data set that wants a network is left out. Other tests have `cure` (test_cure.py),
    sweeps (test_sweeps.py) and strategies (test_distributed.py). `diagnose` tells of the sick
    network by its exit code.
    """
    few = ["--iterations", "20"] if arguments[0] == "train" and arguments[1:] else []
    few = [] if "--help" in arguments else few
    monkeypatch.chdir(one_folder)
    chosen = list(itertools.takewhile(lambda argument: argument[0] != "-", arguments))
    sick = chosen[0] == "diagnose" and "relu" not in chosen
    with without_xla():
        assert call_command(*arguments, *few) == (1 if sick else 0)
    printed, errors = capfd.readouterr()
    assert printed
    assert errors == ""


def test_the_sweep_is_of_as_many_networks_as_it_says():
    [command] = [c for c in commands("docs/sweeps.md") if c[0] == "sweep"]
    given = dict(itertools.pairwise(command))
    vary = [value for flag, value in itertools.pairwise(command) if flag == "--vary"]
    sweep = Sweep(command[1], Scenario(), parse_axes(vary), int(given["--seeds"]))
    assert f"These are {len(sweep.scenarios)} networks." in PAGES["docs/sweeps.md"]


def test_every_example_of_values_to_vary_is_allowed():
    examples = re.findall(r"^\| `(\w+=[^`]+)` \|", PAGES["docs/sweeps.md"], re.MULTILINE)
    assert len(examples) == 5
    values = dict(parse_axes([example]).popitem() for example in examples[:2])
    assert values["activation"] == ("tanh", "relu")
    assert values["num_layers"] == (*range(2, 51, 4),)
    for example in examples:
        parse_axes([example])


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target
        for text in PAGES.values()
        for target in re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE)
    }
    assert named >= {"train", "board", "test", "lint", "bench", "experiments"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_table_is_one_that_make_train_prints(logdir):
    """Its scenarios, headings, verdicts and notes; seconds and last digits differ by machine."""
    printed = (logdir.parent / "printed.txt").read_text()
    shown = the_block("README.md", "", "Which network could learn?")
    for text in (shown, printed):
        rows = table(text)
        assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
            ("sigmoid", "no", "vanishing gradients"),
            ("relu", "yes", "healthy"),
            ("leaky_relu", "yes", "healthy"),
        ]
    assert table(shown)[0] == table(printed)[0]

    def notes(text):
        return re.search(r"Gradient ratio: .* compilation\.", text, re.DOTALL)[0].split()

    assert notes(shown) == notes(printed)


def test_the_diagnosis_is_one_that_is_printed(logdir):
    printed = run_command("diagnose", logdir).stdout
    shown = the_block("docs/diagnosis.md", "", "Evidence")
    assert without_numbers(table(shown)) == without_numbers(table(printed))
