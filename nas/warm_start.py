"""Trials that a job begins with, as its `warm_start` says: what other jobs have learnt.

Of a job that measures the same networks in the same way, every measured and every infeasible trial is taken over,
as if this job had measured it. Metrics of any other job (of other data, say) do not stand beside ours, but what is
good there is likely to be good here: its best networks are measured anew, before anything else. The same two cases
are told apart in Perrone et al., "Amazon SageMaker Automatic Model Tuning", KDD 2021.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.contracts import Store, TrialFilter
from nas.executors.simulated import END, START
from nas.job import Job, JobSpec
from nas.objectives import Problem
from nas.searchers.selection import crowding, ranks
from nas.trial import Broken, BrokenKind, Measured, Origin, Proposal, Trial, TrialState
from search_spaces import Choice, Fault, Space, SpecError

MAX_BEST = 8
"""Networks of one job that are measured anew, at most."""
MAX_REMOTE = 10_000
"""Trials to learn from that the jobs which a document from the network names may have together: the process that
answers reads them all into its memory, and writes them in one transaction."""
TELLING = (TrialState.SUCCEEDED, TrialState.INFEASIBLE)
"""States of trials that say something of their networks."""


@dataclass(frozen=True)
class Source:
    """A job to learn from, and its trials as they stand."""

    job: Job
    trials: Sequence[Trial]


def first_trials(
    store: Store,
    spec: JobSpec,
    space: Space,
    given: Sequence[Source] = (),
    *,
    project: str | None = None,
    remote: bool = False,
) -> list[Trial]:
    """The trials that a new job of `spec` begins with, numbered from 0: those taken over, then PENDING ones.

    They are a copy: what becomes of the other jobs later changes nothing. Each network comes once; where several
    jobs know it, the first of them counts.

    Args:
        store: has the jobs that `warm_start` names.
        spec: the new job's document.
        space: its space.
        given: jobs that the caller holds, which then need not be in the store.
        project: the only one whose jobs may be named; None: any.
        remote: whether the document came over the network; then no code that it names is imported, and the jobs
            may have no more than `MAX_REMOTE` trials to learn from.

    Raises:
        SpecError: for jobs that are not there, chose among something else, did not measure what is wanted, or
            have too many trials.
    """
    held = {source.job.id: source for source in given}
    found: list[_Known] = []
    faults: list[Fault] = []
    left = MAX_REMOTE if remote else None
    for i, job_id in enumerate(spec.warm_start):
        try:
            source = held[job_id] if job_id in held else _source(store, job_id, project, left)
            left = None if left is None else left - len(source.trials)
            found.append(_Known.of(source, spec, space, remote))
        except SpecError as error:
            faults += [Fault(f"warm_start.{i}", f"job {job_id}: {f}") for f in error.faults]
    if faults:
        raise SpecError(faults)
    taken = _taken_over([t for known in found if known.alike for t in known.trials], spec.problem)
    best: dict[str, Trial] = {}
    for known in found:
        if not known.alike:
            fresh = _best(known.trials, spec.problem, {*taken, *best})
            best |= {t.architecture.key: t for t in fresh}
    waiting = list(best.values())[: spec.budget.max_trial_count]
    return [*taken.values(), *(_anew(t, n, time.time()) for n, t in enumerate(waiting, start=len(taken)))]


def taken_over(store: Store, job: Job) -> int:
    """How many trials of a job others have measured: those numbered first. Reads few of them."""
    if not job.spec.warm_start:
        return 0

    def own(number: int) -> bool:
        return not store.trials(job.id, after=number - 1, limit=1)[0].taken_over

    return bisect_left(range(sum(job.counts.values())), True, key=own)


def _source(store: Store, job_id: str, project: str | None, most: int | None) -> Source:
    """A job of the project, with those trials that tell something. Raises `SpecError` where they are too many."""
    try:
        job = store.job(job_id)
        if project not in (None, job.project):
            raise KeyError(job_id)
        count = sum(job.counts.get(state, 0) for state in TELLING)
        if most is not None and count > most:
            allowed = f"allowed: {most}, as all jobs together may have {MAX_REMOTE}"
            raise SpecError.at("", f"it has {count} trials to learn from; {allowed}")
        return Source(job, store.trials(job_id, limit=count, which=TrialFilter(TELLING)))
    except KeyError:
        raise SpecError.at("", "there is no such job") from None


@dataclass(frozen=True)
class _Known:
    """What one job knows, in terms of the new one."""

    alike: bool
    """Whether its metrics stand beside those of the new job."""
    trials: Sequence[Trial]
    """Measured and infeasible ones, in the order in which they finished; of the new space, and with origins."""

    @classmethod
    def of(cls, source: Source, spec: JobSpec, space: Space, remote: bool) -> _Known:
        """Raises `SpecError` for a job that does not fit."""
        trials = sorted(filter(_tells, source.trials), key=lambda t: t.order or 0)
        if not any(t.measured for t in trials):
            raise SpecError.at("", "it has measured no network yet")
        _check_choices(trials[0].architecture.choices, space)
        genes = space.canonical_genes(space.genes([t.architecture for t in trials]))
        architectures = space.canonical_architectures(genes)
        same = all(a.key == t.architecture.key for a, t in zip(architectures, trials, strict=True))
        alike = same and _measures_like(spec, source.job.spec, remote)
        # formulas are exact here, whatever they gave in the other space
        costs = {} if alike else space.costs(genes, spec.problem.metrics)
        ours = [
            replace(
                trial,
                proposal=Proposal(architecture),
                metrics=_metrics(trial, {name: float(values[i]) for name, values in costs.items()}),
                origin=trial.origin if trial.taken_over else Origin(source.job.id, trial.number),
            )
            for i, (trial, architecture) in enumerate(zip(trials, architectures, strict=True))
        ]
        _check_metrics(ours, spec.problem)
        return cls(alike, ours)


def _tells(trial: Trial) -> bool:
    """Whether the trial says something of the network itself: a full evaluation, or that there is none."""
    return trial.state in TELLING and trial.proposal.fidelity in (None, 1.0)


def _measures_like(new: JobSpec, old: JobSpec, remote: bool) -> bool:
    mine, theirs = new.budget, old.budget
    limits = (mine.max_trial_duration, mine.max_trial_memory)
    same_way = (mine.repeats, *limits) == (theirs.repeats, theirs.max_trial_duration, theirs.max_trial_memory)
    return same_way and new.evaluator.measures_like(old.evaluator, remote=remote)


def _metrics(trial: Trial, costs: dict[str, float]) -> dict[str, float]:
    """What was measured of the network; a simulated clock is the other search's."""
    return {n: v for n, v in {**trial.metrics, **costs}.items() if trial.measured and n not in (START, END)}


def _check_choices(theirs: Sequence[Choice], space: Space) -> None:
    """Raises `SpecError` unless the same choices stand in the same order."""
    have, want = ({c.name: c.values for c in choices} for choices in (theirs, space.choices))
    for name in [*want, *have]:
        if name not in have:
            raise SpecError.at("", f"its space has no choice {name}, and {space.name} has one")
        if name not in want:
            raise SpecError.at("", f"its space has a choice {name}, and {space.name} has none")
        if have[name] != want[name]:
            listed = [", ".join(map(str, values)) for values in (have[name], want[name])]
            raise SpecError.at("", f"its choice {name} has the values {listed[0]}; allowed: {listed[1]}")
    if list(have) != list(want):
        raise SpecError.at("", f"its choices stand in another order than those of {space.name}")


def _check_metrics(trials: Iterable[Trial], problem: Problem) -> None:
    """Raises `SpecError` unless some measured trial has all metrics that the problem needs."""
    fullest = min((t for t in trials if t.measured), key=lambda t: len(_lacking(t, problem)))
    if lacking := _lacking(fullest, problem):
        measured = ", ".join(fullest.metrics)
        raise SpecError.at("", f"it did not measure {', '.join(lacking)}; it measured {measured}")


def _lacking(trial: Trial, problem: Problem) -> list[str]:
    return [name for name in problem.metrics if name not in trial.metrics]


def _taken_over(trials: Iterable[Trial], problem: Problem) -> dict[str, Trial]:
    """Trials as the new job's own, judged by its problem, by their architectures' keys."""
    taken: dict[str, Trial] = {}
    for trial in trials:
        if trial.architecture.key not in taken:
            number, at = len(taken), trial.finished_at or trial.created_at
            opened = Trial(number, trial.proposal, attempt=0, created_at=trial.created_at, origin=trial.origin)
            broken = Broken(BrokenKind.INFEASIBLE, trial.reason or "")
            outcome = Measured(trial.metrics) if trial.measured else broken
            taken[trial.architecture.key] = opened.close(outcome, problem, number, at, others_measured=True)
    return taken


def _best(trials: Iterable[Trial], problem: Problem, known: Collection[str]) -> list[Trial]:
    """The trials with the best networks that are not `known`: by rank, then the least crowded."""
    complete = [t for t in trials if t.measured and not _lacking(t, problem)]
    fresh = {t.architecture.key: t for t in reversed(complete) if t.architecture.key not in known}
    distinct = list(fresh.values())
    losses = np.array([problem.losses(t.metrics) for t in distinct]).reshape(
        len(distinct), len(problem.objectives)
    )
    rank = ranks(losses, np.array([problem.violation(t.metrics) for t in distinct]))
    order = np.lexsort((-crowding(losses, rank), rank))
    return [distinct[i] for i in order[:MAX_BEST]]


def _anew(trial: Trial, number: int, at: float) -> Trial:
    """A trial of the same network, which waits."""
    return Trial(number, trial.proposal, TrialState.PENDING, created_at=at, origin=trial.origin)
