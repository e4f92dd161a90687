"""From values to rows and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import Row

from nas.job import Job, JobSpec, JobState
from nas.trial import Origin, Proposal, Trial, TrialState
from search_spaces import Architecture, Space
from search_spaces.load import space_of

_GENE = np.dtype("<u2")

CHANGING = ("state", "attempt", "metrics", "feasible", "reason", "finish_order", "finished_at")
"""The columns of a trial that change after its beginning."""


class Document:
    """A job's document as it is stored, parsed once.

    Raises:
        SpecError: for a document that this version cannot read.
    """

    def __init__(self, text: str) -> None:
        self.spec = JobSpec.parse(json.loads(text))

    @cached_property
    def space(self) -> Space:
        """What the genes mean. Raises `SpecError` for a Python space that cannot be imported here."""
        return space_of(self.spec.space, self.spec.name)


def dump(spec: JobSpec) -> str:
    """The document as it is stored."""
    return _compact(spec.dump())


def job_of(row: Row[Any], spec: JobSpec, counts: Mapping[TrialState, int]) -> Job:
    """A row of `jobs` as a value."""
    return Job(
        id=row.id,
        spec=spec,
        state=JobState(row.state),
        reason=row.reason,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        counts=counts,
    )


def new_row(job_id: str, trial: Trial) -> dict[str, object]:
    """The columns that a trial has from its beginning."""
    proposal = trial.proposal
    return {
        "job_id": job_id,
        "number": trial.number,
        "state": trial.state.value,
        "attempt": trial.attempt,
        "key": proposal.architecture.key,
        "genes": np.array(proposal.architecture.genes, dtype=_GENE).tobytes(),
        "fidelity": proposal.fidelity,
        "resume_from": proposal.resume_from,
        "created_at": trial.created_at,
    }


def whole_row(job_id: str, trial: Trial) -> dict[str, object]:
    """All columns, of a trial that a job begins with."""
    origin = trial.origin
    return {
        **new_row(job_id, trial),
        **_changing(trial),
        "origin_job": None if origin is None else origin.job,
        "origin_number": None if origin is None else origin.number,
    }


def changed_row(job_id: str, trial: Trial) -> dict[str, object]:
    """The columns of a trial that change, and under names of their own those that say which trial it is."""
    return {"the_job": job_id, "the_number": trial.number, **_changing(trial)}


def _changing(trial: Trial) -> dict[str, object]:
    return {
        "state": trial.state.value,
        "attempt": trial.attempt,
        "metrics": _compact(trial.metrics) if trial.metrics else None,
        "feasible": trial.feasible,
        "reason": trial.reason,
        "finish_order": trial.order,
        "finished_at": trial.finished_at,
    }


def trials_of(rows: Sequence[Row[Any]], space: Space) -> list[Trial]:
    """Rows of `trials` as values; the genes of all are read together."""
    packed = np.frombuffer(b"".join(row.genes for row in rows), dtype=_GENE)
    genes = packed.astype(np.int64).reshape(len(rows), len(space.choices))
    return [_trial(row, arch) for row, arch in zip(rows, space.architectures(genes), strict=True)]


def bare_trials_of(rows: Iterable[Row[Any]]) -> list[Trial]:
    """Rows of `trials` as values whose genes have no meaning: enough to close them, and needs no space."""
    return [
        _trial(row, Architecture(tuple(np.frombuffer(row.genes, dtype=_GENE).tolist()), row.key, ()))
        for row in rows
    ]


def _trial(row: Row[Any], architecture: Architecture) -> Trial:
    return Trial(
        number=row.number,
        proposal=Proposal(architecture, row.fidelity, row.resume_from),
        state=TrialState(row.state),
        attempt=row.attempt,
        metrics={} if row.metrics is None else json.loads(row.metrics),
        feasible=row.feasible,
        reason=row.reason,
        order=row.finish_order,
        created_at=row.created_at,
        finished_at=row.finished_at,
        origin=None if row.origin_job is None else Origin(row.origin_job, row.origin_number),
    )


def _compact(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
