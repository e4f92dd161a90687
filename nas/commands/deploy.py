"""From a point on the front to a file that runs: `nas retrain` and `nas export`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from nas.commands.interrupts import interruptible
from nas.commands.jobs import JobId, Json, Url, named, result_of, store_of_settings
from nas.commands.search import workers
from nas.commands.show import BAD_INPUT, FAILED, INTERRUPTED, fail, faults_told, print_json, say, table

if TYPE_CHECKING:
    from nas.contracts import Jobs
    from nas.deploy.card import ModelCard
    from nas.deploy.retrain import Retrained
    from nas.remote.store import RemoteStore
    from nas.result import SearchResult
    from nas.trial import Trial

Which = Annotated[
    str, typer.Argument(metavar="TRIAL", help="a number, 'best', or an objective: \"min model_size_bytes\"")
]
Executor = Literal["ray", "inline"]
Format = Literal["onnx", "pt2", "state"]
Weights = Literal["auto", "checkpoint", "retrained", "final"]
Made: TypeAlias = "dict[int, ModelCard | str]"
"""By the trial's number, the card of its file, or why there is none."""


def retrain(
    job: JobId,
    trial: Which,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="trainings, each from another seed")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of those of the recipe")] = None,
    executor: Annotated[Executor, typer.Option(help="where trainings run")] = "ray",
    json: Json = False,
    url: Url = None,
) -> None:
    """Train a trial's network on training and validation data, test it, and keep its weights."""
    from nas.deploy.deliver import seeds_of
    from nas.deploy.retrain import retrain as run
    from nas.evaluators.infeasible import Infeasible
    from nas.progress import counted
    from nas.remote.store import RemoteStore
    from nas.settings import open_configured_artifacts

    with faults_told(json):
        store, result = _opened(job, url)
        (chosen,) = _chosen(result, trial)
        if isinstance(store, RemoteStore):
            fail(_not_there(store.http.url, result.job.id, chosen.number), BAD_INPUT)
        artifacts = open_configured_artifacts()
        say(f"retraining trial {chosen.number} on training and validation data; it is tested on test data")
        progress = counted("retraining", seeds, True)
        with _interruptible(), workers(executor, result.study), progress as observe:
            try:
                found = run(
                    *(result.job, result.study, chosen, seeds, epochs),
                    executor=executor,
                    artifacts=artifacts,
                    origins=seeds_of([chosen], store.job),
                    observe=observe,
                )
            except Infeasible as error:
                fail(str(error))
    _show_retrained(found, chosen, json)


def export(
    job: JobId,
    trial: Annotated[
        str | None,
        typer.Argument(metavar="[TRIAL]", help="a number, 'best', or an objective: \"min model_size_bytes\""),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="a file, or with --front a folder; else trial-N.onnx here"),
    ] = None,
    front: Annotated[bool, typer.Option("--front", help="every network of the front, instead of TRIAL")] = False,
    form: Annotated[Format | None, typer.Option("--format", help="else as the file's ending says")] = None,
    weights: Annotated[
        Weights, typer.Option(help="of a checkpoint, trained again, or what nas retrain has trained (final)")
    ] = "auto",
    data_licence: Annotated[str, typer.Option(help="of the data, for the model card")] = "unknown",
    executor: Annotated[
        Executor | None, typer.Option(help="where networks are trained; else inline, and of several ray")
    ] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Write a trial's network to a file that runs, checked against the trial, with a model card beside it."""
    from nas.deploy.deliver import split
    from nas.remote.store import RemoteStore

    if (trial is None) == (not front):
        fail("give either a trial or --front", BAD_INPUT)
    with faults_told(json), _disk_told():
        store, result = _opened(job, url)
        trials = list(result.front.trials) if trial is None else _chosen(result, trial)
        targets = _targets([t.number for t in trials], output, front, form)
        _probe(targets.values())
        if not isinstance(store, RemoteStore):
            found = _made_here(store, result, trials, targets, weights, data_licence, executor)
        elif executor is None:
            found = _made_there(store, result, targets, weights, data_licence)
        else:
            fail("--executor is for exports on this machine; a server decides itself", BAD_INPUT)
    cards, reasons = split(found)
    _show_exported(cards, reasons, targets, json)
    if reasons:
        raise typer.Exit(FAILED)


def _made_here(
    store: Jobs,
    result: SearchResult,
    trials: Sequence[Trial],
    targets: Mapping[int, Path],
    weights: Weights,
    data_licence: str,
    executor: Executor | None,
) -> Made:
    """Files that this machine writes and checks."""
    from nas.deploy.deliver import Order, export, seeds_of
    from nas.progress import counted
    from nas.settings import open_configured_artifacts

    order = Order(result.job, result.study, trials, weights, data_licence, seeds_of(trials, store.job))
    where = executor or ("inline" if len(trials) == 1 else "ray")
    progress = counted("exporting", len(trials), len(trials) > 1)
    with _interruptible(), workers(where, result.study), progress as observe:
        return export(order, targets, where, open_configured_artifacts(), observe)


def _made_there(
    store: RemoteStore, result: SearchResult, targets: Mapping[int, Path], weights: Weights, data_licence: str
) -> Made:
    """Files that a server's runners write and check, fetched from it."""
    from nas.progress import counted
    from nas.remote.export import exported

    told = "the server goes on with what it was asked for"
    with _interruptible(told), counted("exporting", len(targets), True) as observe:
        return exported(store.http, result.job.id, targets, weights, data_licence, observe=observe)


def _opened(job: str, url: str | None) -> tuple[Jobs, SearchResult]:
    """A job as it stands, and where it is."""
    store = store_of_settings(url)
    return store, result_of(store, named(store, job))


def _chosen(result: SearchResult, which: str) -> list[Trial]:
    """The one trial that is meant.

    Raises:
        SpecError: for what is neither a number nor an objective.
        WrongState: where the job has no such trial with metrics.
    """
    from nas.deploy.deliver import measured_trial
    from nas.job import WrongState
    from nas.objectives import Objective
    from nas.summary import highlights
    from search_spaces import SpecError

    if which.isdecimal():
        return [measured_trial(result.all_trials, int(which))]
    if which == "best":
        named = highlights(result.all_trials, result.study.space)
        if not named:
            raise WrongState(f"job {result.job.id} has no feasible trial with an accuracy")
        return [named[0].trial]
    try:
        objective = Objective.parse(which)
    except SpecError:
        message = f"{which!r} is not allowed; allowed: a number, best, or an objective such as 'max accuracy'"
        raise SpecError.at("TRIAL", message) from None
    try:
        return [result.all_trials[int(result.pick(objective)["number"])]]
    except ValueError as error:
        raise WrongState(str(error)) from None


def _targets(numbers: Sequence[int], output: Path | None, front: bool, form: Format | None) -> dict[int, Path]:
    """The file of each trial. Raises `SpecError` for one whose ending says something else than `form`."""
    from nas.exports import ENDINGS
    from search_spaces import SpecError

    ending = ENDINGS[form or "onnx"]
    if front or output is None:
        return {n: (output or Path()) / f"trial-{n}{ending}" for n in numbers}
    if form is not None and output.suffix != ending:
        raise SpecError.at("--output", f"{str(output)!r} is no {form} file; allowed: an ending of {ending}")
    return dict.fromkeys(numbers, output)


def _probe(targets: Iterable[Path]) -> None:
    """Raises `SpecError` where files cannot be written, as far as that can be told before there are any."""
    from search_spaces import SpecError

    for target in targets:
        if target.is_dir():
            raise SpecError.at("--output", f"{str(target)!r} is a folder; a file is needed")
    for folder in {target.absolute().parent for target in targets}:
        there = next(f for f in (folder, *folder.parents) if f.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise SpecError.at("--output", f"{str(there)!r} cannot be written to: {error.strerror}") from None


@contextmanager
def _disk_told() -> Iterator[None]:
    """A disk that is full, say, is one clear message."""
    try:
        yield
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _not_there(url: str, job: str, trial: int) -> str:
    return (
        f"nas retrain trains on this machine, and job {job} is on {url}; run it where NAS_DATABASE_URL is that of "
        f"the job's runner, or let the server train: nas export {job} {trial} --weights retrained"
    )


@contextmanager
def _interruptible(told: str = "no file was written that has not passed its checks") -> Iterator[None]:
    """Ctrl-C and SIGTERM leave the command."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        say(f"interrupted; {told}")
        raise typer.Exit(INTERRUPTED) from None


def _show_retrained(found: Retrained, trial: Trial, json: bool) -> None:
    if json:
        over_runs = {"test_accuracy": found.test_accuracy, "test_accuracy_std": found.test_accuracy_std}
        print_json({**asdict(found), **over_runs})
        return
    table(
        ["seed", "test accuracy", "test loss", "seconds"],
        [[run.seed, run.test_accuracy, run.test_loss, f"{run.train_seconds:.1f}"] for run in found.runs],
        title=f"trial {found.trial}, {found.epochs} epochs of {found.examples} examples",
    )
    spread = "" if found.test_accuracy_std is None else f" ± {found.test_accuracy_std:.2g} (standard deviation)"
    typer.echo(f"test accuracy {found.test_accuracy:.4f}{spread} over {len(found.runs)} trainings")
    typer.echo(f"accuracy of the trial on validation data: {trial.metrics['accuracy']:.4f}")
    for reason in found.broken:
        say(reason)


def _show_exported(
    cards: Mapping[int, ModelCard], reasons: Mapping[int, str], targets: Mapping[int, Path], json: bool
) -> None:
    if json:
        print_json({"exports": [asdict(card) for card in cards.values()], "failed": reasons})
    elif cards:
        rows = []
        for number, card in sorted(cards.items()):
            checked = {c.name: c.measured for c in card.verification}
            promised = [card.metric(name) for name in ("model_size_bytes", "accuracy")]
            of_file = [checked.get("accuracy"), checked.get("agreement")]
            rows.append([number, targets[number], card.file.bytes, *promised, *of_file])
        table(["trial", "file", "bytes", "formula", "accuracy", "file's", "agreement"], rows)
    for reason in reasons.values():
        typer.echo(f"error: {reason}", err=True)
