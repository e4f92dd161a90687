"""The command that gives the best network under each of several constraints."""

from __future__ import annotations

import json as text
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.jobs import JobId, Json, Url, named, result_of, store_of_settings
from nas.commands.show import faults_told, print_json, say, short, table

if TYPE_CHECKING:
    from nas.objectives import Constraint


def family(
    job: JobId,
    constraint: Annotated[
        list[str], typer.Option("--constraint", "-c", help='"macs <= 50e6"; again for the next')
    ],
    objective: Annotated[str | None, typer.Option(help='"max accuracy"; default: the first of the job')] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    url: Url = None,
) -> None:
    """Predict the best network under each constraint from a job's trials, in seconds; nothing is measured."""
    from nas.objectives import Constraint, Objective

    with faults_told(json):
        store = store_of_settings(url)
        result = result_of(store, named(store, job))
        wanted = Objective.parse(objective or result.job.spec.objectives[0])
        rows = result.family(wanted, *constraint, seed=seed)
    if json:
        print_json({"family": text.loads(rows.to_json(orient="records"))})
        return
    found: list[Any] = rows.astype(object).where(rows.notna(), None).to_dict("records")
    metrics = [name.removesuffix("_std") for name in rows.columns if name.endswith("_std")]
    measured = f"best_measured_{wanted.metric}"
    bounds = [_brief(Constraint.parse(c)) for c in constraint]
    cells = [
        [bound, *(_expected(r, m) for m in metrics), _source(r), _trial(r["best_measured"], r[measured])]
        for bound, r in zip(bounds, found, strict=True)
    ]
    table(["constraint", *metrics, "from", "best measured"], cells)
    for bound, row in zip(bounds, found, strict=True):
        typer.echo(f"{bound}: {short(row['architecture'])}")
    if not rows["meets"].all():
        say("nearest: no network was found that keeps the constraint, or those of the job")


def _brief(constraint: Constraint) -> str:
    return f"{constraint.metric} {constraint.relation} {constraint.bound:.6g}"


def _expected(row: Mapping[str, Any], metric: str) -> str:
    """A metric, with its standard deviation where it is only predicted."""
    value, std = row[metric], row[f"{metric}_std"]
    return f"{value:.4g} ± {std:.2g}" if std else f"{value:.6g}"


def _source(row: Mapping[str, Any]) -> str:
    """What the row's figures come from."""
    source = "predictor" if row["measured"] is None else f"trial {row['measured']}"
    return source if row["meets"] else f"{source}, nearest"


def _trial(number: int | None, value: float | None) -> str:
    return "" if number is None else f"{value:.4g}, trial {number}"
