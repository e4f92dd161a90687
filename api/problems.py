"""Everything that goes wrong, as RFC 9457 `application/problem+json` with a canonical (gRPC) `code`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from nas.contracts import Stale, TokenReused
from nas.job import WrongState
from nas.storage import DatabaseError
from nas.storage.errors import Unreadable
from search_spaces import Fault, SpecError
from search_spaces.faults import show

CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "FAILED_PRECONDITION",
    412: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    421: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
MAX_FAULTS = 100
"""Faults that one answer lists."""
RETRY_AFTER = 2
"""Seconds after which a client may try again when the database was away."""


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self, status: int, detail: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.faults, self.headers = status, detail, faults, headers


def faulty(what: str, faults: Sequence[Fault]) -> Refused:
    """The refusal, 422, of a document or a query that can be read and yet is wrong; it lists the first faults."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Refused(422, f"the {what} has {count}; the first: {faults[0]}", faults[:MAX_FAULTS])


def problem(
    status: int, detail: str, *, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response that tells what is wrong."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": CODES.get(status, "UNKNOWN"),
        "detail": detail,
    }
    if faults:
        content["faults"] = [{"path": f.path, "message": f.message} for f in faults]
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Have every exception that a route can raise answered with a problem."""

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.detail, faults=error.faults, headers=error.headers)

    @app.exception_handler(WrongState)
    def wrong_state(request: Request, error: WrongState) -> JSONResponse:
        return problem(409, str(error))

    @app.exception_handler(Stale)
    def stale(request: Request, error: Stale) -> JSONResponse:
        return problem(412, "the job was edited since you looked at it; get it again for its ETag")

    @app.exception_handler(TokenReused)
    def token_reused(request: Request, error: TokenReused) -> JSONResponse:
        fault = Fault("Idempotency-Key", "stands for another request; allowed: a key of its own for each")
        return refused(request, faulty("request", [fault]))

    @app.exception_handler(Unreadable)
    def unreadable(request: Request, error: Unreadable) -> JSONResponse:
        return problem(409, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if any(e["loc"][0] == "path" for e in error.errors()):  # no such id or number can exist
            return problem(404, f"{show(request.url.path)} does not exist")
        headers = [f for e in error.errors() if e["loc"][0] == "header" for f in _faults(e)]
        if headers:
            return problem(400, f"the header {headers[0]}", faults=headers)
        return refused(request, faulty("query", [f for e in error.errors() for f in _faults(e)]))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = f"{request.method} {show(request.url.path)}: {error.detail}"
        headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        return problem(error.status_code, detail, headers=headers)

    @app.exception_handler(DatabaseError)
    def database_away(request: Request, error: DatabaseError) -> JSONResponse:
        structlog.get_logger().warning("the database does not answer", reason=str(error))
        headers = {"Retry-After": str(RETRY_AFTER)}
        return problem(503, "the database does not answer; try again", headers=headers)

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises the exception again once this is sent, so that the server logs it with its stack.
        return problem(500, "an error of the service itself; its log has the details")


def _methods(request: Request) -> list[str]:
    """What a path takes. Starlette tells the methods of the first route that has it, and several may."""
    tried = ("DELETE", "GET", "PATCH", "POST", "PUT")
    routes = request.app.router.routes
    return [m for m in tried if any(r.matches({**request.scope, "method": m})[0] is Match.FULL for r in routes)]


def _faults(error: Mapping[str, Any]) -> Sequence[Fault]:
    """A finding of pydantic's about query parameters or a header; the path leaves out which of the two."""
    path = ".".join(map(str, error["loc"][1:]))
    if error["type"] == "value_error":
        reason = error["ctx"]["error"]
        return reason.faults if isinstance(reason, SpecError) else [Fault(path, str(reason))]
    message = str(error["msg"])
    return [Fault(path, f"{show(error['input'])} is not allowed: {message[0].lower()}{message[1:]}")]
