"""A database with something in it: jobs in every state, finished trials, a key; and a server that serves it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nas.access import Role, new_key
from nas.artifacts import Artifacts
from nas.contracts import Lease, Store
from nas.deploy.card import card_json
from nas.deploy.export import CARD, MODEL
from nas.exports import ExportSpec
from nas.job import JobSpec, JobState
from nas.storage import open_store
from nas.trial import Broken, BrokenKind, Measured, Proposal
from search_spaces.load import space_of
from tests.documents import A_CARD, CELLS

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = {**CELLS, "budget": {"max_trial_count": 1000}}
OVER = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
TRIALS = 40
"""Of every job that ran."""
EXPENDABLE = 60
"""Jobs that wait, and that are there to be changed and deleted."""
UP_SECONDS = 90.0
LEASE_SECONDS = 86_400.0
"""Longer than any campaign: what is prepared as held by a runner stays so."""


@dataclass(frozen=True)
class Served:
    """A server that runs, and the ids that exist there."""

    url: str
    key: str
    over: Sequence[str]
    """Jobs that are over: nothing that a client sends changes them, and their events end."""
    lasting: Sequence[str]
    """Those, and jobs that wait and that run."""
    expendable: Sequence[str]
    predictors: Sequence[str]
    """The first of them lasts; the others may be deleted."""
    exports: Sequence[str]
    """One of each state; the file of the one that SUCCEEDED is there."""


@contextmanager
def served(folder: Path, *, predictors: bool = True) -> Iterator[Served]:
    """A server on a database of its own in `folder`, until the block ends; to fit predictors takes a while."""
    url = f"sqlite:///{folder}/nas.db"
    store = open_store(url, lease_seconds=LEASE_SECONDS)
    try:
        key, text = new_key("fuzz", Role.ADMIN, "default", time.time())
        store.keys.add(key)
        over = [_ran(store, state) for state in OVER]
        waiting = [_ran(store, JobState.PAUSED), _ran(store, None), store.submit(JobSpec.parse(DOCUMENT)).id]
        expendable = [store.submit(JobSpec.parse(DOCUMENT)).id for _ in range(EXPENDABLE)]
        exports = _exported(store, over[0], Artifacts(f"file:{folder}/.nas/artifacts"))
    finally:
        store.close()
    with _server(url, folder) as address:
        fitted = _fitted(address, text, over[0]) if predictors else ["none-is-here"]
        yield Served(address, text, over, [*over, *waiting], expendable, fitted, exports)


def _ran(store: Store, state: JobState | None) -> str:
    """A job with finished trials; None: a runner holds it, and two trials are open."""
    job = store.submit(JobSpec.parse(DOCUMENT))
    lease = store.claim(job.id)
    assert lease is not None
    _evaluate(lease, TRIALS)
    if state is not None:
        lease.release(state, "prepared" if state is JobState.FAILED else None)
    return job.id


def _exported(store: Store, job_id: str, files: Artifacts) -> list[str]:
    """Exports that a runner has in hand or is done with, and one that waits."""
    ids = [store.exports.add(ExportSpec(job=job_id, trial=0)).id for _ in range(4)]
    good, bad, _ = (store.exports.claim() for _ in range(3))
    assert good is not None
    assert bad is not None
    files.put(job_id, f"{good.folder}/0/{MODEL}", b"a file")
    files.put(job_id, f"{good.folder}/0/{CARD}", card_json(A_CARD).encode())
    store.exports.settle(good.succeeded(time.time()))
    store.exports.settle(bad.failed("prepared", time.time()))
    return ids


def _evaluate(lease: Lease, count: int) -> None:
    space = space_of(lease.renew().spec.space)
    trials = lease.open([Proposal(a) for a in space.sample(count + 2, seed=0)])
    broken = Broken(BrokenKind.INFEASIBLE, "no path to the output")
    lease.close(
        [(t.number, broken if t.number % 5 == 4 else Measured(space.cost(t.architecture))) for t in trials[:count]]
    )


@contextmanager
def _server(database: str, folder: Path) -> Iterator[str]:
    """The address of `python -m api`, which asks for keys and has no limit of requests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("NAS_")},
        "NAS_DATABASE_URL": database,
        "NAS_AUTH": "keys",
        "NAS_RATE_LIMIT": "0",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "api", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            _until(lambda: httpx.get(f"{address}/healthz").status_code == 200)
            httpx.get(f"{address}/openapi.json", timeout=UP_SECONDS)  # made once, which takes seconds
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _fitted(address: str, key: str, job: str) -> list[str]:
    """Predictors of a job, READY."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
        found: list[str] = []
        for metrics in (["macs"], ["params"]):
            answer = client.post("/v1/predictors", json={"job": job, "metrics": metrics}).raise_for_status()
            path = answer.headers["location"]
            while client.get(path).json()["state"] == "FITTING":
                time.sleep(0.2)
            found.append(answer.json()["id"])
        return found


def _until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + UP_SECONDS
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if ready():
                return
        time.sleep(0.1)
    raise TimeoutError(f"the server was not ready within {UP_SECONDS:g} s")
