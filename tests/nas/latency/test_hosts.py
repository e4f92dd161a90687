"""One measurement at a time on a host: the lock holds between processes, and its holder's death gives it back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas.latency import hosts

HOLD = """
import sys, time
from pathlib import Path
from nas.latency import hosts
with hosts.turn(sys.argv[2], Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from nas.latency import hosts
place = Path(sys.argv[1])
for _ in range(40):
    with hosts.turn(place=place):
        (place / "inside").touch(exist_ok=False)  # fails where another one is inside
        number = int((place / "count").read_text())
        (place / "count").write_text(str(number + 1))
        (place / "inside").unlink()
"""


@contextmanager
def holder(place: Path, what: str = "host") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the turn until its input closes; it holds it when the body begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def taken(place: Path, what: str = "host") -> bool:
    """Whether somebody holds the turn."""
    code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    found = subprocess.run(
        [sys.executable, "-c", code, str(place / f"nas-latency-{what}.lock")], stderr=subprocess.PIPE, check=False
    )
    assert found.returncode in (0, 1)
    assert found.returncode == 0 or b"BlockingIOError" in found.stderr
    return found.returncode == 1


def test_processes_take_turns(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    running = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "120"


def test_a_killed_holder_gives_its_turn_back(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert taken(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with hosts.turn(place=tmp_path):
            assert taken(tmp_path)
    assert not taken(tmp_path)


def test_hosts_and_devices_have_turns_of_their_own(tmp_path: Path) -> None:
    with holder(tmp_path, "of-phone"), hosts.turn(place=tmp_path), hosts.turn("of-board", tmp_path):
        assert taken(tmp_path, "of-phone")


def test_an_error_gives_the_turn_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hosts.turn(place=tmp_path):
        _ = 1 / 0
    assert not taken(tmp_path)


def test_others_can_lock_a_file_that_is_not_theirs(tmp_path: Path) -> None:
    with hosts.turn(place=tmp_path):
        pass
    lock = tmp_path / "nas-latency-host.lock"
    assert stat.S_IMODE(lock.stat().st_mode) & 0o444 == 0o444 & ~_umask()
    lock.chmod(0o444)
    with hosts.turn(place=tmp_path):
        assert taken(tmp_path)


def test_a_lock_is_never_a_link(tmp_path: Path) -> None:
    (tmp_path / "nas-latency-host.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), hosts.turn(place=tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_found_once_is_kept_for_all(tmp_path: Path) -> None:
    numbers = iter([3.25, 4.0, 5.0])

    def found() -> float:
        return next(numbers)

    assert [hosts.kept(["torch", 1], found, tmp_path) for _ in range(3)] == [3.25] * 3
    assert hosts.kept(["torch", 2], found, tmp_path) == 4.0
    (kept,) = (p for p in tmp_path.iterdir() if "3.25" in p.read_text())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    for broken in ("", "{", "[]", '{"number": "x"}', '{"number": -1}', '{"number": 1e999}'):
        kept.write_text(broken)
        assert hosts.kept(["torch", 1], lambda: 7.0, tmp_path) == 7.0
        assert hosts.kept(["torch", 1], found, tmp_path) == 7.0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    assert hosts.kept("x", lambda: 2.0, tmp_path / "nowhere") == 2.0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system pins no threads")
def test_threads_are_pinned_for_a_while() -> None:
    before = os.sched_getaffinity(0)
    with hosts.pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores)
        assert len(cores) == 1
    with hosts.pinned(4096) as cores:
        assert set(cores) == before
    assert os.sched_getaffinity(0) == before


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
