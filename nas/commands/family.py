"""The command that gives the best network under each of several constraints."""

from __future__ import annotations

import json as text
from typing import Annotated

import typer

from nas.commands.jobs import JobId, Json, Url, named, result_of, store_of_settings
from nas.commands.show import faults_told, print_json, say, short, table


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
    with faults_told(json):
        store = store_of_settings(url)
        result = result_of(store, named(store, job))
        rows = result.family(objective or result.job.spec.objectives[0], *constraint, seed=seed)
    if json:
        print_json({"family": text.loads(rows.to_json(orient="records"))})
        return
    shown = [c for c in rows.columns if c != "architecture"]
    cells = rows[shown].astype(object).where(rows[shown].notna(), "").values.tolist()
    networks = map(short, rows["architecture"])
    table([*shown, "architecture"], [[*row, network] for row, network in zip(cells, networks, strict=True)])
    if not rows["meets"].all():
        say("where `meets` is False no network was found that keeps the constraint; the nearest is shown")
