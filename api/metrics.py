"""What the API counts, for Prometheus: the queue, requests, and the time that the database takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import queries
from api.access import Admin
from api.openapi import refusals
from nas.contracts import Store
from nas.job import JobState
from nas.metrics import watch
from nas.storage import DatabaseError

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset(("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"))
"""Methods that are counted by their names; a client may invent others."""
TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": 'nas_jobs{state="RUNNING"} 2.0\n'}},
    }
}

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse, responses={**TEXT, **refusals(422)})
def metrics(request: Request, who: Admin, query: Annotated[queries.Query, Query()]) -> PlainTextResponse:
    """The queue, requests and the database, in numbers."""
    return PlainTextResponse(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def install(app: FastAPI, store: Store) -> None:
    """Count what an application does, in a registry of its own; middleware added later is not counted."""
    registry = app.state.metrics = CollectorRegistry()
    registry.register(Queue(store))
    database = getattr(store, "database", None)  # a store in memory has none
    if database is not None:
        watch(database, registry)
    app.add_middleware(Requests, registry=registry)


class Queue(Collector):
    """How much there is to do, looked up when it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        up = GaugeMetricFamily("nas_database_up", "Whether the database answered this very question")
        try:
            census = self._store.census()
        except DatabaseError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        jobs = GaugeMetricFamily("nas_jobs", "Jobs by state", labels=["state"])
        for state in JobState:
            jobs.add_metric([state.value], census.jobs.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "nas_queue_oldest_seconds", "How long the oldest QUEUED job has waited", value=census.waiting_seconds
        )


class Requests:
    """ASGI middleware that counts requests by route and status, and measures how long answers take to begin.

    Args:
        app: the application.
        registry: where the counts are shown.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._count = Counter(
            "nas_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "nas_http_request_seconds",
            "From a request to the beginning of its answer",
            ["method", "route"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._open = Gauge("nas_http_requests_open", "Requests and streams under way", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answered = time.perf_counter(), False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")  # the template: paths would be endless
            self._count.labels(method, route, status).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - started)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        with self._open.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            except Exception:
                if not answered:  # the answer, 500, is made by Starlette, outside of all middleware
                    count(500)
                raise
