"""`nas search`: a search on this machine, kept in the database, or on a server (see `search_remote`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nas.commands.interrupts import interruptible
from nas.commands.jobs import Url, named
from nas.commands.show import BAD_INPUT, INTERRUPTED, fail, faults_told, print_json, say, table, trial_rows

if TYPE_CHECKING:
    from nas.local import LocalStore
    from nas.result import SearchResult
    from nas.runner import Study
    from nas.trial import Trial

Executor = Literal["ray", "inline", "simulated"]
Tested = Literal["best", "front", "none"]


def search(
    spec: Annotated[Path | None, typer.Argument(help="the document, YAML or JSON", show_default=False)] = None,
    executor: Annotated[
        Executor | None, typer.Option(help="where evaluations run  [default: ray; a server decides itself]")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="max_trial_count, instead of the document's")] = None,
    parallel: Annotated[int | None, typer.Option(help="parallel_trial_count, likewise")] = None,
    seed: Annotated[int | None, typer.Option(help="seed, likewise")] = None,
    test: Annotated[
        Tested | None,
        typer.Option(help="networks to measure on test data at the end, here  [default: best; of a server none]"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="write an HTML report here")] = None,
    resume: Annotated[str | None, typer.Option(metavar="JOB", help="go on with a job, instead of SPEC")] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option("--warm-start", metavar="JOB", help="learn from this job (id, or latest); repeatable"),
    ] = None,
    validate_only: Annotated[bool, typer.Option(help="check the document, and do nothing")] = False,
    json: Annotated[bool, typer.Option("--json", help="print the front as JSON")] = False,
    url: Url = None,
) -> None:
    """Search: on the server at NAS_URL, or on this machine, with the job in the database (NAS_DATABASE_URL)."""
    if (spec is None) == (resume is None):
        fail("give either a document or --resume JOB", BAD_INPUT)
    if resume is not None and not (trials is parallel is seed is None and not warm_start and not validate_only):
        options = "--trials, --parallel, --seed, --warm-start and --validate-only"
        hint = f"to change its budget: nas edit {resume} --trials N --parallel N"
        fail(f"--resume goes on with the job's own document; leave out {options}; {hint}", BAD_INPUT)
    overrides = {"max_trial_count": trials, "parallel_trial_count": parallel, "seed": seed}
    with faults_told():
        from nas.settings import read_settings

        if address := url or read_settings().url:
            from nas.commands.search_remote import begun, watched

            if executor is not None:
                fail("--executor is for searches on this machine; a server decides itself", BAD_INPUT)
            job = begun(address, spec, resume, warm_start or (), overrides, validate_only)
            if job is None:
                return
            result = _tested(watched(job), test or "none", "ray")
        else:
            local = _begun(spec, resume, warm_start or (), overrides, validate_only)
            if local is None:
                return
            result = _ended(*local, executor or "ray", test or "best")
    _show(result, json)
    if report is not None:
        say(f"report: {result.report(report)}")


def _begun(
    spec: Path | None,
    resume: str | None,
    warm_start: Sequence[str],
    overrides: Mapping[str, int | None],
    validate_only: bool,
) -> tuple[LocalStore, Study, str] | None:
    """The job on this machine, new or to be resumed; None where the document was only to be checked."""
    from nas.local import read_study, study_of, submit
    from nas.settings import open_configured_store

    if resume is not None:
        store = open_configured_store()
        job_id = named(store, resume)
        return store, study_of(store.job(job_id).spec), job_id
    jobs = [named(open_configured_store(), job) for job in warm_start]
    study = read_study(spec or "", **overrides, warm_start=jobs or None)
    if validate_only:
        _validated(study)
        return None
    store = open_configured_store()
    job_id = submit(store, study)
    say_warm_start(store.trials(job_id))
    return store, study, job_id


def _ended(store: LocalStore, study: Study, job_id: str, executor: Executor, test: Tested) -> SearchResult:
    """The result of the search, with test metrics. Leaves the command where it is interrupted."""
    from nas.job import JobState
    from nas.local import result_of

    if store.job(job_id).state is JobState.SUCCEEDED:
        say_over(job_id)
        return _tested(result_of(store, study, job_id), test, executor)
    try:
        with workers(executor, study):
            return _tested(_driven(store, study, job_id, executor), test, executor)
    except KeyboardInterrupt:  # before the job was claimed, or once it was over
        say(f"interrupted; what was measured is kept. To go on: nas search --resume {job_id}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def workers(executor: Executor, study: Study) -> Iterator[None]:
    """What several phases of the command share, with SIGTERM understood as Ctrl-C."""
    from nas.executors import session

    with interruptible() as listen, ExitStack() as stack:
        try:
            stack.enter_context(session(executor, study.spec.budget.parallel_trial_count))
        except SystemExit:  # SIGTERM met Ray's handler, for Ray was just starting
            raise KeyboardInterrupt from None
        finally:
            listen()
        yield


def _validated(study: Study) -> None:
    """Look up the jobs that the document names, and say that it is valid. Without such, opens no database."""
    from nas.settings import open_configured_store
    from nas.warm_start import first_trials

    if study.spec.warm_start:
        first_trials(open_configured_store(), study.spec, study.space)
    say(f"the document is valid: {study.space.size:.3g} points")


def say_warm_start(trials: Sequence[Trial]) -> None:
    """What a new job begins with."""
    taken = sum(t.taken_over for t in trials)
    if trials:
        say(f"warm start: {taken} trials taken over, {len(trials) - taken} networks to be measured anew first")


def say_over(job_id: str) -> None:
    """Why a job that is resumed is not searched on with."""
    say(f"job {job_id} has SUCCEEDED already; here is what it found")


def _driven(store: LocalStore, study: Study, job_id: str, executor: Executor) -> SearchResult:
    """Search to the end. Leaves the command where the search was interrupted or failed."""
    from nas.job import JobState
    from nas.local import drive
    from nas.result import SearchFailed

    trials = study.spec.budget.max_trial_count
    say(f"job {job_id}: {study.spec.name}, {study.space.size:.3g} points, {trials} trials")
    try:
        result = drive(store, study, job_id, executor, progress=True)
    except SearchFailed as error:
        fail(str(error))
    if result.state is JobState.PAUSED:
        say(f"interrupted; {len(result.all_trials)} trials are kept. To go on: nas search --resume {job_id}")
        raise typer.Exit(INTERRUPTED)
    return result


def _tested(result: SearchResult, which: Tested, executor: Executor) -> SearchResult:
    """The result with test metrics of the networks asked for, where the evaluator has a test split.

    Leaves the command where it is interrupted.
    """
    from nas.held_out import can_test
    from nas.summary import highlights

    if which == "none" or not can_test(result.study.evaluator) or not result.front.trials:
        return result
    named = [h.trial.number for h in highlights(result.all_trials, result.study.space)]
    numbers = named[:1] if which == "best" else [*(t.number for t in result.front.trials), *named]
    numbers = list(dict.fromkeys(numbers or [result.front.trials[0].number]))
    try:
        say(f"testing {len(numbers)} chosen network{'s'[: len(numbers) > 1]} on test data, trained again for that")
        with workers(executor, result.study):
            return result.test(numbers, executor, progress=True)
    except KeyboardInterrupt:
        say(f"interrupted; the search is done. To test: nas search --resume {result.job.id} --test {which}")
        raise typer.Exit(INTERRUPTED) from None


def _show(result: SearchResult, json: bool) -> None:
    """The front: a table and what stands out, or JSON."""
    from nas.summary import highlights
    from nas.wire import front_dict

    if json:
        tests = {str(n): dict(m) for n, m in result.tested.items()}
        front = front_dict(result.front, result.job.id)
        print_json({"job": result.job.id, "state": result.state.value, **front, "tested": tests})
        return
    spec = result.job.spec
    if not result.front.trials:
        say(f"no feasible trial was measured ({len(result.all_trials)} trials); see: nas trials {result.job.id}")
        return
    columns, rows = trial_rows(result.front.trials, spec.problem.metrics, result.tested)
    table(columns, rows, title=f"Pareto front of job {result.job.id} ({', '.join(map(str, spec.objectives))})")
    for found in highlights(result.all_trials, result.study.space):
        values = {**found.trial.metrics, **result.tested.get(found.trial.number, {})}
        shown = [m for m in dict.fromkeys([*spec.problem.metrics, "test_accuracy"]) if m in values]
        told = ", ".join(f"{m} {values[m]:.6g}" for m in shown)
        typer.echo(f"{found.title}: trial {found.trial.number}, {told}{'; ' if found.note else ''}{found.note}")
