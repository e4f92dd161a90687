"""What stands before every route: who is let in, from where, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI

from api.access import KeyRing
from api.limits import Limits, Rate
from api.loopback import LoopbackOnly
from nas.access import Keys
from nas.settings import Settings


@dataclass(frozen=True)
class Guard:
    """How an application is protected."""

    keys: Keys | None = None
    """The API keys that requests must show one of; None: they need none."""
    loopback_only: bool = False
    """Requests must be meant for a loopback address, and come from no other site and through no proxy."""
    rate: Rate | None = None
    """Of requests, by key or address."""
    streams: int = 256
    """Event streams that one key or address may hold at once."""

    @classmethod
    def of(cls, settings: Settings, keys: Keys | None) -> Guard:
        """The protection of a server; without keys it must listen on a loopback address (`takes_keys`)."""
        rate = Rate(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
        return cls(keys, keys is None, rate, settings.event_streams)

    def install(self, app: FastAPI) -> None:
        """Protect an application; the middleware added last sees requests first."""
        ring = None if self.keys is None else KeyRing(self.keys)
        app.state.key_ring = ring
        if ring is not None or self.rate is not None:
            app.add_middleware(Limits, rate=self.rate, known=_nobody if ring is None else ring.known)
        if self.loopback_only:
            app.add_middleware(LoopbackOnly)


UNGUARDED = Guard()
"""Whoever reaches the application may do everything: for tests, and within one's own process."""


def _nobody(authorization: bytes) -> None:
    return None
