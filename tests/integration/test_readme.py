"""The shell and Python of README.md and docs/http-api.md, word for word, against a real `nas serve`."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pandas as pd
import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
BASE = "http://127.0.0.1:8000"


def blocks(page: str, language: str, holding: str) -> list[str]:
    """Code of a page, of those blocks that have some words in them."""
    text = (ROOT / page).read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if holding in block]


def free_port() -> int:
    """The port of the pages, or else another one."""
    for port in (8000, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("there is no free port")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has what the pages name."""
    found = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", found / "examples")
    return found


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A service on this machine, of which the runner evaluates without Ray."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NAS_")}
    with (folder / "service.log").open("ab") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "nas", "serve", "--port", str(port), "--executor", "inline"],
            env=environment | {"NAS_DATABASE_URL": f"sqlite:///{folder}/nas.db", "NAS_RUNNER_DRAIN_SECONDS": "1"},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while not answers(url):
            assert time.monotonic() < end, (folder / "service.log").read_text()
            assert service.poll() is None, (folder / "service.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def shell(text: str, url: str, folder: Path) -> str:
    """What a block prints; only the port may be another."""
    assert BASE in text
    done = subprocess.run(
        ["bash", "-euc", text.replace(BASE, url).replace("python3", sys.executable)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def objects(printed: str) -> list[dict[str, Any]]:
    """The JSON objects in what was printed; lines of events are left out. None of them tells of a mistake."""
    text = re.sub(r"event: \w+\r?\n", "", printed)
    decoder, found, start = json.JSONDecoder(), [], 0
    while start < len(text):
        value, start = decoder.raw_decode(text, start)
        found.append(value)
        while start < len(text) and text[start].isspace():
            start += 1
    assert not [problem for problem in found if "code" in problem]
    return found


def test_the_story_of_the_service(url: str, folder: Path) -> None:
    (story,) = blocks("README.md", "sh", "B=http")
    printed = shell(story, url, folder)
    assert printed.count("event: trials") == 1
    validated, trials, front, edited, cancelled = objects(printed)
    submitted = json.loads((folder / "job.json").read_text())
    assert validated["size"] > 1
    assert validated["spec"] == submitted["spec"]
    orders = [t["order"] for t in trials["trials"]]
    assert orders == list(range(len(orders)))
    assert orders
    assert front["trials"]
    picked = front["picked"]
    assert picked is None or picked["metrics"]["params"] <= 2e4
    assert edited["spec"]["budget"]["max_trial_count"] == 90
    assert {j["id"] for j in (edited, cancelled)} == {submitted["id"]}
    assert cancelled["state"] in ("CANCELLING", "CANCELLED")
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= len(orders)
    assert "metrics.accuracy" in rows[0]
    # the same submission, sent again, is the same job
    document = (folder / "examples" / "digits.yaml").read_bytes()
    again = httpx.post(f"{url}/v1/jobs", content=document, headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.json()["id"]) == (202, submitted["id"])


def test_python_against_the_server(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (text,) = blocks("README.md", "python", "nas.Client")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text.replace(BASE, url), "README.md", "exec"), names)
    assert len(names["result"].trials) == 50
    assert len(pd.read_parquet("trials.parquet")) == 50
    assert names["again"].job.spec.seed == 1
    assert names["again"].cancel().id != names["job"].id
    names["client"].close()


def test_python_on_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (text,) = blocks("README.md", "python", "nas.search(\n")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "README.md", "exec"), names)
    assert len(names["result"].trials) == 100
    assert (folder / "report.html").exists()


def test_from_a_point_on_the_front_to_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    store = f"sqlite:///{folder}/local.db"
    small = {"kind": "training", "epochs": 2}
    nas.search("examples/digits.yaml", evaluator=small, max_trial_count=1, executor="inline", store=store)
    (commands,) = blocks("README.md", "sh", "nas export latest")
    settings = {"NAS_DATABASE_URL": store, "NAS_ARTIFACTS_URL": f"file:{folder}/artifacts"}
    for line in commands.splitlines():
        name, *arguments = shlex.split(line, comments=True)
        done = CliRunner().invoke(app, arguments, env=settings)
        assert (name, done.exit_code) == ("nas", 0), done.output
        assert ("over 3 trainings" in done.stdout) == ("retrain" in arguments)
    assert (folder / "front" / "trial-0.onnx").read_bytes() == (folder / "digits.onnx").read_bytes()
    assert json.loads((folder / "digits.onnx.json").read_text())["trial"] == 0
    (text,) = blocks("README.md", "python", "onnxruntime")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "README.md", "exec"), names)
    assert names["logits"].shape == (5, 10)


def test_the_page_of_the_http_api(url: str, folder: Path) -> None:
    of_jobs, of_spaces, of_predictors, of_exports = blocks("docs/http-api.md", "sh", "B=http")
    printed = shell(of_jobs, url, folder)
    assert "event: end" in printed
    jobs, trials, trial, front, clone, capabilities = objects(printed)
    job = json.loads((folder / "job.json").read_text())
    assert [j["id"] for j in jobs["jobs"]] == [job["id"]]
    assert len(trials["trials"]) == 5
    assert trials["next_page_token"]
    assert (trial["number"], trial["state"]) == (0, "SUCCEEDED")
    assert {"worker", "curve", "log"} <= set(trial)
    assert front["objectives"] == ["min macs", "max accuracy"]
    assert front["history"][-1]["hypervolume"] == pytest.approx(front["hypervolume"])
    assert (clone["spec"]["seed"], clone["spec"]["budget"]["max_trial_count"]) == (1, 20)
    assert "nas-bench-201" in capabilities["tables"]
    validated, sample, costs = objects(shell(of_spaces, url, folder))
    assert (validated["family"], validated["size"]) == ("staged", 4)
    assert len(sample["architectures"]) == 2
    assert [cost["params"] > 0 for cost in costs["costs"]] == [True]
    predictors, predicted = objects(shell(of_predictors, url, folder))
    (predictor,) = predictors["predictors"]
    assert (predictor["job"], predictor["state"]) == (job["id"], "READY")
    assert [set(p["accuracy"]) for p in predicted["predictions"]] == [{"mean", "std"}]
    shell(of_exports, url, folder)
    assert "CC BY 4.0" in (folder / "model.md").read_text()
    assert onnxruntime.InferenceSession(folder / "model.onnx").get_inputs()[0].name == "input"


def test_it_says_when_it_is_ready(url: str, folder: Path) -> None:
    said = (folder / "service.log").read_text()
    assert said.count(f"ready: {url}/docs") == 1
    assert said.index("ready: ") < said.index("readyz"), "it was said before the first answer"
