"""What a server refuses, as the exceptions that a local store raises; what has no such, as `ApiError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.contracts import Stale
from nas.job import WrongState
from search_spaces import Fault, SpecError


class ApiError(Exception):
    """A request that failed."""

    def __init__(self, status: int | None, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP; None where there was no answer, or none that can be read."""
        self.code = code
        """Canonical (gRPC), as ``RESOURCE_EXHAUSTED``."""
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class NotFound(ApiError, KeyError):
    """What was asked for is not there, or not for this API key."""


def refusal(status: int, problem: Mapping[str, Any]) -> Exception:
    """The exception for a problem (RFC 9457) that a server answered."""
    detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
    code = str(problem.get("code", "UNKNOWN"))
    if status == 404:
        return NotFound(status, code, detail)
    if status == 409:
        return WrongState(detail)
    if status == 412:
        return Stale(detail)
    if status == 422:
        faults = [Fault(str(f["path"]), str(f["message"])) for f in problem.get("faults", ())]
        return SpecError(faults or [Fault("", detail)])
    if status == 401:
        detail = f"the server wants a valid API key, in NAS_API_KEY: {detail}"
    if status == 403:
        detail = f"the API key (NAS_API_KEY) does not allow this: {detail}"
    return ApiError(status, code, detail)
