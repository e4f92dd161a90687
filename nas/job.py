"""A job: the document that a user wrote, parsed once, and the state of its search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nas.evaluators import EvaluatorConfig
from nas.evaluators.training import TrainingConfig
from nas.objectives import Constraint, Objective, Problem
from nas.searchers import SearcherConfig
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.trial import TrialState
from search_spaces import SpecError
from search_spaces.faults import spec_error
from search_spaces.load import SpaceDocument, document_of

DEFAULT_PROJECT = "default"
"""The project of jobs that were submitted without an API key."""
MAX_TRIALS = 10_000_000
MAX_OBJECTIVES = 5
"""Hypervolumes are exact."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    """Waits for a runner."""
    RUNNING = "RUNNING"
    """A runner holds its lease."""
    PAUSING = "PAUSING"
    """Asked to pause; the runner has not let go yet."""
    PAUSED = "PAUSED"
    """Waits to be resumed; nothing measured is lost."""
    CANCELLING = "CANCELLING"
    """Asked to end; the runner has not let go yet."""
    CANCELLED = "CANCELLED"
    """Ended on request."""
    SUCCEEDED = "SUCCEEDED"
    """The budget is spent, or the space exhausted."""
    FAILED = "FAILED"
    """Ended for a reason that `error` tells."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED)

    @property
    def held(self) -> bool:
        """Whether a runner holds (or held, and died with) the lease."""
        return self in (JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING)


class WrongState(Exception):
    """A request that the job's state does not allow."""


REQUESTS: Mapping[str, Mapping[JobState, JobState]] = {
    "cancel": {
        JobState.QUEUED: JobState.CANCELLED,
        JobState.PAUSED: JobState.CANCELLED,
        JobState.RUNNING: JobState.CANCELLING,
        JobState.PAUSING: JobState.CANCELLING,
        JobState.CANCELLING: JobState.CANCELLING,
        JobState.CANCELLED: JobState.CANCELLED,
    },
    "pause": {
        JobState.QUEUED: JobState.PAUSED,
        JobState.RUNNING: JobState.PAUSING,
        JobState.PAUSING: JobState.PAUSING,
        JobState.PAUSED: JobState.PAUSED,
    },
    "resume": {JobState.PAUSED: JobState.QUEUED, JobState.QUEUED: JobState.QUEUED},
}
"""What a request makes of each state; a state that is not listed refuses it."""


def requested(state: JobState, request: str) -> JobState:
    """The state after a request. Raises `WrongState`, saying which states allow it."""
    table = REQUESTS[request]
    if state not in table:
        raise WrongState(f"a job that is {state} cannot {request}; allowed: {', '.join(table)}")
    return table[state]


class Budget(BaseModel):
    """How much may be spent."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_trial_count: int = Field(default=100, ge=1, le=MAX_TRIALS)
    parallel_trial_count: int = Field(default=1, ge=1, le=10_000)
    max_failed_trial_count: int = Field(default=10, ge=1, description="FAILED trials at which the job fails")
    max_duration: float | None = Field(
        default=None, gt=0, description="seconds from the first start, pauses included"
    )
    max_trial_duration: float | None = Field(
        default=None, gt=0, description="seconds a trial may take, its repeats included"
    )
    max_trial_memory: float | None = Field(
        default=None, gt=0, description="bytes that a trial's process may hold; one that holds more is killed"
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="measurements of each network, for noisy evaluators: a trial's metrics are their mean, "
        "and <metric>_std their standard deviation",
    )


ID = "[A-Za-z0-9_-]{1,64}"
"""What the id of a job can be, as a regular expression."""
JobId: TypeAlias = Annotated[str, Field(pattern=f"^{ID}$")]


class JobSpec(BaseModel):
    """What to search, what is wanted, what is not allowed, how to look and how to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="search", min_length=1, max_length=200)
    space: SpaceDocument
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=MAX_OBJECTIVES)]
    constraints: tuple[Constraint, ...] = ()
    searcher: SearcherConfig = PredictorGuidedConfig()
    evaluator: EvaluatorConfig = TrainingConfig()
    budget: Budget = Budget()
    initial: tuple[Mapping[str, str | bool | int | float], ...] = Field(
        default=(),
        description="trials to begin with: values by choice name (* stands for anything); the rest is drawn",
    )
    warm_start: Annotated[tuple[JobId, ...], Field(max_length=16)] = Field(
        default=(), description="ids of jobs to learn from: their trials, or their best networks, come first"
    )
    seed: int = Field(default=0, ge=0, lt=2**63)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> JobSpec:
        """Read a document.

        Raises:
            SpecError: with everything whose form is wrong. What the parts mean together (`nas.check`) is not
                looked at here.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise spec_error(error, cls, document) from None

    @property
    def problem(self) -> Problem:
        """Objectives and constraints together."""
        return Problem(self.objectives, self.constraints)

    def dump(self) -> dict[str, Any]:
        """The whole document as JSON values, defaults filled in; `parse` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)

    @field_validator("space", mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        try:
            return document_of(raw)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None

    @field_validator("searcher", "evaluator", mode="before")
    @classmethod
    def _name_alone(cls, raw: Any) -> Any:
        return {"kind": raw} if isinstance(raw, str) else raw

    @field_validator("objectives")
    @classmethod
    def _distinct(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        metrics = [o.metric for o in objectives]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise ValueError(f"{metric} stands twice; allowed: each metric once")
        return objectives

    @field_validator("warm_start")
    @classmethod
    def _each_once(cls, jobs: tuple[str, ...]) -> tuple[str, ...]:
        for job in jobs:
            if jobs.count(job) > 1:
                raise ValueError(f"{job} stands twice; allowed: each job once")
        return jobs


@dataclass(frozen=True)
class Job:
    """A search: its document and where it stands."""

    id: str
    spec: JobSpec
    state: JobState
    reason: str | None = None
    """Why it ended, or waits, where that needs saying."""
    created_at: float = 0.0
    """Unix time, seconds."""
    started_at: float | None = None
    finished_at: float | None = None
    counts: Mapping[TrialState, int] = field(default_factory=dict)
    """Trials by state; states without trials may be missing."""
    project: str = DEFAULT_PROJECT
    """Whose it is: an API key sees the jobs of its own project only."""
    owner: str | None = None
    """The name of the API key that submitted it; runners are shared fairly between owners."""
    revision: int = 0
    """Counts the edits of its document."""


__all__ = ["Budget", "Job", "JobSpec", "JobState", "SpecError", "WrongState", "requested"]
