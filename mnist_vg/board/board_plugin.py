"""`BoardPlugin`: the tab as TensorBoard sees it."""

from pathlib import Path

import numpy as np
from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from mnist_vg.board.binary import packed
from mnist_vg.board.listing import listing
from mnist_vg.board.local_runs import local_runs
from mnist_vg.board.log import Log, parsed, thinned
from mnist_vg.board.pages import PAGES, as_html, page_of
from mnist_vg.runs.events import ARRAYS_PLUGIN
from mnist_vg.runs.tags import HISTOGRAMS, LAYER_MEASURES

STATIC = Path(__file__).with_name("static")
TYPES = {".js": "text/javascript", ".css": "text/css", ".md": "text/html", ".png": "image/png"}
"""Media types of the files that are served. Browsers run no module of another type."""

MOST_RUNS = 100
"""So many runs a request may name: several screens of tiles."""


class BoardPlugin(base_plugin.TBPlugin):
    """Serves the page, and what it shows of the runs.

    Args:
        context: TensorBoard's.
    """

    plugin_name = ARRAYS_PLUGIN
    trains = False
    """Whether a training service is at the same address."""

    def __init__(self, context: base_plugin.TBContext):
        self._provider = context.data_provider
        self._logdir = context.logdir

    def is_active(self):
        """No: `data_plugin_names` tells TensorBoard when the tab is to be shown."""
        return False

    def data_plugin_names(self):
        """The tab is shown if any run has facts of ours."""
        return (ARRAYS_PLUGIN,)

    def frontend_metadata(self):
        """The tab's name and its first module."""
        return base_plugin.FrontendMetadata(
            es_module_path=f"{_FROM_DOCUMENT}/index.js", tab_name="Gradient flow"
        )

    def get_plugin_apps(self):
        """What is served, by its path below `data/plugin/mnist_vg`."""
        files = {
            f"{prefix}/{path.relative_to(folder).as_posix()}": _file(path)
            for folder, prefix in ((STATIC, ""), (PAGES, "/page"))
            for path in folder.rglob("*")
            if path.suffix in TYPES
        }
        return {
            **files,
            **{_FROM_DOCUMENT + route: app for route, app in files.items()},
            "/runs": self._answering(self._runs),
            "/run": self._answering(self._run),
            "/tables": self._answering(self._tables),
            "/histograms": self._answering(self._histograms),
        }

    def _answering(self, answer):
        """A WSGI app that answers a request about the log."""

        @wrappers.Request.application
        def app(request):
            context = plugin_util.context(request.environ)
            experiment = plugin_util.experiment_id(request.environ)
            content, kind = answer(request.args, Log(self._provider, context, experiment))
            return http_util.Respond(request, content, kind)

        return app

    def _runs(self, arguments, log):
        found = listing(log, local_runs(self._logdir))
        return {**found, "service": self.trains}, "application/json"

    def _run(self, arguments, log):
        [(_, known)] = _known(arguments.getlist("run")[:1], log).items()
        symptoms = [{**s, "page": page_of(s["symptom"])} for s in known["symptoms"]]
        return {**known, "symptoms": symptoms}, "application/json"

    def _tables(self, arguments, log):
        measure = _one_of("measure", arguments, [m for m in LAYER_MEASURES if m not in HISTOGRAMS])
        columns = _count("columns", arguments)
        facts = _known(arguments.getlist("run"), log)
        tables = log.tables({run: _layers(known, measure) for run, known in facts.items()}, measure)
        tables = {run: thinned(table, columns) for run, table in tables.items()}
        header = [
            {"run": run, "layers": table.layers, "records": len(table.steps)}
            for run, table in tables.items()
        ]
        arrays = [
            *(table.steps.astype(np.float64) for table in tables.values()),
            *(table.values for table in tables.values()),
            *(table.recorded.astype(np.float32) for table in tables.values()),
        ]
        return packed({"tables": header}, arrays), "application/octet-stream"

    def _histograms(self, arguments, log):
        group = _one_of("group", arguments, HISTOGRAMS)
        facts = _known(arguments.getlist("run"), log)
        layers = sorted({layer for known in facts.values() for layer in _layers(known, group)})
        layer = _one_of("layer", arguments, layers)
        found = log.histograms(facts, group, layer)
        header = [
            {"run": run, "records": len(steps), "buckets": buckets.shape[1]}
            for run, (steps, buckets) in found.items()
        ]
        arrays = [*(steps for steps, _ in found.values()), *(b for _, b in found.values())]
        return packed({"histograms": header}, arrays), "application/octet-stream"


_FROM_DOCUMENT = "/plugin/mnist_vg"
"""The page's files are served under this path, too.

Safari resolves the first module against the document's address and not against its base
(tensorboard issue 3736): `data/`, where other browsers have `data/plugin/mnist_vg/`.
"""


def _file(path):
    @wrappers.Request.application
    def app(request):
        content = as_html(path) if path.suffix == ".md" else path.read_bytes()
        return http_util.Respond(request, content, TYPES[path.suffix])

    return app


def _known(runs, log):
    """The facts of the runs that a request names."""
    if not 1 <= len(runs) <= MOST_RUNS:
        raise errors.InvalidArgumentError(f"run: name 1 to {MOST_RUNS} runs")
    facts = {run: parsed(text) for run, (*_, text) in log.facts(runs).items()}
    if any(facts.get(run) is None for run in runs):
        raise errors.InvalidArgumentError("run: the log has no such run of mnist_vg")
    return facts


def _layers(known, measure):
    of_activations = measure.startswith(("activation", "units"))
    return known["activation_layers" if of_activations else "layers"]


def _one_of(name, arguments, allowed):
    given = arguments.get(name, "")
    if given not in allowed:
        raise errors.InvalidArgumentError(f"{name}: it must be one of {', '.join(allowed)}")
    return given


def _count(name, arguments):
    given = arguments.get(name, "")
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and int(given) >= 2):
        raise errors.InvalidArgumentError(f"{name}: it must be a whole number from 2 to 9999")
    return int(given)
