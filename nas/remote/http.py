"""Requests to a server: the API key, retries that repeat nothing, and problems as exceptions."""

from __future__ import annotations

import random
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx

from nas.remote.errors import ApiError, refusal
from search_spaces import SpecError

TIMEOUT = httpx.Timeout(60, connect=10)
"""Seconds."""
PATIENCE = 30.0
"""Seconds for which a request is repeated while the server is away."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts: about doubled each time, and drawn, so that clients do not come back together."""
AWAY = (429, 502, 503, 504)
"""Statuses that will pass."""
SAFE = ("GET", "HEAD")
PROBLEM = "application/problem+json"


class Http:
    """One server. Threads may share it.

    A request is repeated while the server is away (no connection, or a status in `AWAY`, as long as its
    Retry-After says), but only one that may come twice: one that reads, one with an ``Idempotency-Key``, or one
    that cannot have arrived. Redirects are not followed, so the API key goes to no other address.
    """

    def __init__(self, url: str, api_key: str | None = None, *, patience: float = PATIENCE) -> None:
        """`url`: of the server, without ``/v1``. Raises `SpecError` for what is no such address."""
        self.url = url.rstrip("/")
        self.patience = patience
        headers = {"User-Agent": f"nas-service/{version('nas-service')}"}
        if api_key:
            headers["Authorization"] = f"Bearer {_printable(api_key)}"
        self._client = httpx.Client(base_url=_address(self.url), headers=headers, timeout=TIMEOUT)
        self.close = weakref.finalize(self, self._client.close)
        """Closes the connections; comes by itself where nobody holds the object any more."""

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, patience: float | None = None) -> Any:
        """The JSON value at a path. Parameters that are None are left out."""
        return self.request("GET", path, params=params, patience=patience)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
        patience: float | None = None,
    ) -> Any:
        """The JSON value that a request answers; None where it answers nothing.

        `again`: it may come twice, whatever its method. `patience`: seconds, instead of the usual.

        Raises:
            SpecError: the document or the query is wrong.
            KeyError: there is no such thing (`NotFound`).
            WrongState: the state does not allow it.
            Stale: it was edited meanwhile.
            ApiError: anything else.
        """
        request = self._client.build_request(
            method, f"/v1{path}", params=_given(params), json=json, headers=dict(headers or {})
        )
        repeatable = again or method in SAFE or "Idempotency-Key" in request.headers
        response = self._answer(request, self.patience if patience is None else patience, repeatable)
        return _value(response) if response.content else None

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """The answer of a GET, to be read as it comes. Raises what `request` raises."""
        request = self._client.build_request(
            "GET", f"/v1{path}", params=_given(params), headers=dict(headers or {})
        )
        response = self._answer(request, self.patience, stream=True)
        try:
            yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def _answer(
        self, request: httpx.Request, patience: float, repeatable: bool = True, *, stream: bool = False
    ) -> httpx.Response:
        """The successful response to a request; repeats it while that may help."""
        pauses = _Pauses(patience)
        while True:
            try:
                response = self._client.send(request, stream=stream)
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                pause = pauses.next(0.0) if repeatable or never_sent else None
                if pause is None:
                    raise self._unreachable(error) from error
            else:
                if response.is_success:
                    return response
                response.read()
                again = response.status_code in AWAY and (repeatable or response.status_code == 429)
                pause = pauses.next(_retry_after(response)) if again else None
                if pause is None:
                    raise self._refusal(response)
            time.sleep(pause)

    def _refusal(self, response: httpx.Response) -> Exception:
        status = response.status_code
        if response.is_redirect:
            there = response.headers.get("location", "another address")
            return ApiError(status, "UNKNOWN", f"{self.url} points to {there}; name that server instead")
        if response.headers.get("content-type", "").partition(";")[0] == PROBLEM:
            return refusal(status, _value(response))
        return ApiError(
            status, "UNKNOWN", f"{self.url} answers {status} {response.reason_phrase}; is it a NAS service?"
        )

    def _unreachable(self, error: httpx.TransportError) -> ApiError:
        reason = str(error) or type(error).__name__
        return ApiError(None, "UNAVAILABLE", f"no answer from {self.url}: {reason}")


def fresh_key() -> dict[str, str]:
    """The header that makes a repeated submission the same one."""
    return {"Idempotency-Key": uuid.uuid4().hex}


class _Pauses:
    """How long to wait before each further attempt, until patience is at its end."""

    def __init__(self, patience: float) -> None:
        self._end = time.monotonic() + patience
        self._next = FIRST_PAUSE

    def next(self, at_least: float) -> float | None:
        """Seconds to wait, or None where it is not worth it."""
        pause = max(at_least, self._next * random.uniform(0.5, 1.0))
        self._next = min(2 * self._next, LONGEST_PAUSE)
        return pause if time.monotonic() + pause <= self._end else None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait: given as such, or as a date."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _value(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        detail = f"{response.request.url} does not answer JSON; is it a NAS service?"
        raise ApiError(None, "UNKNOWN", detail) from None


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _address(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SpecError.at("url", f"{url!r} is not an address: {error}") from None
    if found.scheme not in ("http", "https") or not found.host:
        raise SpecError.at("url", f"{url!r} is not an address; allowed: http://host:port or https://host")
    return found


def _printable(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise SpecError.at("api_key", "an API key has printable ASCII characters only")
    return api_key
