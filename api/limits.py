"""How often who may ask: token buckets, and the middleware that takes from them."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

NAMES_KEPT = 20_000
"""Buckets in memory, a few hundred bytes each; those that were used last."""


@dataclass(frozen=True)
class Rate:
    """A bucket of `burst` tokens that fills by `per_second`; a request takes one."""

    per_second: float
    burst: int

    def take(self, full_at: float, at: float) -> tuple[float, float]:
        """Take a token at a time (seconds) from a bucket that is full at `full_at`.

        Returns:
            When it is full now, and the seconds to wait: 0 where there was a token, and else none was taken.
        """
        after = max(full_at, at) + 1 / self.per_second
        wait = after - at - self.burst / self.per_second
        return (full_at, wait) if wait > 1e-9 else (after, 0.0)


WRONG_KEYS = Rate(0.5, 30)
"""Failed authentications of one address: against guessing, and against a query of the database for each."""


class Buckets:
    """Buckets by name, all of one rate. For one thread."""

    def __init__(self, rate: Rate, kept: int = NAMES_KEPT) -> None:
        self._rate, self._kept = rate, kept
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, at: float) -> float:
        """Take a token; the seconds to wait where there is none, and else 0."""
        full_at, wait = self._rate.take(self._full_at.get(name, at), at)
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        if len(self._full_at) > self._kept:
            self._full_at.popitem(last=False)
        return wait

    def wait(self, name: str, at: float) -> float:
        """The seconds to wait for the next token, which is not taken."""
        return self._rate.take(self._full_at.get(name, at), at)[1]


class Limits:
    """ASGI middleware: 429 for who asks too often, by API key, or by address where no known key is shown.

    Args:
        app: the application.
        rate: of requests; None: without limit.
        known: the id of the key in a value of ``Authorization``, where the key was found right before.
    """

    def __init__(self, app: ASGIApp, rate: Rate | None, known: Callable[[bytes], str | None]) -> None:
        self._app, self._known = app, known
        self._requests = None if rate is None else Buckets(rate)
        self._wrong = Buckets(WRONG_KEYS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429, or hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        at = time.monotonic()
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        key = None if shown is None else self._known(shown)
        address = network(scope["client"][0]) if scope.get("client") else ""
        wait = 0.0 if self._requests is None else self._requests.take(f"key {key}" if key else address, at)
        guessing = shown is not None and key is None
        if guessing:
            wait = max(wait, self._wrong.wait(address, at))
        if wait > 0:
            await _too_many(wait)(scope, receive, send)
        else:
            await self._app(scope, receive, self._watched(send, address) if guessing else send)

    def _watched(self, send: Send, address: str) -> Send:
        """The same, that notes where the key turned out to be wrong."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._wrong.take(address, time.monotonic())
            await send(message)

        return noting


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 one, which one host can have alone."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))


def _too_many(wait: float) -> ASGIApp:
    seconds = max(1, math.ceil(wait))
    return problem(429, f"too many requests; try again in {seconds} s", headers={"Retry-After": str(seconds)})
