"""What all who measure on one host share: whose turn it is, and on which cores.

A lock on a file holds between processes, users, runners and Ray clusters, as long as they see the same ``/tmp``
(containers: when it is mounted into all of them). The system takes it back from a process that dies. The file is
empty: nothing is read from it, so it may be swept away, and whoever has put it there can make others wait at most.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas.hardware import processor, usable_cores
from search_spaces import Fault

PLACE = Path("/tmp")  # the one folder of a host that all of its users share, whatever TMPDIR says
FREE = 0o644
"""Others need to read a lock's file only, and nobody but its owner can write it."""


@contextmanager
def turn(what: str = "host", place: Path = PLACE) -> Iterator[None]:
    """In the body nobody else on this host measures `what`; waits for its turn.

    Raises:
        OSError: where something else than a plain file has the lock's name.
    """
    descriptor = _locked(place / f"nas-latency-{what}.lock")
    try:
        yield
    finally:
        os.close(descriptor)


def device() -> str:
    """What networks run on here: the processor's name, and how many cores."""
    return f"{processor()}, {os.cpu_count()} cores"


def too_many(threads: int) -> list[Fault]:
    """Whether this host lacks cores for so many threads: they would wait for each other, and that be measured."""
    if threads <= (cores := usable_cores()):
        return []
    return [Fault("threads", f"{threads} is more than the cores to be used on this host; allowed: 1 to {cores}")]


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


def _locked(path: Path) -> int:
    """A descriptor of the file, locked; where it was swept away meanwhile, of the one that is there now."""
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of the plain file, made where it is not there; never through a link, nor waiting for a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, flags)
            break
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, FREE)
            os.fchmod(descriptor, FREE)  # whatever the umask has taken away
            break
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no plain file; who measures on this host locks one there")
    return descriptor
