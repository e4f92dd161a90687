"""The `nas` command: what it prints, and the exit codes that scripts rely on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from nas.cli import app
from nas.job import JobState
from nas.storage import open_store

DOCUMENT: dict[str, Any] = {
    "name": "cheap",
    "space": "digits-tiny",
    "objectives": ["min params", "min macs"],
    "searcher": "nsga2",
    "evaluator": "cost",
    "budget": {"max_trial_count": 30},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{tmp_path}/nas.db")
    (tmp_path / "cheap.yaml").write_text(yaml.safe_dump(DOCUMENT))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run


def test_search_then_read_the_job(run: Any, tmp_path: Path) -> None:
    searched = run("search", "cheap.yaml", "--executor", "inline", "--report", "report.html")
    assert searched.exit_code == 0, searched.output
    assert "Pareto front of job" in searched.stdout
    assert "30/30 trials" in searched.stderr
    assert (tmp_path / "report.html").stat().st_size > 1e6

    (job,) = json.loads(run("jobs", "--json").stdout)["jobs"]
    assert (job["state"], job["counts"]["SUCCEEDED"]) == ("SUCCEEDED", 30)
    trials = json.loads(run("trials", job["id"], "--json").stdout)["trials"]
    assert [t["number"] for t in trials] == list(range(30))
    front = json.loads(run("pareto", "latest", "--json").stdout)
    assert {t["number"] for t in front["trials"]} <= set(range(30))
    assert front["hypervolume"] > 0
    for command in (["jobs"], ["trials", "latest", "--limit", "3"], ["pareto", job["id"]]):
        assert run(*command).exit_code == 0


def test_json_of_a_search_is_all_of_standard_output(run: Any) -> None:
    found = json.loads(run("search", "cheap.yaml", "--executor", "inline", "--trials", "5", "--json").stdout)
    assert found["state"] == "SUCCEEDED"
    assert found["trials"]


def test_a_search_learns_from_others(run: Any) -> None:
    for seed in ("1", "2"):
        run("search", "cheap.yaml", "--executor", "inline", "--trials", "6", "--seed", seed)
    newest, oldest = (job["id"] for job in json.loads(run("jobs", "--json").stdout)["jobs"])
    options = ["--executor", "inline", "--trials", "4", "--warm-start", "latest", "--warm-start", oldest]
    searched = run("search", "cheap.yaml", *options)
    assert searched.exit_code == 0, searched.output
    assert "warm start: 12 trials taken over, 0 networks to be measured anew first" in searched.stderr
    assert "4/4 trials" in searched.stderr
    trials = json.loads(run("trials", "latest", "--json").stdout)["trials"]
    assert [t["origin"] and t["origin"]["job"] for t in trials] == [newest] * 6 + [oldest] * 6 + [None] * 4
    assert f"from job {oldest}, trial 5" in " ".join(run("trials", "latest").stdout.split())
    for wrong in (["--validate-only"], []):
        refused = run("search", "cheap.yaml", "--executor", "inline", "--warm-start", "nothing", *wrong)
        assert refused.exit_code == 2
        assert "warm_start.0: job nothing: there is no such job" in refused.stderr
    assert run("search", "--resume", oldest, "--warm-start", newest).exit_code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objektives": []}, "objektives: unknown key"),
        ({"objectives": ["max speed"]}, "objectives.0.metric: 'speed' is not a metric"),
        ({"constraints": ["params <= 3"]}, "constraints.0: no architecture of the space meets params <= 3.0"),
    ],
)
def test_a_wrong_document_is_exit_code_2_and_writes_nothing(run: Any, change: Any, words: str) -> None:
    Path("wrong.yaml").write_text(yaml.safe_dump({**DOCUMENT, **change}))
    refused = run("search", "wrong.yaml", "--executor", "inline")
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.output
    assert json.loads(run("jobs", "--json").stdout)["jobs"] == []


def test_exit_codes(run: Any) -> None:
    Path("broken.yaml").write_text("a: [1")
    Path("list.yaml").write_text("[1]")
    assert run("search", "broken.yaml").exit_code == 2
    assert run("search", "list.yaml").exit_code == 2
    assert run("search", "missing.yaml").exit_code == 2
    assert run("search").exit_code == 2
    assert run("trials", "nothing").exit_code == 3
    assert run("cancel", "latest").exit_code == 3
    run("search", "cheap.yaml", "--executor", "inline", "--trials", "2")
    assert run("pause", "latest").exit_code == 3
    assert "SUCCEEDED cannot pause" in run("pause", "latest").stderr


def test_spaces(run: Any) -> None:
    assert "digits-tiny" in run("space", "list").stdout.split()
    described = run("space", "describe", "digits-tiny")
    assert "stages.0.kernel" in described.stdout
    assert "peak_activation_bytes" in described.stdout
    assert (
        len(json.loads(run("space", "sample", "nas-bench-201", "-n", "7", "--json").stdout)["architectures"]) == 7
    )
    assert run("space", "validate", "digits-tiny").exit_code == 0
    Path("space.yaml").write_text("family: staged\ninput: [1, 8, 8]\nclasses: 1\n")
    refused = run("space", "validate", "space.yaml")
    assert refused.exit_code == 2
    assert "classes: 1 is not allowed" in refused.stderr
    assert "architecture: is required" in refused.stderr
    assert run("space", "describe", "nothing").exit_code != 0


def ctrl_c(pid: int) -> None:
    """As a terminal does: to the whole foreground group."""
    os.killpg(pid, signal.SIGINT)


def terminate_twice(pid: int) -> None:
    """As an impatient supervisor does: to the process alone."""
    for _ in range(2):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.05)


@pytest.mark.parametrize(("executor", "interrupt"), [("inline", ctrl_c), ("ray", terminate_twice)])
def test_what_was_measured_before_an_interrupt_is_kept(
    tmp_path: Path, executor: str, interrupt: Callable[[int], object]
) -> None:
    document = {
        **DOCUMENT,
        "objectives": ["max accuracy"],
        "searcher": "random",
        "evaluator": {"kind": "training", "epochs": 2},
        "budget": {"max_trial_count": 8},
    }
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(document))
    environment = {**os.environ, "NAS_DATABASE_URL": f"sqlite:///{tmp_path}/nas.db"}

    def nas(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "nas", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def counts() -> dict[str, int]:
        listed, _ = nas("jobs", "--json").communicate(timeout=60)
        jobs = json.loads(listed)["jobs"]
        return jobs[0]["counts"] if jobs else {}  # type: ignore[no-any-return]

    process = nas("search", "digits.yaml", "--executor", executor, "--test", "none", "--trials", "500")
    end = time.monotonic() + 90
    while counts().get("SUCCEEDED", 0) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    interrupt(process.pid)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    job = told.split("nas search --resume ")[1].split()[0]
    kept = counts()
    assert kept["SUCCEEDED"] >= 2
    assert kept["RUNNING"] == 0

    again = nas("cancel", job)
    again.communicate(timeout=60)
    assert again.returncode == 0


def test_an_interrupt_of_the_test_phase_leaves_a_search_that_is_done(tmp_path: Path) -> None:
    document = {
        **DOCUMENT,
        "objectives": ["max accuracy"],
        "searcher": "random",
        "evaluator": {"kind": "training", "epochs": 100},
        "budget": {"max_trial_count": 1},
    }
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(document))
    environment = {**os.environ, "NAS_DATABASE_URL": f"sqlite:///{tmp_path}/nas.db"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nas", "search", "digits.yaml", "--executor", "inline", "--test", "front"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "testing 1 chosen network" not in (line := process.stderr.readline()):
        assert line, "it ended before"
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert "the search is done. To test: nas search --resume " in told
    with closing(open_store(f"sqlite:///{tmp_path}/nas.db")) as store:
        assert [job.state for job in store.jobs()] == [JobState.SUCCEEDED]
