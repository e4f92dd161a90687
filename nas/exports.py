"""An export: a trial's network that a runner writes to a file, asked for over HTTP. Its row, and how it changes.

The file itself is among the artifacts of the job. A claim counts as an attempt, and the attempt is the fence: only
whoever has the latest can write what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from nas.config import Document
from nas.contracts import Submitter
from nas.job import JobId, WrongState

Format: TypeAlias = Literal["onnx", "pt2", "state"]
ENDINGS: Mapping[Format, str] = {"onnx": ".onnx", "pt2": ".pt2", "state": ".pt"}
Weights: TypeAlias = Literal["auto", "checkpoint", "retrained", "final"]
"""Whose weights. ``checkpoint``: of the trial's network, as an export kept it; ``retrained``: trained again by the
trial's recipe and seed; ``auto``: the first where there is one, else the second; ``final``: what `nas retrain`
trained on all but the test part, from the first of its seeds."""
UNKNOWN = "unknown"
MAX_ATTEMPTS = 3
"""So many runners that died with it make an export FAILED: it is likely to be what kills them."""
ON_REQUEST = "cancelled on request"
"""Why there is no file where somebody wanted none any more."""


class ExportSpec(Document):
    """Which network, and in which form."""

    job: JobId = Field(description="whose trial")
    trial: int = Field(ge=0, lt=2**31, description="its number; it must have SUCCEEDED")
    format: Format = Field(default="onnx", description="state: a state dict of torch")
    weights: Weights = Field(
        default="auto",
        description="checkpoint: those that an earlier export kept; retrained: trained again by the trial's "
        "recipe and seed; auto: the first where there is one; final: of nas retrain",
    )
    data_licence: str = Field(
        default=UNKNOWN,
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]*$",
        description="of the data, for the model card",
    )


class ExportState(StrEnum):
    """Where an export stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (ExportState.SUCCEEDED, ExportState.FAILED, ExportState.CANCELLED)


@dataclass(frozen=True)
class Export:
    """What is asked for, and where it stands. Frozen; one method a legal transition."""

    id: str
    spec: ExportSpec
    state: ExportState = ExportState.QUEUED
    attempt: int = 0
    """Counts claims."""
    reason: str | None = None
    """Why it is FAILED or CANCELLED."""
    created_at: float = 0.0
    """Unix time, seconds."""
    finished_at: float | None = None
    handed_back: int = 0
    """So many of the claims ended in order, and say nothing against it."""

    @property
    def folder(self) -> str:
        """Of the artifacts of its job, where this attempt puts the file."""
        return self.folder_of(self.attempt)

    def folder_of(self, attempt: int) -> str:
        """Where another attempt puts, or put, its file."""
        return f"exports/{self.id}-{attempt}"

    @property
    def file_name(self) -> str:
        """What the file is called."""
        return f"trial-{self.spec.trial}{ENDINGS[self.spec.format]}"

    def claimed(self, at: float) -> Export:
        """QUEUED to RUNNING; or a RUNNING one, whose runner died, once more, or the last time to FAILED."""
        if self.state.over:
            raise ValueError(f"export {self.id} is already {self.state}")
        if self.attempt - self.handed_back == MAX_ATTEMPTS:
            died = replace(self, state=ExportState.RUNNING)
            return died.failed(f"the runner died while it ran ({MAX_ATTEMPTS} attempts)", at)
        return replace(self, state=ExportState.RUNNING, attempt=self.attempt + 1)

    def succeeded(self, at: float) -> Export:
        """RUNNING to SUCCEEDED."""
        return replace(self._running(), state=ExportState.SUCCEEDED, finished_at=at)

    def failed(self, reason: str, at: float) -> Export:
        """RUNNING to FAILED."""
        return replace(self._running(), state=ExportState.FAILED, reason=reason, finished_at=at)

    def given_back(self) -> Export:
        """RUNNING to QUEUED: its runner had to let go of it, and the attempt does not count against it."""
        return replace(self._running(), state=ExportState.QUEUED, handed_back=self.handed_back + 1)

    def cancelled(self, at: float) -> Export:
        """QUEUED or RUNNING to CANCELLED, where it stays. Raises `WrongState` for one that ended otherwise."""
        if self.state is ExportState.CANCELLED:
            return self
        if self.state.over:
            raise WrongState(
                f"an export that is {self.state} cannot be cancelled; allowed: QUEUED, RUNNING, CANCELLED"
            )
        return replace(self, state=ExportState.CANCELLED, reason=ON_REQUEST, finished_at=at)

    def _running(self) -> Export:
        if self.state is not ExportState.RUNNING:
            raise ValueError(f"export {self.id} is {self.state}")
        return self


class Exports(Protocol):
    """The exports of all jobs, which are forgotten with them. Any thread or process may call."""

    def add(self, spec: ExportSpec, by: Submitter = Submitter()) -> Export:
        """A new export, QUEUED; or the one that the submitter's token made before, as it stands now.

        Raises:
            KeyError: there is no such job.
            TokenReused: the token made an export of something else.
        """
        ...

    def asked(self, by: Submitter) -> Export | None:
        """The export that the submitter's token made before, as it stands now. Raises `TokenReused`."""
        ...

    def export(self, export_id: str) -> Export:
        """One export. Raises `KeyError`."""
        ...

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[Export]:
        """The exports of a job, newest first; `after` is the id of the last one of the page before."""
        ...

    def cancel(self, export_id: str) -> Export:
        """Have no file made of it; the claim of a runner that has it is lost. Raises `KeyError`, `WrongState`."""
        ...

    def claim(self) -> Export | None:
        """The next one that waits, or whose runner has been silent for too long, now RUNNING; or None.

        The next: of the project with the fewest exports in runners' hands, among those of the one served longest
        ago, the oldest. One that was claimed too often already ends FAILED and is passed over.
        """
        ...

    def renew(self, export: Export) -> None:
        """Keep a claimed one. Raises `LeaseLost` where it is gone, was cancelled, or another runner has it."""
        ...

    def settle(self, export: Export) -> None:
        """Write what came of a claimed one: it is over, or waits for another runner. Raises `LeaseLost`."""
        ...
