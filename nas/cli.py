"""The `nas` command. Exit codes: 0 done, 1 failed, 2 bad input, 3 no such job or wrong state, 130 interrupted."""

from __future__ import annotations

import typer

from nas.commands import config, deploy, draw, family, jobs, keys, latency, predictors, search, service, spaces

app = typer.Typer(
    name="nas",
    help="Neural architecture search: one document, on this machine or as a service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    search.search,
    jobs.pareto,
    family.family,
    predictors.predictors,
    latency.latency,
    deploy.retrain,
    deploy.export,
    jobs.trials,
    jobs.jobs,
    jobs.cancel,
    jobs.pause,
    jobs.resume,
    jobs.edit,
    jobs.delete,
    service.serve,
    service.runner,
    config.config,
):
    app.command()(command)
spaces.app.command()(draw.draw)
app.add_typer(spaces.app, name="space")
app.add_typer(service.db, name="db")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point of the console script."""
    app()
