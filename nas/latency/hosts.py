"""What all who measure on one host share: whose turn it is, and what the reference network takes here.

A lock on a file holds between processes, users, runners and Ray clusters, as long as they see the same ``/tmp``
(containers: when it is mounted into all of them). The system takes it back from a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLACE = Path("/tmp")  # the one folder of a host that all of its users share, whatever TMPDIR says
FREE = 0o644
"""Others need to read a lock's file only, and nobody but its owner can write it."""


@contextmanager
def turn(what: str = "host", place: Path = PLACE) -> Iterator[None]:
    """In the body nobody else on this host measures `what`; waits for its turn."""
    descriptor = _opened(place / f"nas-latency-{what}.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def kept(what: object, found: Callable[[], float], place: Path = PLACE) -> float:
    """A positive number that is found once on this host, and then the same for all; call it within one's `turn`.

    `what` it is of (JSON values) tells it from others. It lasts until ``/tmp`` is cleared.
    """
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    path = place / f"nas-latency-{digest}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        number = float(json.loads(path.read_text(encoding="utf-8"))["number"])
        if math.isfinite(number) and number > 0:
            return number
    number = found()
    with suppress(OSError):  # a full disk, or a broken file of another user's: the next one finds it again
        _write(path, json.dumps({"number": number, "of": what}))
    return number


def device() -> str:
    """What networks run on here: the processor's name, and how many cores."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()} cores"


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """In the body this thread, and those that it starts, stay on the last `threads` cores that it may use.

    Gives their numbers; none where the system has no such thing.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    cores = tuple(sorted(before)[-threads:])
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def _write(path: Path, text: str) -> None:
    """The file as a whole or not at all, for all to read."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).chmod(FREE)
        Path(fresh).replace(path)
    except OSError:
        Path(fresh).unlink(missing_ok=True)
        raise


def _opened(path: Path) -> int:
    """A descriptor of the file, made where it is not there; never through a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        with suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, FREE)
