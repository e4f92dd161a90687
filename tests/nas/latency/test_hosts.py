"""One measurement at a time on a host: the lock holds between processes, and its holder's death gives it back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nas.hardware import processor, usable_cores
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
    before = os.umask(0o077)
    try:
        with hosts.turn(place=tmp_path):
            pass
    finally:
        os.umask(before)
    lock = tmp_path / "nas-latency-host.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o644
    lock.chmod(0o444)
    with hosts.turn(place=tmp_path):
        assert taken(tmp_path)


def test_a_lock_is_never_a_link(tmp_path: Path) -> None:
    (tmp_path / "nas-latency-host.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), hosts.turn(place=tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_never_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nas-latency-host.lock")
    with pytest.raises(OSError, match="is no plain file"), hosts.turn(place=tmp_path):
        pass


def test_who_waits_for_a_lock_that_is_swept_away_takes_the_new_one(tmp_path: Path) -> None:
    lock = tmp_path / "nas-latency-host.lock"
    with holder(tmp_path) as first:
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), "host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        try:
            _until_open(waiting.pid, lock)
            lock.unlink()
            assert first.stdin is not None
            first.stdin.close()
            assert waiting.stdout.readline() == "held\n"
            assert taken(tmp_path)
        finally:
            waiting.kill()
            waiting.communicate()


def test_more_threads_than_cores_are_refused() -> None:
    assert hosts.too_many(usable_cores()) == []
    (fault,) = hosts.too_many(usable_cores() + 1)
    assert (fault.path, "allowed: 1 to" in fault.message) == ("threads", True)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system pins no threads")
def test_threads_are_pinned_for_a_while() -> None:
    before = os.sched_getaffinity(0)
    with hosts.pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores)
        assert len(cores) == 1
    with hosts.pinned(4096) as cores:
        assert set(cores) == before
    assert os.sched_getaffinity(0) == before


def test_a_device_is_told_by_its_processor() -> None:
    assert processor()
    assert hosts.device().startswith(processor())


def _until_open(pid: int, path: Path) -> None:
    """Until the process has the file open."""
    end = time.monotonic() + 60
    while True:
        with suppress(OSError):
            if any(path.samefile(f) for f in Path(f"/proc/{pid}/fd").iterdir() if f.exists()):
                return
        assert time.monotonic() < end
        time.sleep(0.02)
