"""What an evaluation has to say beside its metrics: a line in the trial's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_KEPT: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


def remark(line: str) -> None:
    """Keep the line with the trial under evaluation: in a process of trials by printing it."""
    kept = _KEPT.get()
    if kept is None:
        print(line, flush=True)
    else:
        kept.append(line)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """The lines of the body, as they come; they are not printed."""
    lines: list[str] = []
    token = _KEPT.set(lines)
    try:
        yield lines
    finally:
        _KEPT.reset(token)
