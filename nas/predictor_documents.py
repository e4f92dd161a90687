"""What clients send about predictors: which one to fit, and what to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Field, WithJsonSchema

from nas.check import known_metrics
from nas.config import Document
from nas.job import Job, JobId
from nas.objectives import NAME
from search_spaces import Architecture, Fault, SpecError
from search_spaces.faults import did_you_mean
from search_spaces.space import Space

MOST_TRIALS = 5000
"""A predictor learns from at most so many trials: more take minutes, and hardly make it better."""
MOST_METRICS = 8
MOST_ARCHITECTURES = 1000
"""At most so many are predicted at a time."""
MOST_FAULTS = 100
"""Of a list of architectures at most so many faults are told."""

Metric: TypeAlias = Annotated[str, Field(pattern=f"^{NAME}$", max_length=100)]
Scalar: TypeAlias = Annotated[Any, WithJsonSchema({"type": ["string", "boolean", "integer", "number"]})]
"""A value of a choice; the space says which are allowed."""


class PredictorSpec(Document):
    """Which predictor to fit."""

    job: JobId = Field(description="whose trials to learn from")
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=MOST_METRICS)] | None = Field(
        default=None,
        description="what to predict; by default the metrics of objectives and constraints that no formula gives "
        "or, where formulas give all of them, all",
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TRIALS,
        description="learn from the first so many finished trials; by default from all that have finished by "
        f"now, {MOST_TRIALS} at the most",
    )

    def meant(self, job: Job, space: Space) -> tuple[tuple[str, ...], int]:
        """The metrics to learn, each once, and from how many finished trials.

        Raises:
            SpecError: for metrics that the job does not measure, and for more trials than have finished.
        """
        finished = sum(n for state, n in job.counts.items() if not state.open)
        metrics = tuple(dict.fromkeys(self.metrics or _unknown_beforehand(job, space)))
        faults = _unmeasured(metrics, job, space)
        if self.trials is not None and self.trials > finished:
            faults.append(Fault("trials", f"{self.trials} is too many; finished by now: {finished}"))
        if faults:
            raise SpecError(faults)
        return metrics, min(finished, MOST_TRIALS) if self.trials is None else self.trials


class Candidates(Document):
    """Networks to predict."""

    architectures: Annotated[
        tuple[Mapping[str, Scalar], ...], Field(min_length=1, max_length=MOST_ARCHITECTURES)
    ] = Field(description="values by choice name; choices without effect may be left out")

    def within(self, space: Space) -> list[Architecture]:
        """As architectures of a space. Raises `SpecError`, with the first `MOST_FAULTS` faults."""
        found: list[Architecture] = []
        faults: list[Fault] = []
        for i, values in enumerate(self.architectures):
            if len(faults) >= MOST_FAULTS:
                break
            path = f"architectures.{i}"
            if len(values) > len(space.choices):
                message = f"has {len(values)} values; {space.name} has {len(space.choices)} choices"
                faults.append(Fault(path, message))
                continue
            try:
                found.append(space.architecture(values))
            except SpecError as error:
                faults += error.under(path).faults
        if faults:
            raise SpecError(faults[:MOST_FAULTS])
        return found


def _unknown_beforehand(job: Job, space: Space) -> tuple[str, ...]:
    metrics = job.spec.problem.metrics
    formulas = {*space.cost_names, *space.asked_costs}
    return tuple(m for m in metrics if m not in formulas) or metrics


def _unmeasured(metrics: tuple[str, ...], job: Job, space: Space) -> list[Fault]:
    """Metrics that the job cannot measure; what a function measures, only its trials tell."""
    known = known_metrics(job.spec, space)
    if known is None:
        return []
    allowed = ", ".join(known)
    return [
        Fault(f"metrics.{i}", f"{metric!r} is not measured; allowed: {allowed}{did_you_mean(metric, known)}")
        for i, metric in enumerate(metrics)
        if metric not in known
    ]
