"""`python -m api`: the HTTP API as a process of its own. `nas serve` starts it, with a runner beside it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, create_server, socket

import structlog
import uvicorn
from fastapi import FastAPI

from api import create_app
from api.guard import Guard
from nas.access import masked, takes_keys
from nas.journal import Journal
from nas.logs import configure
from nas.outages import when_there
from nas.settings import open_configured_artifacts, open_configured_store, read_settings
from nas.storage import DatabaseError
from search_spaces import SpecError

FAILED, BAD_INPUT = 1, 2
LAST_ANSWERS = 5
"""Seconds that requests under way get when the process is stopped; event streams would go on for ever."""
NO_KEY = "there is no API key yet, so every request is refused; make one: nas keys create NAME --role admin"


def main() -> None:
    """Serve until stopped; exit code 2 where the settings would leave the service open to anybody."""
    parser = argparse.ArgumentParser(prog="api", description="Serve the HTTP API of the NAS service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        settings = read_settings()
        configure(settings.log_format)
        check_free(options.host, options.port)
        app = configured(options.host)
    except (SpecError, DatabaseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT if isinstance(error, SpecError) else FAILED)
    logging.getLogger("uvicorn.access").addFilter(without_secrets)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        forwarded_allow_ips=list(settings.trusted_proxies),
        log_config=None,  # its lines go through `nas.logs`
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    with suppress(KeyboardInterrupt):
        Server(config).run()


class Server(uvicorn.Server):
    """Says when it answers, which people at a terminal and scripts wait for."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        structlog.get_logger().info(f"ready: http://{host}:{self.config.port}/docs")


def check_free(host: str, port: int) -> None:
    """Raises `OSError` where the address cannot be listened on.

    The server binds it anew: its event loop sends small answers at once on sockets that it has made itself only.
    """
    try:
        create_server((host, port), family=AF_INET6 if ":" in host else AF_INET).close()
    except OSError as error:
        raise OSError(f"cannot listen: {error.strerror}; --host and --port choose another address") from None


def configured(host: str) -> FastAPI:
    """The application as the environment wants it, to listen on `host`. Raises `SpecError` or `DatabaseError`."""
    settings = read_settings()
    needs_keys = takes_keys(settings.auth, host)  # before anything is touched
    check_proxies(settings.trusted_proxies)
    artifacts = open_configured_artifacts()
    store = when_there(open_configured_store, Journal())
    if needs_keys and not store.keys.all():
        structlog.get_logger().warning(NO_KEY)
    guard = Guard.of(settings, store.keys if needs_keys else None)
    return create_app(store, guard, settings.allowed_functions, artifacts)


def check_proxies(proxies: Sequence[str]) -> None:
    """Raises `SpecError` for a trusted proxy that is no address: who is trusted may claim any address."""
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError:
            said = f"{proxy!r} is no IP address or network; allowed: 10.0.0.7, 10.0.0.0/8"
            raise SpecError.at("FORWARDED_ALLOW_IPS", said) from None


def without_secrets(record: logging.LogRecord) -> bool:
    """Mask API keys in a line of the access log, where somebody wrote one into a URL."""
    if isinstance(record.args, tuple):
        record.args = tuple(masked(a) if isinstance(a, str) else a for a in record.args)
    return True


if __name__ == "__main__":
    main()
