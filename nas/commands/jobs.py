"""Commands on jobs that are kept in the database: list them, read them, change their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.show import faults_told, print_json, say, table, trial_rows

if TYPE_CHECKING:
    from nas.contracts import Request
    from nas.local import LocalStore
    from nas.trial import Trial

JobId = Annotated[str, typer.Argument(metavar="JOB", help="id of a job, or 'latest'")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, as the HTTP API does")]


def jobs(json: Json = False, limit: Annotated[int, typer.Option(min=1, help="newest so many")] = 20) -> None:
    """List jobs, the newest first."""
    from nas.wire import job_dict

    with faults_told():
        found = store_of_settings().jobs(limit=limit)
    if json:
        print_json({"jobs": [job_dict(j) for j in found], "next_page_token": None})
        return
    rows = [[j.id, j.spec.name, j.state.value, sum(j.counts.values()), j.reason or ""] for j in found]
    table(["job", "name", "state", "trials", "reason"], rows)


def trials(
    job: JobId,
    json: Json = False,
    limit: Annotated[int | None, typer.Option(min=1, help="the last so many")] = None,
) -> None:
    """List the trials of a job, by number."""
    from nas.wire import trial_dict

    with faults_told():
        store = store_of_settings()
        job = named(store, job)
        spec, found = store.job(job).spec, list(store.trials(job))
    found = found[-limit:] if limit else found
    if json:
        print_json({"trials": [trial_dict(t) for t in found], "next_page_token": None})
        return
    columns, rows = trial_rows(found, spec.problem.metrics)
    extra = [[t.state.value, t.reason or _remark(t)] for t in found]
    table([*columns, "state", "reason"], [[*row, *more] for row, more in zip(rows, extra, strict=True)])


def _remark(trial: Trial) -> str:
    broken = "breaks a constraint" if trial.feasible is False else ""
    origin = f"from {trial.origin}" if trial.origin else ""
    return "; ".join(filter(None, [broken, origin]))


def pareto(job: JobId, json: Json = False) -> None:
    """Show the Pareto front of a job."""
    from nas.pareto import ParetoFront
    from nas.wire import front_dict

    with faults_told():
        store = store_of_settings()
        job = named(store, job)
        spec = store.job(job).spec
        front = ParetoFront.of(store.trials(job), spec.problem)
    if json:
        print_json(front_dict(front))
        return
    columns, rows = trial_rows(front.trials, spec.problem.metrics)
    table(columns, rows, title=f"Pareto front of job {job} ({', '.join(map(str, spec.objectives))})")
    if front.reference is not None:
        reference = ", ".join(f"{v:.6g}" for v in front.reference)
        typer.echo(f"hypervolume {front.hypervolume():.6g} (reference {reference}: the worst seen of each)")


def cancel(job: JobId, json: Json = False) -> None:
    """End a job; what was measured stays."""
    _request(job, "cancel", json)


def pause(job: JobId, json: Json = False) -> None:
    """Let a job wait; its runner lets go of it."""
    _request(job, "pause", json)


def resume(job: JobId, json: Json = False) -> None:
    """Put a paused job back into the queue, for a runner."""
    _request(job, "resume", json)


def _request(job: str, request: Request, json: bool) -> None:
    from nas.wire import job_dict

    with faults_told():
        store = store_of_settings()
        changed = store.request(named(store, job), request)
    if json:
        print_json(job_dict(changed))
    else:
        say(f"job {changed.id} is {changed.state.value}")


def store_of_settings() -> LocalStore:
    """The store that the environment names."""
    from nas.settings import open_configured_store

    return open_configured_store()


def named(store: LocalStore, job: str) -> str:
    """The id of a job, where ``latest`` stands for the newest. Raises `KeyError` where there is none."""
    if job != "latest":
        return job
    newest = store.jobs(limit=1)
    if not newest:
        raise KeyError(job)
    return newest[0].id
