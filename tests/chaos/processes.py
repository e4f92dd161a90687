"""Processes that the harness starts, hurts, starts again, and in the end removes to the last one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.waiting import until

ROOT = Path(__file__).parents[2]
MARK = "NAS_CHAOS_MARK"
"""The environment variable by which everything that a run started, however indirectly, is found again."""


class Process:
    """One process that may be killed and started again; its output goes to one log file."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._command, self._env = [*_dying_with_us(), *command], dict(env)
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.started_at = 0.0
        self.stopped_until: float | None = None

    def start(self) -> None:
        """Start it; it must not be running."""
        self.started_at, self.stopped_until = time.monotonic(), None
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process, as last started."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives."""
        return None if self._popen is None else self._popen.poll()

    def said(self, text: str) -> bool:
        """Whether the text stands in what it wrote since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return text.encode() in log.read()

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until it said so. Raises `RuntimeError`, with what it said instead."""
        end = time.monotonic() + seconds
        while not self.said(text):
            if (self.exit_code is not None and not self.said(text)) or time.monotonic() > end:
                raise RuntimeError(f"{self.name}: {text!r} did not come\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, of this process alone: what it started must notice by itself."""
        assert self._popen is not None
        self._popen.kill()
        self._popen.wait()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, for so long."""
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped_until = time.monotonic() + seconds

    def thaw(self) -> None:
        """SIGCONT."""
        self.stopped_until = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def terminate(self, seconds: float) -> int:
        """SIGTERM, and its exit code. Raises `subprocess.TimeoutExpired`."""
        assert self._popen is not None
        self._popen.terminate()
        return self._popen.wait(seconds)


def environment(mark: str, **variables: str) -> dict[str, str]:
    """The environment of a process of the run: the caller's, without its NAS and Ray settings, and one thread."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NAS_", "RAY_"))}
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    fixed = {MARK: mark, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return {**inherited, **fixed, "RAY_AUTH_MODE": "disabled", **variables}


@contextmanager
def cleanup() -> Iterator[str]:
    """A mark for the body; every process that carries it is killed at the end, also on SIGTERM and Ctrl-C."""
    mark = uuid.uuid4().hex
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield mark
    finally:
        signal.signal(signal.SIGTERM, before)
        end = time.monotonic() + 20
        while (left := marked(mark)) and time.monotonic() < end:  # again: a dying one may have started another
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that were started with the mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def ray_node(name: str, mark: str, folder: Path, log: Path, arguments: Sequence[str], **env: str) -> Process:
    """A Ray node of this machine, head or worker: `ray start` with ports that nobody else uses."""
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--disable-usage-stats",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--object-store-memory={100 * 1024**2}",
        f"--temp-dir={folder}",
        *arguments,
    ]
    return Process(name, command, environment(mark, **env), log)


def node_up(node: Process) -> None:
    """Wait for a Ray node that was started; one that gives up, as on a busy host, is started again."""
    until(lambda: restarted(node) and node.said("Ray runtime started"), 180, f"{node.name} to start")


def restarted(process: Process) -> bool:
    """Start a process again if it has ended; always true."""
    if process.exit_code is not None:
        process.start()
    return True


def ray_workers(node: Process) -> list[psutil.Process]:
    """The processes under a Ray node that evaluate: actors, and what they started themselves."""
    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(node.pid).children(recursive=True):
            with suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith("ray::_"):
                    found += [process, *process.children(recursive=True)]
    return list({p.pid: p for p in found}.values())


def _dying_with_us() -> list[str]:
    """A prefix of a command that has it killed when the harness itself is (Linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
