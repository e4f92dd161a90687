"""Jobs and trials from what goes over the wire: the inverse of `nas.wire`, with a Python object for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nas.job import Job, JobSpec, JobState
from nas.remote.errors import ApiError
from nas.trial import Origin, Proposal, Trace, Trial, TrialState
from search_spaces import Architecture, Space, SpecError
from search_spaces.domains import Value
from search_spaces.load import space_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def job_of(data: Mapping[str, Any]) -> Job:
    """A job."""
    with _understood("a job"):
        return Job(
            id=data["id"],
            spec=JobSpec.parse(data["spec"]),
            state=JobState(data["state"]),
            reason=data.get("error", data.get("reason")),
            created_at=_required(data["created_at"]),
            started_at=_seconds(data["started_at"]),
            finished_at=_seconds(data["finished_at"]),
            counts={TrialState(state): n for state, n in data["counts"].items()},
            project=data["project"],
            owner=data["owner"],
            revision=data["revision"],
        )


def space_of_job(spec: JobSpec) -> Space:
    """The space of a job. Raises `SpecError` for one written in Python: a server's documents import no code."""
    if spec.space.family == "python":
        raise SpecError.at("space", "a space written in Python cannot be read from a server")
    return space_of(spec.space, spec.name)


class TrialReader:
    """Trials of one space."""

    def __init__(self, space: Space) -> None:
        self._choices = space.choices
        self._genes = {c.name: {_exact(v): i for i, v in enumerate(c.values)} for c in space.choices}

    def trials(self, data: Sequence[Mapping[str, Any]]) -> list[Trial]:
        """A page of them."""
        with _understood("a trial"):
            return [self._trial(t) for t in data]

    def trial(self, data: Mapping[str, Any]) -> Trial:
        """One of them."""
        return self.trials([data])[0]

    def architecture(self, values: Mapping[str, Value], key: str) -> Architecture:
        """The network; genes without effect do not go over the wire, and are 0."""
        named = {name: self._genes[name][_exact(value)] for name, value in values.items()}
        return Architecture(tuple(named.get(c.name, 0) for c in self._choices), key, self._choices)

    def _trial(self, data: Mapping[str, Any]) -> Trial:
        origin = data["origin"]
        return Trial(
            number=data["number"],
            proposal=Proposal(self.architecture(data["architecture"], data["key"]), data["fidelity"]),
            state=TrialState(data["state"]),
            attempt=data["attempt"],
            metrics=data["metrics"],
            feasible=data["feasible"],
            reason=data.get("infeasible_reason", data.get("reason")),
            order=data["order"],
            created_at=_required(data["created_at"]),
            finished_at=_seconds(data["finished_at"]),
            origin=None if origin is None else Origin(origin["job"], origin["number"]),
        )


def trace_of(data: Mapping[str, Any]) -> Trace | None:
    """How a trial's evaluation went, where the server knows."""
    if data.get("worker") is None:
        return None
    with _understood("a trial"):
        curve = tuple((point["step"], point["metrics"]) for point in data["curve"] or ())
        return Trace(data["worker"], _required(data["started_at"]), curve, data["log"] or "")


def _exact(value: Value) -> tuple[bool, Value]:
    """True and 1 are equal in Python, and different values of a choice."""
    return isinstance(value, bool), value


def _required(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _seconds(text: str | None) -> float | None:
    return None if text is None else _required(text)


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """A server of another version may say things that mean nothing here."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"the server sent {what} that cannot be read: {error!r}; is it of another version?"
        raise ApiError(None, "UNKNOWN", detail) from error
