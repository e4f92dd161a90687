"""A predictor of a job, as it is kept: what it learns from, and how well it did. What it learnt is never kept.

It is a pure function of the job's first finished trials, which never change, so any process can fit it again and
gets the same predictor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class FitState(StrEnum):
    """Where a predictor stands."""

    FITTING = "FITTING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True)
class FittedPredictor:
    """What a predictor learns from, and how well it did. Frozen; one method a legal transition."""

    id: str
    job_id: str
    metrics: tuple[str, ...]
    """What it predicts."""
    trials: int
    """It learns from the first so many finished trials, as far as they were measured."""
    state: FitState = FitState.FITTING
    reason: str | None = None
    """Why it is FAILED."""
    quality: Mapping[str, Any] | None = None
    """As `nas.wire.quality_dict` gives it; None unless it is READY."""
    created_at: float = 0.0
    """Unix time, seconds."""

    def ready(self, quality: Mapping[str, Any]) -> FittedPredictor:
        """FITTING to READY."""
        return replace(self._fitting(), state=FitState.READY, quality=quality)

    def failed(self, reason: str) -> FittedPredictor:
        """FITTING to FAILED."""
        return replace(self._fitting(), state=FitState.FAILED, reason=reason)

    def _fitting(self) -> FittedPredictor:
        if self.state is not FitState.FITTING:
            raise ValueError(f"predictor {self.id} is already {self.state}")
        return self
