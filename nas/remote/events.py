"""What happens to a job, as a server tells it: server-sent events, gone on with where a connection was lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from nas.job import Job
from nas.remote.errors import ApiError
from nas.remote.read import job_of
from nas.remote.store import RemoteStore, job_path
from nas.trial import Trial

PAUSE = 1.0
"""Seconds before a stream that ended early is asked for again."""


@dataclass(frozen=True)
class JobChanged:
    """The job has another state, revision or reason; the first event of all tells how it stands."""

    job: Job


@dataclass(frozen=True)
class TrialsFinished:
    """These trials finished, in this order."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class JobOver:
    """Nothing more will happen; the last event."""

    job: Job


Event: TypeAlias = JobChanged | TrialsFinished | JobOver


def events(store: RemoteStore, job_id: str, after: int | None = None) -> Iterator[Event]:
    """Everything that happens to a job until it is over; no trial is left out, and none comes twice.

    Args:
        store: of the server.
        job_id: of the job.
        after: begin with the trial that finished after the one with this `order` (-1: with the first); None:
            with the one that finishes next.

    Raises:
        KeyError: there is no such job.
        ApiError: the server is away for longer than the store's patience, or tells no events.
    """
    if after is None:
        after = sum(n for state, n in store.job(job_id).counts.items() if not state.open) - 1
    while True:
        for event in _stream(store, job_id, after):
            yield event
            if isinstance(event, JobOver):
                return
            if isinstance(event, TrialsFinished):
                after = event.trials[-1].order or 0
        time.sleep(PAUSE)  # the stream ended early: the server stops, say; the next request finds out


def _stream(store: RemoteStore, job_id: str, after: int) -> Iterator[Event]:
    """The events of one connection, until it ends or breaks off. Raises `ApiError` where there is none."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    with store.http.stream(f"{job_path(job_id)}/events", {"after": after}, headers) as response:
        try:
            for event in EventSource(response).iter_sse():
                yield from _read(store, event)
        except httpx.TransportError:
            return
        except SSEError as error:
            raise ApiError(None, "UNKNOWN", f"{store.http.url} sends no events: {error}") from None


def _read(store: RemoteStore, event: ServerSentEvent) -> Iterator[Event]:
    if event.event not in ("job", "trials", "end"):
        return
    data: Mapping[str, Any] = event.json()
    if event.event == "trials":
        if data["trials"]:
            yield TrialsFinished(tuple(store.read(data["trials"])))
    else:
        yield (JobOver if event.event == "end" else JobChanged)(job_of(data))
