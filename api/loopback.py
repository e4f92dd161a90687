"""What a service without API keys refuses: requests that only look as if this machine's user sent them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem
from nas.access import is_loopback
from search_spaces.faults import show

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers of a proxy, behind which anybody may stand."""


class LoopbackOnly:
    """ASGI middleware: 421 for a request that another site's page (DNS rebinding, forms) or a proxy sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand the request on."""
        why = fault(Headers(scope=scope)) if scope["type"] == "http" else None
        if why is None:
            await self._app(scope, receive, send)
            return
        await problem(421, f"{why}; without API keys this is not answered, with NAS_AUTH=keys it is")(
            scope, receive, send
        )


def fault(headers: Headers) -> str | None:
    """Why the request may not come from this machine's user, if it may not."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(_name(host)):
        return f"the Host header {show(host)} does not name a loopback address"
    if origin is not None and origin.partition("://")[2] != host:
        return f"a page of {show(origin)} sent the request"
    through = [name for name in FORWARDED if name in headers]
    return f"a proxy sent the request ({through[0]})" if through else None


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
