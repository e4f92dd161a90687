"""The real processes: `nas serve` over HTTP, and a runner that is killed in the middle of a job."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from nas.exports import ExportSpec, ExportState
from nas.job import JobSpec, JobState
from nas.storage import open_store
from nas.trial import Measured, Proposal, TrialState
from search_spaces.load import space_of
from tests.waiting import free_port, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"
SMALL: dict[str, Any] = {
    "name": "small",
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "searcher": "random",
    "evaluator": {"kind": "training", "dataset": "digits", "epochs": 1},
    "budget": {"max_trial_count": 12, "parallel_trial_count": 2},
}


def start(arguments: list[str], database: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "out.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nas", *arguments],
            env={**os.environ, "NAS_DATABASE_URL": database, "NAS_LEASE_SECONDS": "4"},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the process and of everything that it started in its session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    port = free_port()
    process = start(["serve", "--port", str(port)], database, tmp_path)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        def answers() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers)
        yield client
    process.terminate()
    assert process.wait(timeout=60) == 0


@pytest.mark.timeout(300)
def test_a_job_over_http_from_document_to_front(server: httpx.Client) -> None:
    checked = server.post(
        "/v1/jobs",
        params={"validate_only": "true"},
        content=EXAMPLE.read_bytes(),
        headers={"content-type": "application/yaml"},
    )
    assert checked.status_code == 200
    assert server.get("/v1/jobs").json()["jobs"] == []

    accepted = server.post("/v1/jobs", json=SMALL)
    assert accepted.status_code == 202
    job = accepted.headers["location"]
    other = server.post("/v1/jobs", json={**SMALL, "budget": {"max_trial_count": 5000}}).headers["location"]

    until(lambda: server.get(job).json()["state"] == "SUCCEEDED", 200)
    until(lambda: server.get(other).json()["state"] == "RUNNING")
    assert server.post(f"{other}:cancel").status_code in (200, 202)
    until(lambda: server.get(other).json()["state"] == "CANCELLED", 30)

    seen: list[int] = []
    token = None
    while token is not None or not seen:
        page = server.get(
            f"{job}/trials", params={"page_size": 5, **({"page_token": token} if token else {})}
        ).json()
        seen += [t["number"] for t in page["trials"]]
        token = page["next_page_token"]
    assert seen == list(range(12))

    front = server.get(f"{job}/pareto-front").json()
    assert front["trials"]
    assert all(t["state"] == "SUCCEEDED" and t["feasible"] for t in front["trials"])
    assert front["hypervolume"] >= 0
    assert len(front["reference"]) == 2

    refused = server.post("/v1/jobs", json={**SMALL, "objectives": ["max accurracy"]})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["faults"][0]["path"] == "objectives.0.metric"


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serve = ["serve", "--port", str(port), "--executor", "inline"]
        process = start(serve, f"sqlite:///{tmp_path}/nas.db", tmp_path)
        assert process.wait(60) == 1
    (said,) = [line for line in (tmp_path / "out.log").read_text().splitlines() if "error" in line]
    assert re.match(rf"error: cannot listen: .*{port}.*--port", said)


@pytest.mark.timeout(300)
def test_an_api_that_is_killed_is_started_again(database: str, tmp_path: Path) -> None:
    port = free_port()
    whole = start(["serve", "--port", str(port), "--executor", "inline"], database, tmp_path)

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
        return False

    try:
        until(answers)
        (api,) = (p for p in psutil.Process(whole.pid).children() if "api" in p.cmdline())
        api.kill()
        api.wait(60)
        until(answers)
        assert whole.poll() is None
    finally:
        whole.terminate()
        assert whole.wait(timeout=60) == 0


@pytest.mark.timeout(300)
def test_a_runner_that_dies_is_started_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_LOG_FORMAT", "json")
    whole = start(["serve", "--port", str(free_port()), "--executor", "inline"], database, tmp_path)

    def runners() -> list[psutil.Process]:
        return [p for p in psutil.Process(whole.pid).children() if "runner" in p.cmdline()]

    def claimed() -> int:
        return (tmp_path / "out.log").read_text().count("job claimed")

    try:
        until(runners)
        store = open_store(database)
        job_id = store.submit(JobSpec.parse({**SMALL, "budget": {"max_trial_count": 5000}})).id
        for deaths in range(2):
            until(lambda so_far=deaths: claimed() > so_far)
            (runner,) = runners()
            runner.kill()
            runner.wait(60)
        until(lambda: claimed() > 2)
        store.request(job_id, "cancel")
        until(lambda: store.job(job_id).state is JobState.CANCELLED)
        store.close()
    finally:
        whole.terminate()
        assert whole.wait(timeout=60) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.log").read_text().splitlines()]
    ended = [line for line in lines if line["message"].startswith("runner ended")]
    assert [(line["exit_code"], line["level"]) for line in ended] == [(-9, "warning")] * 2
    assert all(line["timestamp"] for line in lines)


@pytest.mark.timeout(300)
def test_kill_9_of_the_runner_loses_nothing(database: str, tmp_path: Path) -> None:
    store = open_store(database)
    job_id = store.submit(
        JobSpec.parse({**SMALL, "budget": {"max_trial_count": 16, "parallel_trial_count": 1}})
    ).id

    def finished() -> dict[int, Any]:
        return {t.number: t for t in store.trials(job_id) if t.state is TrialState.SUCCEEDED}

    first = start(["runner", "--executor", "inline"], database, tmp_path)
    until(lambda: len(finished()) >= 4)
    kill_session(first)
    before = finished()
    assert store.job(job_id).state is JobState.RUNNING
    second = start(["runner", "--executor", "inline"], database, tmp_path)
    try:
        until(lambda: store.job(job_id).state is JobState.SUCCEEDED, 200)
    finally:
        second.terminate()
        assert second.wait(timeout=60) == 0
    after = finished()
    assert {n: after[n] for n in before} == before
    assert sorted(after) == list(range(16))
    store.close()


@pytest.mark.timeout(200)
def test_a_runner_whose_evaluation_does_not_end_hands_its_job_back_in_order(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/nas.db"
    store = open_store(database)
    endless = {**SMALL["evaluator"], "epochs": 1000}
    job_id = store.submit(JobSpec.parse({**SMALL, "evaluator": endless})).id
    runner = start(["runner", "--executor", "inline", "--drain", "0"], database, tmp_path)
    until(lambda: any(t.state is TrialState.RUNNING for t in store.trials(job_id)))
    time.sleep(3)  # until it is in native code
    runner.terminate()
    assert runner.wait(timeout=60) == 0, (tmp_path / "out.log").read_text()
    assert store.job(job_id).state is JobState.QUEUED
    store.close()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_sigterm_hands_an_export_back(executor: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/nas.db"
    store = open_store(database)
    endless = {**SMALL["evaluator"], "epochs": 100_000}
    job_id = store.submit(JobSpec.parse({**SMALL, "objectives": ["max accuracy"], "evaluator": endless})).id
    lease = store.claim(job_id)
    assert lease is not None
    (architecture,) = space_of(store.job(job_id).spec.space).sample(1, 0)
    lease.open([Proposal(architecture)])
    lease.close([(0, Measured({"accuracy": 0.5}))])
    lease.release(JobState.SUCCEEDED)
    made = store.exports.add(ExportSpec.parse({"job": job_id, "trial": 0}))
    runner = start(["runner", "--executor", executor, "--drain", "0"], database, tmp_path)
    until(lambda: store.exports.export(made.id).state is not ExportState.QUEUED)
    time.sleep(3)  # until it trains
    runner.terminate()
    assert runner.wait(timeout=60) == 0, (tmp_path / "out.log").read_text()
    found = store.exports.export(made.id)
    assert (found.state, found.attempt, found.handed_back) == (ExportState.QUEUED, 1, 1)
    store.close()


@pytest.mark.timeout(200)
def test_sigterm_hands_the_job_back(database: str, tmp_path: Path) -> None:
    store = open_store(database)
    job_id = store.submit(JobSpec.parse({**SMALL, "budget": {"max_trial_count": 5000}})).id
    runner = start(["runner", "--executor", "inline"], database, tmp_path)
    until(lambda: any(t.state is TrialState.SUCCEEDED for t in store.trials(job_id)))
    runner.terminate()
    assert runner.wait(timeout=60) == 0
    assert store.job(job_id).state is JobState.QUEUED
    assert all(t.state in (TrialState.SUCCEEDED, TrialState.PENDING) for t in store.trials(job_id))
    assert all(t.attempt == 1 for t in store.trials(job_id))
    store.close()
