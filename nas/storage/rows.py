"""From values to rows and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import Row

from nas.job import Job, JobSpec, JobState
from nas.storage.errors import Unreadable
from nas.storage.packing import MetricNames
from nas.trial import Origin, Proposal, Trace, Trial, TrialState
from search_spaces import Architecture, Fault, Space, SpecError
from search_spaces.load import space_of

_GENE = np.dtype("<u2")
UNMEASURED = MetricNames()
"""Of a job in which no trial was measured yet."""

CHANGING = ("state", "attempt", "losses", "metrics", "feasible", "reason", "finish_order", "finished_at")
"""The columns of a trial that change after its beginning."""


class Document:
    """A job's document as it is stored, parsed once.

    Raises:
        Unreadable: for a document that this version cannot read.
    """

    def __init__(self, text: str) -> None:
        with _readable():
            self.spec = JobSpec.parse(json.loads(text))

    @cached_property
    def space(self) -> Space:
        """What the genes mean. Raises `Unreadable` for a Python space that cannot be imported here."""
        with _readable():
            return space_of(self.spec.space, self.spec.name)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except SpecError as error:
        raise Unreadable([Fault("", f"the job's document cannot be read: {error}")]) from error


def dump(spec: JobSpec) -> str:
    """The document as it is stored."""
    return _compact(spec.dump())


def counts_of(row: Row[Any]) -> dict[TrialState, int]:
    """Trials by state; states without trials are missing."""
    return {state: n for state in TrialState if (n := row._mapping[state.value.lower()])}


def count_columns(counts: Mapping[TrialState, int]) -> dict[str, int]:
    """The columns of `jobs` that say how many trials are in each state."""
    return {state.value.lower(): counts.get(state, 0) for state in TrialState}


def job_of(row: Row[Any], spec: JobSpec) -> Job:
    """A row of `jobs` as a value."""
    return Job(
        id=row.id,
        spec=spec,
        state=JobState(row.state),
        reason=row.reason,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        counts=counts_of(row),
        project=row.project,
        owner=row.owner,
        revision=row.revision,
    )


def new_row(job_id: str, trial: Trial) -> dict[str, object]:
    """The columns that a trial has from its beginning."""
    proposal = trial.proposal
    return {
        "job_id": job_id,
        "number": trial.number,
        "state": trial.state.value,
        "attempt": trial.attempt,
        "losses": trial.losses,
        "key": proposal.architecture.key,
        "genes": np.array(proposal.architecture.genes, dtype=_GENE).tobytes(),
        "fidelity": proposal.fidelity,
        "resume_from": proposal.resume_from,
        "created_at": trial.created_at,
    }


def whole_row(job_id: str, trial: Trial, names: MetricNames) -> dict[str, object]:
    """All columns, of a trial that a job begins with."""
    origin = trial.origin
    return {
        **new_row(job_id, trial),
        **_changing(trial, names),
        "origin_job": None if origin is None else origin.job,
        "origin_number": None if origin is None else origin.number,
    }


def changed_row(job_id: str, trial: Trial, names: MetricNames) -> dict[str, object]:
    """The columns of a trial that change, and under names of their own those that say which trial it is."""
    return {"the_job": job_id, "the_number": trial.number, **_changing(trial, names)}


def trace_row(job_id: str, number: int, trace: Trace) -> dict[str, object]:
    """The columns of a trial's trace."""
    return {
        "job_id": job_id,
        "number": number,
        "worker": trace.worker,
        "started_at": trace.started_at,
        "curve": json.dumps(trace.curve, separators=(",", ":")),
        "log": trace.log,
    }


def trace_of(row: Row[Any]) -> Trace:
    """A row of `traces` as a value."""
    curve = tuple((step, metrics) for step, metrics in json.loads(row.curve))
    return Trace(row.worker, row.started_at, curve, row.log)


def _changing(trial: Trial, names: MetricNames) -> dict[str, object]:
    return {
        "state": trial.state.value,
        "attempt": trial.attempt,
        "losses": trial.losses,
        "metrics": names.pack(trial.metrics),
        "feasible": trial.feasible,
        "reason": trial.reason,
        "finish_order": trial.order,
        "finished_at": trial.finished_at,
    }


def trials_of(rows: Sequence[Row[Any]], space: Space, names: MetricNames) -> list[Trial]:
    """Rows of `trials` as values; the genes of all are read together."""
    packed = np.frombuffer(b"".join(row.genes for row in rows), dtype=_GENE)
    genes = packed.astype(np.int64).reshape(len(rows), len(space.choices))
    return [_trial(row, arch, names) for row, arch in zip(rows, space.architectures(genes), strict=True)]


def bare_trials_of(rows: Iterable[Row[Any]]) -> list[Trial]:
    """Rows of open trials as values whose genes have no meaning: enough to close them, and needs no space."""
    return [
        _trial(row, Architecture(tuple(np.frombuffer(row.genes, dtype=_GENE).tolist()), row.key, ()), UNMEASURED)
        for row in rows
    ]


def _trial(row: Row[Any], architecture: Architecture, names: MetricNames) -> Trial:
    return Trial(
        number=row.number,
        proposal=Proposal(architecture, row.fidelity, row.resume_from),
        state=TrialState(row.state),
        attempt=row.attempt,
        losses=row.losses,
        metrics=names.unpack(row.metrics),
        feasible=row.feasible,
        reason=row.reason,
        order=row.finish_order,
        created_at=row.created_at,
        finished_at=row.finished_at,
        origin=None if row.origin_job is None else Origin(row.origin_job, row.origin_number),
    )


def _compact(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
