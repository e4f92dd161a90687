"""Commands on jobs, of this machine's database or of a server: list them, read them, change them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.show import BAD_INPUT, fail, faults_told, print_json, say, table, trial_rows

if TYPE_CHECKING:
    from nas.contracts import Jobs, Request
    from nas.job import Job
    from nas.result import SearchResult
    from nas.trial import Trial

JobId = Annotated[str, typer.Argument(metavar="JOB", help="id of a job, or 'latest'")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, as the HTTP API does")]
Url = Annotated[str | None, typer.Option("--url", help="a server, instead of NAS_URL or this machine's database")]


def jobs(
    json: Json = False, limit: Annotated[int, typer.Option(min=1, help="newest so many")] = 20, url: Url = None
) -> None:
    """List jobs, the newest first."""
    from nas.wire import job_dict

    with faults_told():
        found = store_of_settings(url).jobs(limit=limit)
    if json:
        print_json({"jobs": [job_dict(j) for j in found], "next_page_token": None})
        return
    rows = [[j.id, j.spec.name, j.state.value, sum(j.counts.values()), j.reason or ""] for j in found]
    table(["job", "name", "state", "trials", "reason"], rows)


def trials(
    job: JobId,
    json: Json = False,
    limit: Annotated[int | None, typer.Option(min=1, help="the last so many")] = None,
    url: Url = None,
) -> None:
    """List the trials of a job, by number."""
    from nas.wire import trial_dict

    with faults_told():
        store = store_of_settings(url)
        job = named(store, job)
        spec, found = store.job(job).spec, list(store.trials(job))
    found = found[-limit:] if limit else found
    if json:
        print_json({"trials": [trial_dict(t, job) for t in found], "next_page_token": None})
        return
    columns, rows = trial_rows(found, spec.problem.metrics)
    extra = [[t.state.value, t.reason or _remark(t)] for t in found]
    table([*columns, "state", "reason"], [[*row, *more] for row, more in zip(rows, extra, strict=True)])


def _remark(trial: Trial) -> str:
    broken = "breaks a constraint" if trial.feasible is False else ""
    origin = f"from {trial.origin}" if trial.origin else ""
    return "; ".join(filter(None, [broken, origin]))


def pareto(job: JobId, json: Json = False, url: Url = None) -> None:
    """Show the Pareto front of a job."""
    from nas.pareto import ParetoFront
    from nas.wire import front_dict

    with faults_told():
        store = store_of_settings(url)
        job = named(store, job)
        spec = store.job(job).spec
        front = ParetoFront.of(store.trials(job), spec.problem)
    if json:
        print_json(front_dict(front, job))
        return
    columns, rows = trial_rows(front.trials, spec.problem.metrics)
    table(columns, rows, title=f"Pareto front of job {job} ({', '.join(map(str, spec.objectives))})")
    if front.reference is not None:
        reference = ", ".join(f"{v:.6g}" for v in front.reference)
        typer.echo(f"hypervolume {front.hypervolume():.6g} (reference {reference}: the worst seen of each)")


def cancel(job: JobId, json: Json = False, url: Url = None) -> None:
    """End a job; what was measured stays."""
    _request(job, "cancel", json, url)


def pause(job: JobId, json: Json = False, url: Url = None) -> None:
    """Let a job wait; its runner lets go of it."""
    _request(job, "pause", json, url)


def resume(job: JobId, json: Json = False, url: Url = None) -> None:
    """Put a paused job back into the queue, for a runner."""
    _request(job, "resume", json, url)


def _request(job: str, request: Request, json: bool, url: str | None) -> None:
    with faults_told():
        store = store_of_settings(url)
        changed = store.request(named(store, job), request)
    _say_job(changed, json)


def edit(
    job: JobId,
    trials: Annotated[int | None, typer.Option(help="max_trial_count")] = None,
    parallel: Annotated[int | None, typer.Option(help="parallel_trial_count")] = None,
    name: Annotated[str | None, typer.Option(help="what it is called")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Change the budget of a job, or its name, also while it runs."""
    from nas.edits import edited

    budget = {"max_trial_count": trials, "parallel_trial_count": parallel}
    budget = {key: value for key, value in budget.items() if value is not None}
    patch = ({"budget": budget} if budget else {}) | ({} if name is None else {"name": name})
    if not patch:
        fail("nothing to change; give --trials, --parallel or --name", BAD_INPUT)
    with faults_told(json):
        store = store_of_settings(url)
        job = named(store, job)
        free = sum(t.taken_over for t in store.trials(job)) if store.job(job).spec.warm_start else 0
        changed = store.edit(job, lambda found: edited(found, patch, taken_over=free, now=time.time()))
    _say_job(changed, json)


def delete(job: JobId, url: Url = None) -> None:
    """Forget a job with its trials and its files, for good."""
    from nas.settings import open_configured_artifacts

    with faults_told():
        store = store_of_settings(url)
        job = named(store, job)
        store.delete(job)
        open_configured_artifacts().delete(job)
    say(f"job {job} is deleted")


def _say_job(job: Job, json: bool) -> None:
    from nas.wire import job_dict

    if json:
        print_json(job_dict(job))
    else:
        say(f"job {job.id} is {job.state.value}, {job.spec.budget.max_trial_count} trials")


def store_of_settings(url: str | None = None) -> Jobs:
    """The jobs of the server at `url` or, without it, those that the environment names.

    Raises:
        SpecError: for a setting with a value that it cannot have.
        DatabaseError: where the database cannot be used.
    """
    from nas.settings import open_configured_store, read_settings

    if url or read_settings().url:
        from nas.remote.client import Client

        return Client(url).store
    return open_configured_store()


def result_of(store: Jobs, job_id: str) -> SearchResult:
    """The result of a job as it stands. Raises `KeyError`."""
    from nas.remote.store import RemoteStore

    if isinstance(store, RemoteStore):
        from nas.remote.result import result_of as remote_result

        return remote_result(store.job(job_id), store.trials(job_id))
    from nas.local import result_of as local_result
    from nas.local import study_of

    return local_result(store, study_of(store.job(job_id).spec), job_id)


def named(store: Jobs, job: str) -> str:
    """The id of a job, where ``latest`` stands for the newest. Raises `KeyError` where there is none."""
    if job != "latest":
        return job
    newest = store.jobs(limit=1)
    if not newest:
        raise KeyError(job)
    return newest[0].id
