"""What a runner counts, for Prometheus, and where it is asked for it. Every object has a registry of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler
from sqlalchemy import event

from nas.job import JobState
from nas.journal import Journal
from nas.loop import Ending
from nas.storage.errors import DatabaseError
from nas.trial import Trial, TrialState

if TYPE_CHECKING:
    from nas.storage.database import Database

DATABASE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TRIAL_SECONDS = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 36000)
STILL = 120.0
"""Seconds after which a runner whose loop does not turn is taken for dead; a claim may wait half a minute."""
SILENT = 15.0
"""Seconds without an answer of the database after which a runner is not ready."""


class MeteredJournal(Journal):
    """A journal that counts what it is told.

    Args:
        registry: where the counts are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._trial_seconds = Histogram(
            "nas_trial_duration_seconds",
            "From handing a trial to the executor to its outcome, by the state that it came to",
            ["state"],
            buckets=TRIAL_SECONDS,
            registry=registry,
        )
        self._trials = Counter(
            "nas_trials", "Trials closed, by state; PENDING: its worker was lost", ["state"], registry=registry
        )
        self._jobs = Gauge("nas_runner_jobs", "Jobs that this runner has in hand", registry=registry)
        self._released = Counter("nas_jobs_released", "Jobs let go, by state", ["state"], registry=registry)
        self._crashes = Counter("nas_job_crashes", "Jobs that a bug of the search ended", registry=registry)
        self._lost = Counter("nas_leases_lost", "Jobs that went to another runner", registry=registry)
        self._dropped = Counter(
            "nas_jobs_dropped", "Jobs left for lack of a database to write their state to", registry=registry
        )
        self._away = Counter("nas_database_failures", "Calls that the database did not answer", registry=registry)
        unanswered = Gauge(
            "nas_database_silent_seconds", "Since the database last answered this runner", registry=registry
        )
        unanswered.set_function(lambda: self.seconds_unanswered)
        for state in TrialState:
            if state is not TrialState.RUNNING:
                self._trials.labels(state.value)
        for final in JobState:
            if not final.held:
                self._released.labels(final.value)

    def in_hand(self) -> AbstractContextManager[object]:
        """See `Journal`."""
        return self._jobs.track_inprogress()

    def released(self, ending: Ending) -> None:
        """See `Journal`."""
        super().released(ending)
        self._released.labels(ending.state.value).inc()

    def crashed(self, trace: str) -> None:
        """See `Journal`."""
        super().crashed(trace)
        self._crashes.inc()

    def lost(self, reason: str) -> None:
        """See `Journal`."""
        super().lost(reason)
        self._lost.inc()

    def dropped(self, error: DatabaseError) -> None:
        """See `Journal`."""
        super().dropped(error)
        self._dropped.inc()

    def trial(self, trial: Trial, seconds: float) -> None:
        """See `Journal`."""
        super().trial(trial, seconds)
        self._trials.labels(trial.state.value).inc()
        self._trial_seconds.labels(trial.state.value).observe(seconds)

    def away(self, error: DatabaseError) -> None:
        """See `Journal`."""
        super().away(error)
        self._away.inc()


def watch(database: Database, registry: CollectorRegistry) -> None:
    """Measure how long connections of a database are in use, commit included: the time of each transaction."""
    seconds = Histogram(
        "nas_database_seconds",
        "Time that a transaction had a connection",
        buckets=DATABASE_SECONDS,
        registry=registry,
    )

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        record.info["nas_taken_at"] = time.perf_counter()

    def given_back(_connection: Any, record: Any) -> None:
        since = record.info.pop("nas_taken_at", None)
        if since is not None:
            seconds.observe(time.perf_counter() - since)

    event.listen(database.engine, "checkout", taken)
    event.listen(database.engine, "checkin", given_back)


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def pages(registry: CollectorRegistry, journal: Journal) -> Wsgi:
    """A runner over HTTP (WSGI): `/metrics`, `/healthz` (its loop turns) and `/readyz` (the database answers)."""
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        if path == "/healthz":
            return _said(start, journal.seconds_still < STILL, loop_turned_seconds_ago=journal.seconds_still)
        if path == "/readyz":
            silent = journal.seconds_unanswered
            return _said(start, silent < SILENT, database_answered_seconds_ago=silent)
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"allowed: /metrics, /healthz, /readyz\n"]

    return application


def publish(application: Wsgi, host: str, port: int) -> WSGIServer:
    """Answer at this address, in the background, until the server's `shutdown` is called. Raises `OSError`."""
    server = make_server(host, port, application, ThreadingWSGIServer, handler_class=_SilentHandler)
    threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
    return server


def _said(start: Callable[..., Any], good: bool, **seconds: float) -> Iterable[bytes]:
    headers = [("Content-Type", "application/json"), *([] if good else [("Retry-After", "2")])]
    start("200 OK" if good else "503 Service Unavailable", headers)
    status = "ok" if good else "unavailable"
    return [json.dumps({"status": status, **{k: round(v, 1) for k, v in seconds.items()}}).encode() + b"\n"]
