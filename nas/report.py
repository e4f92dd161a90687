"""A search as one HTML file that needs no network: every trial, the front, how predictors did, the document."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.objectives import Objective
from nas.summary import highlights
from nas.trial import Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from nas.predictor_quality import Judgement
    from nas.result import SearchResult

_STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c2733}
h1 {font-size: 1.5rem} h2 {font-size: 1.15rem; margin-top: 2rem}
table {border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem}
th, td {text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #dde3ea; vertical-align: top}
td.n {text-align: right; white-space: nowrap} th.n {text-align: right}
pre {background: #f4f6f8; padding: 1rem; overflow-x: auto; font-size: .85rem}
.arch {color: #51606f; font-size: .8rem}
"""
_GREY, _BLUE = "#a9b4c0", "#1f6feb"
_COLOURS = (_BLUE, "#d1663a", "#2f9e6e", "#9a5fc0", "#b08a1e", "#c2417c")

LEARNT = 1000
"""The report shows predictors that learnt from at most so many trials: beyond, fits take long."""


def pareto_figure(result: SearchResult) -> Figure:
    """All measured trials over the first two objectives, the front on top; a third objective is the colour.

    With one objective: its value over the trials, in the order in which they finished.
    """
    import plotly.graph_objects as go

    objectives = result.job.spec.objectives
    measured = sorted((t for t in result.all_trials if t.measured), key=lambda t: t.order or 0)
    front = result.front.trials
    figure = go.Figure()
    if len(objectives) == 1:
        only = objectives[0]
        figure.add_scatter(
            x=[t.order for t in measured],
            y=[t.metrics[only.metric] for t in measured],
            mode="markers",
            name="trials",
            text=[_hover(t) for t in measured],
            hovertemplate="%{text}<extra></extra>",
            marker={"color": _BLUE},
        )
        return figure.update_layout(
            xaxis_title="finished trials", yaxis_title=only.metric, template="plotly_white"
        )
    vertical, horizontal = objectives[0], objectives[1]
    names = {t.number for t in front}
    groups = [
        (
            "breaks a constraint",
            [t for t in measured if not t.feasible],
            {"color": _GREY, "symbol": "x-thin-open"},
        ),
        ("dominated", [t for t in measured if t.feasible and t.number not in names], {"color": _GREY}),
        ("Pareto front", list(front), _front_marker(front, objectives[2:])),
    ]
    for name, trials, marker in groups:
        if trials:
            figure.add_scatter(
                x=[t.metrics[horizontal.metric] for t in trials],
                y=[t.metrics[vertical.metric] for t in trials],
                mode="lines+markers" if name == "Pareto front" and len(objectives) == 2 else "markers",
                line={"shape": "hv", "width": 1, "color": _BLUE},
                name=name,
                text=[_hover(t) for t in trials],
                hovertemplate="%{text}<extra></extra>",
                marker=marker,
            )
    figure.update_layout(
        xaxis_title=str(horizontal),
        yaxis_title=str(vertical),
        template="plotly_white",
        height=560,
        legend={"orientation": "h", "y": 1.08},
    )
    values = [t.metrics[horizontal.metric] for t in measured]
    if values and min(values) > 0 and max(values) / min(values) > 20:
        figure.update_xaxes(type="log")
    return figure


def quality_figure(judgements: Sequence[Judgement]) -> Figure:
    """Kendall's tau and the coverage of 90% intervals over the trials learnt from: a colour for each metric.

    Full lines: held out. Dashed: later trials. Bars are 90% intervals.
    """
    from plotly.subplots import make_subplots

    shown = {"kendall": "Kendall tau", "coverage_90": "measurements inside the 90% interval"}
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(shown.values()))
    metrics = list(dict.fromkeys(j.metric for j in judgements))
    for metric, judged_on in dict.fromkeys((j.metric, j.judged_on) for j in judgements):
        line = [j for j in judgements if (j.metric, j.judged_on) == (metric, judged_on)]
        for column, name in enumerate(shown, 1):
            values = [j.figures[name] for j in line]
            figure.add_scatter(
                x=[j.trials for j in line],
                y=[v.value for v in values],
                error_y={
                    "array": [v.high - v.value for v in values],
                    "arrayminus": [v.value - v.low for v in values],
                    "thickness": 1,
                },
                customdata=[[v.low, v.high, j.quality.count] for v, j in zip(values, line, strict=True)],
                hovertemplate="%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}] after %{x} trials, "
                "on %{customdata[2]} networks",
                name=f"{metric}, {judged_on.replace('_', ' ')}",
                legendgroup=f"{metric} {judged_on}",
                showlegend=column == 1,
                line={
                    "color": _COLOURS[metrics.index(metric) % len(_COLOURS)],
                    "dash": "solid" if judged_on == "held_out" else "dash",
                },
                row=1,
                col=column,
            )
    figure.add_hline(0.9, line={"color": _GREY, "width": 1}, row=1, col=2)
    ticks = sorted({j.trials for j in judgements})
    figure.update_xaxes(type="log", tickvals=ticks, title="trials learnt from")
    return figure.update_layout(template="plotly_white", height=420, legend={"orientation": "h", "y": -0.25})


def write_report(result: SearchResult, path: Path) -> Path:
    """Write the report; an existing file is replaced as a whole. Returns the path."""
    text = render(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def render(result: SearchResult) -> str:
    """The report as HTML."""
    import plotly.io

    job = result.job
    plot = plotly.io.to_html(pareto_figure(result), include_plotlyjs=True, full_html=False)
    counts: dict[str, int] = {}
    for trial in result.all_trials:
        counts[trial.state.value] = counts.get(trial.state.value, 0) + 1
    told = ", ".join(f"{n} {state}" for state, n in counts.items()) or "no trials"
    if taken := sum(t.taken_over for t in result.all_trials):
        told += f"; {taken} of them measured by other jobs"
    title = html.escape(job.spec.name)
    wanted = html.escape(", ".join(map(str, (*job.spec.objectives, *job.spec.constraints))))
    reference = ", ".join(f"{v:.6g}" for v in result.front.reference or ())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p>{wanted}. Job {html.escape(job.id)} is {job.state.value}: {told}. Hypervolume {result.hypervolume():.6g}
(reference {html.escape(reference)}: the worst seen of each objective).</p>
{plot}
{_highlights(result)}
<h2>Pareto front</h2>{_table(result, result.front.trials)}
<p>Metrics are of the validation split. Test metrics, where they stand, were measured once, at the end, on
networks trained again by the same recipe and seed.</p>
{_predictors(result)}
<h2>Document</h2><pre>{html.escape(json.dumps(job.spec.dump(), indent=2))}</pre>
</body></html>
"""


def _predictors(result: SearchResult) -> str:
    """How far predictors can be trusted, with a picture where there is something to show."""
    import plotly.io

    from nas.predictor_quality import predictor_quality

    found = predictor_quality(result.study.space, result.job.spec.problem, result.all_trials, LEARNT)
    told = ". ".join(found.remarks)
    parts = ["<h2>How far predictors can be trusted</h2>", f"<p>{html.escape(told)}.</p>" if told else ""]
    if found.judgements:
        figure = quality_figure(found.judgements)
        parts.append(plotly.io.to_html(figure, include_plotlyjs=False, full_html=False))
        parts.append(
            "<p>A predictor that had learnt from the first trials, judged on networks that it had not seen. Held "
            "out: each of these trials, expected from the others. Later: the trials that followed. The searcher "
            "chose these, most of them near the best, so their ranks are harder to tell than those of random "
            "networks.</p>"
        )
    return "".join(parts)


def _highlights(result: SearchResult) -> str:
    found = highlights(result.all_trials, result.study.space)
    rows = [
        f"<li><b>{html.escape(h.title)}</b>: trial {h.trial.number}, {html.escape(_metrics(result, h.trial))}"
        f"{'; ' + html.escape(h.note) if h.note else ''}</li>"
        for h in found
    ]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def _metrics(result: SearchResult, trial: Trial) -> str:
    values: Mapping[str, float] = {**trial.metrics, **result.tested.get(trial.number, {})}
    shown = dict.fromkeys([*result.job.spec.problem.metrics, "test_accuracy"])
    return ", ".join(f"{name} {values[name]:.6g}" for name in shown if name in values)


def _table(result: SearchResult, trials: Sequence[Trial]) -> str:
    metrics = list(result.job.spec.problem.metrics)
    tests = list(dict.fromkeys(m for t in trials for m in result.tested.get(t.number, {})))
    head = "".join(f'<th class="n">{html.escape(m)}</th>' for m in (*metrics, *tests))
    body = []
    for trial in trials:
        values = {**trial.metrics, **result.tested.get(trial.number, {})}
        cells = "".join(f'<td class="n">{_number(values.get(m))}</td>' for m in (*metrics, *tests))
        arch = html.escape(", ".join(f"{k} {v}" for k, v in trial.architecture.items()))
        body.append(f'<tr><td class="n">{trial.number}</td>{cells}<td class="arch">{arch}</td></tr>')
    return f'<table><tr><th class="n">trial</th>{head}<th>architecture</th></tr>{"".join(body)}</table>'


def _front_marker(front: Sequence[Trial], others: Sequence[Objective]) -> dict[str, Any]:
    if not others:
        return {"color": _BLUE, "size": 9}
    metric = others[0].metric
    return {
        "color": [t.metrics[metric] for t in front],
        "colorscale": "Viridis",
        "colorbar": {"title": metric},
        "size": 10,
    }


def _hover(trial: Trial) -> str:
    values = "<br>".join(f"{html.escape(k)} = {v:.6g}" for k, v in trial.metrics.items())
    arch = "<br>".join(f"{html.escape(k)}: {html.escape(str(v))}" for k, v in trial.architecture.items())
    origin = f" (from {trial.origin})" if trial.origin else ""
    return f"<b>trial {trial.number}</b>{html.escape(origin)}<br>{values}<br><br>{arch}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
