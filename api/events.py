"""What happens to a job, as it happens: server-sent events under `/v1/jobs/{id}/events`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, TypeAlias, cast

from fastapi import APIRouter, Depends, Header, Query, Request
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from api import queries
from api.access import JobId, Key, Store, Viewer, own_job
from api.listeners import Holder, Listeners
from api.openapi import PROBLEM, refusals
from api.paths import JOB
from api.watches import Watches
from nas.job import Job

KEEP_ALIVE = 15
"""Seconds between comments, so that nothing in between takes the connection for dead."""
UNREAD = 60.0
"""Seconds after which a listener that reads nothing is cut off."""

router = APIRouter(prefix="/v1/jobs", tags=["trials"], responses={"default": PROBLEM})

LastEventId: TypeAlias = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=-1, lt=2**31, description="the id of the last event that was received"),
]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`job` with the job, first and when its state, its reason or its document changes; "
        '`trials` with `{"trials": [...]}` in the order in which they finished, the order of the last as id; '
        "`end` with the job when it is over, and the stream closes",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 17\r\nevent: trials\r\ndata: {"trials":[{"number":17}]}\r\n\r\n',
            }
        },
    },
    **refusals(400, 404, 422),
}


def _watches(request: Request) -> Watches:
    return cast(Watches, request.app.state.watches)


def _own_job(store: Store, who: Viewer, job_id: JobId) -> Job:  # a plain function, so it runs in a thread
    job = own_job(store, who, job_id)
    store.finished(job_id, limit=1)  # one that cannot be read is refused before anything is sent
    return job


async def _holder(request: Request, key: Key) -> AsyncIterator[Holder]:
    """Who is to hold the stream, counted until it ends."""
    listeners: Listeners = request.app.state.listeners
    with listeners.admitted(key, request.client.host if request.client else "") as holder:
        yield holder


class _Stream(EventSourceResponse):
    """Events until the last, or until the listener does not read them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SendTimeoutError):  # it may come again, and goes on where it was
            await super().__call__(scope, receive, send)


@router.get(JOB + "/events", response_class=EventSourceResponse, responses=_RESPONSES)
async def stream_events(
    watches: Annotated[Watches, Depends(_watches)],
    job: Annotated[Job, Depends(_own_job)],
    query: Annotated[queries.EventQuery, Query()],
    holder: Annotated[Holder, Depends(_holder)],
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """What happens to the job, as server-sent events. A listener that comes again loses nothing."""
    after = query.after if last_event_id is None else last_event_id
    return _Stream(watches.events(job, after, lambda: holder.over), ping=KEEP_ALIVE, send_timeout=UNREAD)
