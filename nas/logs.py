"""Log lines of the service's processes: structured, with the ids of job and trial, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Style: TypeAlias = Literal["console", "json"]

_ACCESS = ("client", "method", "path", "http", "status")
"""What uvicorn's lines about requests are made of."""


def configure(style: Style) -> None:
    """Have all log lines of this process, other libraries' too, written alike on standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _request],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(style)],
            pass_foreign_args=True,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # says of each that it is there


def _last(style: Style) -> list[Processor]:
    """How a line looks. Tracebacks are without variables, whose values may be secrets."""
    if style == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _request(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A line of another library, by its logger; one of uvicorn about a request is taken apart again."""
    name, values = event["_record"].name, event.pop("positional_args", ())
    if name == "uvicorn.access" and isinstance(values, tuple) and len(values) == len(_ACCESS):
        return {**event, "event": "request", **dict(zip(_ACCESS, values, strict=True))}
    return {**event, "logger": name}
