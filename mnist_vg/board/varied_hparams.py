"""`VariedHParams`: TensorBoard's HParams tab, with the settings that its runs vary."""

from collections import Counter, defaultdict

from tensorboard.backend import http_util
from tensorboard.plugins.hparams import backend_context, metadata
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from werkzeug import wrappers

EXACT = 2**53
"""Up to here, a number of JSON is exact if it is whole."""


class VariedHParams(HParamsPlugin):
    """Shows the settings that differ between runs, and whole numbers as such.

    TensorBoard itself lists the settings of whichever run it finds first, in the order of the
    alphabet, and shows the first five. Its page gives each number five digits: 30.000.
    """

    def __init__(self, context):
        super().__init__(context)
        self._context = _VariedContext(context)

    @wrappers.Request.application
    def list_session_groups_route(self, request):
        """TensorBoard's answer, with whole numbers as text."""
        plain = request.environ | {"HTTP_ACCEPT_ENCODING": "identity"}
        answer = wrappers.Response.from_app(super().list_session_groups_route, plain)
        if answer.status_code != 200:
            return answer
        content = answer.get_json()
        _write_whole_numbers(content["sessionGroups"])
        return http_util.Respond(request, content, "application/json")


class _VariedContext(backend_context.Context):
    def experiment_from_metadata(self, ctx, experiment_id, include_metrics, contents, *others):
        experiment = super().experiment_from_metadata(
            ctx, experiment_id, include_metrics, contents, *others
        )
        # Without what a single run declares, TensorBoard compares the values of all.
        of_all = {
            run: {tag: content for tag, content in tags.items() if tag != metadata.EXPERIMENT_TAG}
            for run, tags in contents.items()
        }
        infos = super().experiment_from_metadata(ctx, experiment_id, False, of_all, *others)
        lacking = _lacking(contents)
        varied = [i for i in infos.hparam_infos if i.differs or i.name in lacking]
        experiment.ClearField("hparam_infos")
        experiment.hparam_infos.extend(varied or infos.hparam_infos)
        return experiment


def _lacking(contents):
    """The settings that some run has and another has not."""
    started = [
        metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        for tags in contents.values()
        if metadata.SESSION_START_INFO_TAG in tags
    ]
    counts = Counter(name for start in started for name in start.hparams)
    return {name for name, count in counts.items() if count < len(started)}


def _write_whole_numbers(rows):
    """Turn the numbers of each column that has only whole ones into text.

    Spaces before it, which a page does not show, keep text in the order of numbers.
    """
    columns = defaultdict(list)
    for row in rows:
        for name in row["hparams"]:
            columns[name].append((row["hparams"], name))
        for metric in row["metricValues"]:
            columns[tuple(metric["name"].items())].append((metric, "value"))
    for cells in columns.values():
        values = [place[key] for place, key in cells]
        if all(type(v) in (int, float) and 0 <= v <= EXACT and v == int(v) for v in values):
            width = len(f"{max(values):.0f}")
            for (place, key), value in zip(cells, values, strict=True):
                place[key] = f"{value:{width}.0f}"
