"""From trials of a job to files in a folder: all of a request at once, each there whole or not at all."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from nas.artifacts import Artifacts
from nas.deploy.card import ModelCard, card_json, card_markdown, read_card
from nas.deploy.export import CARD, MODEL, NEEDS, Exporter, OfTrial, kept_as
from nas.evaluators.training import TrainingConfig, TrainingEvaluator
from nas.executors import ExecutorKind
from nas.executors.attempt import Task
from nas.executors.errands import outcomes
from nas.executors.slots import Slots
from nas.exports import ENDINGS, UNKNOWN, Format, Weights
from nas.job import Job, WrongState
from nas.runner import Study
from nas.trial import Measured, Outcome, Trial
from search_spaces import SpecError


@dataclass(frozen=True)
class Order:
    """What is to become of which trials of a job."""

    job: Job
    study: Study
    trials: Sequence[Trial]
    weights: Weights = "auto"
    data_licence: str = UNKNOWN
    seeds: Mapping[str, int] = field(default_factory=dict)
    """Of the jobs, by id, that trials were taken over from."""


class ExportFailed(Exception):
    """Some files could not be made, or failed their checks; `reasons` by trial, and the `cards` of the others."""

    def __init__(self, reasons: Mapping[int, str], cards: Mapping[int, ModelCard]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons, self.cards = reasons, cards


def split(found: Mapping[int, ModelCard | str]) -> tuple[dict[int, ModelCard], dict[int, str]]:
    """What `export` gives as cards, and reasons why there are none."""
    cards = {n: card for n, card in found.items() if not isinstance(card, str)}
    return cards, {n: reason for n, reason in found.items() if isinstance(reason, str)}


def format_of(path: Path) -> Format:
    """The format that a file's ending names. Raises `SpecError` for others, and for a folder."""
    if path.is_dir():
        raise SpecError.at("", f"{str(path)!r} is a folder; a file is needed")
    for form, ending in ENDINGS.items():
        if path.suffix == ending:
            return form
    raise SpecError.at("", f"{str(path)!r} has no ending that is known; allowed: {', '.join(ENDINGS.values())}")


def trainer(study: Study) -> TrainingEvaluator:
    """What trains the networks of a study. Raises `WrongState` where nothing here does."""
    if isinstance(study.evaluator, TrainingEvaluator):
        return study.evaluator
    config = study.spec.evaluator
    if isinstance(config, TrainingConfig):
        raise WrongState(f"the data set {config.dataset!r} is not on this machine, which would train the network")
    raise WrongState(f"the {config.kind} evaluator trains no networks; only those of training have weights")


def measured_trial(trials: Sequence[Trial], number: int) -> Trial:
    """The trial with this number among these. Raises `WrongState` where there is none, or it was not measured."""
    found = next((t for t in trials if t.number == number), None)
    if found is None:
        raise WrongState(f"there is no trial {number}")
    if not found.measured:
        raise WrongState(f"trial {number} is {found.state}; only a SUCCEEDED one has a network to train")
    return found


def seed_of(trial: Trial, own: int, seeds: Mapping[str, int]) -> int:
    """The seed that the trial's network was trained from. Raises `WrongState` where it is not known."""
    if trial.origin is None or not trial.taken_over:
        return own
    if trial.origin.job not in seeds:
        raise WrongState(f"trial {trial.number} was measured by {trial.origin}; take it from there")
    return seeds[trial.origin.job]


def seeds_of(trials: Sequence[Trial], job: Callable[[str], Job]) -> dict[str, int]:
    """The seeds of the jobs that trials were taken over from, as far as those jobs are still there.

    `job` looks one up by its id, and raises `KeyError` where there is none.
    """
    found = {}
    for origin in {t.origin.job for t in trials if t.origin is not None and t.taken_over}:
        with suppress(KeyError):
            found[origin] = job(origin).spec.seed
    return found


def export(
    order: Order,
    targets: Mapping[int, Path],
    executor: ExecutorKind = "inline",
    artifacts: Artifacts | None = None,
    observe: Callable[[int], None] = lambda done: None,
) -> dict[int, ModelCard | str]:
    """Write each trial's network to its target, with its card beside it as JSON and Markdown.

    Args:
        order: which trials, in which form.
        targets: a path a trial, by number; what is there is replaced, once the new file has passed its checks.
        executor: where networks are trained, written and checked.
        artifacts: where checkpoints are, and are kept; None: a folder of this machine, for as long as it takes.
        observe: told how many are done.

    Returns:
        The card of each file by the trial's number, or why there is none.

    Raises:
        SpecError: for a path with an ending that is not known.
        WrongState: for an evaluator that trains no networks, and where there are no such weights.
    """
    forms = {number: format_of(path) for number, path in targets.items()}
    folder = f"exports/{secrets.token_hex(8)}"
    with _kept(artifacts) as files:
        try:
            made = make(order, forms, files, folder, executor, observe)
            return {n: _fetched(files, order.job.id, f"{folder}/{n}", targets[n], o) for n, o in made.items()}
        finally:
            files.delete(order.job.id, folder)


def make(
    order: Order,
    forms: Mapping[int, Format],
    files: Artifacts,
    folder: str,
    executor: ExecutorKind,
    observe: Callable[[int], None] = lambda done: None,
    slots: Slots | None = None,
    seconds: float | None = None,
    over: Callable[[], bool] = lambda: False,
) -> dict[int, Outcome]:
    """Have files made and checked, in a folder of the job's artifacts; what came of each, by the trial's number.

    Each may take so many `seconds`, and the memory of a trial. `over`: whether to let go of what is not done yet.

    Raises:
        WrongState: for an evaluator that trains no networks, and where there are no such weights.
    """
    spec, evaluator = order.job.spec, trainer(order.study)
    work = {t.number: OfTrial.again(t, seed_of(t, spec.seed, order.seeds)) for t in order.trials}
    check_weights(order.job.id, list(work), order.weights, files)
    exporter = Exporter(evaluator, spec, order.job.id, files, folder, forms, order.weights, order.data_licence)
    parallel = min(len(work), spec.budget.parallel_trial_count)
    task = Task(exporter, order.study.space, seconds, memory=spec.budget.max_trial_memory)
    return outcomes(executor, task, work, parallel, observe, slots, over)


def check_weights(job_id: str, numbers: Sequence[int], weights: Weights, files: Artifacts) -> None:
    """Raises `WrongState` where weights are asked for that are not there."""
    if weights not in NEEDS:
        return
    there = set(files.list(job_id))
    if lacking := [n for n in numbers if kept_as(weights, n) not in there]:
        which = f"trial{'s'[: len(lacking) > 1]} {', '.join(map(str, lacking))}"
        raise WrongState(f"there are no {weights} weights of {which}; {NEEDS[weights]} makes them")


def _fetched(files: Artifacts, job: str, folder: str, target: Path, outcome: Outcome) -> ModelCard | str:
    """Put what was made at its path, its card beside it; or why it is not there."""
    if not isinstance(outcome, Measured):
        return outcome.reason
    with files.open(job, f"{folder}/{CARD}") as stream:
        card = read_card(stream.read())
    with files.open(job, f"{folder}/{MODEL}") as stream:
        content = stream.read()
    try:
        return hand_out(content, card, target)
    except OSError as error:  # the others may fit
        return f"{target} cannot be written: {error.strerror or error}"


def hand_out(content: bytes, card: ModelCard, target: Path) -> ModelCard:
    """Write a file, last of all, with its card beside it. Gives the card with the file's name."""
    card = replace(card, file=replace(card.file, name=target.name))
    put_together(
        {
            target.with_name(f"{target.name}.md"): card_markdown(card).encode(),
            target.with_name(f"{target.name}.json"): card_json(card).encode(),
            target: content,
        }
    )
    return card


def put_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all or none: where one cannot be put in its place, what was there before comes back."""
    token = secrets.token_hex(4)
    new = {path: path.with_name(f".{path.name}.{token}.new") for path in contents}
    old = {path: path.with_name(f".{path.name}.{token}.old") for path in contents}
    done: list[Path] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            new[path].write_bytes(content)
            if path.is_file():
                shutil.copy2(path, old[path])
        for path in contents:
            new[path].replace(path)
            done.append(path)
    except BaseException:
        for path in done:
            if old[path].exists():
                old[path].replace(path)
            else:
                path.unlink()
        raise
    finally:
        for name in (*new.values(), *old.values()):
            name.unlink(missing_ok=True)


@contextmanager
def _kept(artifacts: Artifacts | None) -> Iterator[Artifacts]:
    """The artifacts, or a folder that is gone afterwards."""
    with ExitStack() as stack:
        yield artifacts or Artifacts(stack.enter_context(tempfile.TemporaryDirectory(prefix="nas-export-")))
