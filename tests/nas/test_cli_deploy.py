"""`nas retrain` and `nas export`: what they print, what they write, and their exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from nas.artifacts import Artifacts
from nas.cli import app
from nas.deploy.checkpoint import trial_checkpoint

DIGITS: dict[str, Any] = {
    "name": "small digits",
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "searcher": "random",
    "evaluator": {"kind": "training", "epochs": 1},
    "budget": {"max_trial_count": 2},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a finished search."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "digits.yaml").write_text(yaml.safe_dump(DIGITS))
    options = ["--executor", "inline", "--test", "none"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NAS_DATABASE_URL", f"sqlite:///{folder}/nas.db")
        searched = CliRunner().invoke(app, ["search", "digits.yaml", *options])
    assert searched.exit_code == 0, searched.output
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{home}/nas.db")
    monkeypatch.setenv("NAS_ARTIFACTS_URL", f"file:{home}/artifacts")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def job_of(run: Any) -> str:
    return str(json.loads(run("jobs", "--json").stdout)["jobs"][0]["id"])


def test_export_and_retrain(run: Any, tmp_path: Path, home: Path) -> None:
    exported = run("export", "latest", "best", "-o", "a.onnx", "--data-licence", "CC0")
    assert exported.exit_code == 0, exported.output
    assert "formula" in exported.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.json", "a.onnx.md"]
    card = json.loads((tmp_path / "a.onnx.json").read_text())
    assert card["data"]["licence"] == "CC0"
    number, job = card["trial"], job_of(run)
    again = run("export", job, str(number), "--weights", "checkpoint", "--json")
    (written,) = json.loads(again.stdout)["exports"]
    assert written["file"]["sha256"] == card["file"]["sha256"]
    assert (tmp_path / f"trial-{number}.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    retrained = run("retrain", "latest", str(number), "--seeds", "2", "--executor", "inline", "--json")
    assert retrained.exit_code == 0, retrained.output
    assert len(json.loads(retrained.stdout)["runs"]) == 2
    assert "tested on test data" in retrained.stderr
    final = run("export", "latest", "max accuracy", "--format", "onnx", "--weights", "final", "--json")
    assert json.loads(final.stdout)["exports"][0]["training"]["weights"] == "final"


def test_a_failed_check_is_exit_code_1_and_writes_nothing(run: Any, tmp_path: Path, home: Path) -> None:
    job = job_of(run)
    artifacts = Artifacts(f"file:{home}/artifacts")
    artifacts.put(job, trial_checkpoint(1), b"broken")
    failed = run("export", job, "1", "--weights", "checkpoint")
    assert failed.exit_code == 1
    assert "error: the weights of trial 1: it cannot be read" in failed.stderr
    assert list(tmp_path.iterdir()) == []
    assert json.loads(run("export", job, "1", "--weights", "checkpoint", "--json").stdout)["failed"]
    artifacts.delete(job, trial_checkpoint(1))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export", "latest"], 2, "give either a trial or --front"),
        (["export", "latest", "1", "--front"], 2, "give either a trial or --front"),
        (["export", "latest", "worst"], 2, "allowed: a number, best, or an objective"),
        (["export", "latest", "0", "-o", "a.tflite"], 2, "allowed: .onnx, .pt2, .pt"),
        (["export", "latest", "0", "-o", "a.onnx", "--format", "pt2"], 2, "is no pt2 file"),
        (["export", "latest", "9"], 3, "there is no trial 9"),
        (["export", "latest", "min speed"], 3, "no trial has speed"),
        (["export", "nothing", "0"], 3, "there is no job nothing"),
        (["export", "latest", "1", "--weights", "checkpoint"], 3, "no checkpoint weights of trial 1"),
        (["retrain", "latest", "9"], 3, "there is no trial 9"),
    ],
)
def test_what_cannot_be_is_refused(run: Any, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code == code, refused.output
    assert words in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0", "-o", "a.onnx"], "--output: 'a.onnx' is a folder; a file is needed"),
        (["0", "-o", "file/deep/b.onnx"], "file' cannot be written to: Not a directory"),
        (["--front", "-o", "file"], "file' cannot be written to: Not a directory"),
        (["--front", "-o", "front"], " is a folder; a file is needed"),
    ],
)
def test_where_no_file_can_be_is_told_before_anything_is_trained(
    run: Any, tmp_path: Path, arguments: list[str], words: str
) -> None:
    for folder in ("a.onnx", "front/trial-0.onnx", "front/trial-1.onnx"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    refused = run("export", "latest", *arguments, "--weights", "retrained")
    assert refused.exit_code == 2, refused.output
    assert words in refused.stderr
    assert "exporting" not in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_cannot_be_written_is_one_clear_line(run: Any, tmp_path: Path) -> None:
    name = "a" * 250 + ".onnx"  # it can be; what it is called while it is written, cannot
    failed = run("export", "latest", "0", "-o", name)
    assert failed.exit_code == 1
    assert isinstance(failed.exception, SystemExit)
    (line,) = (line for line in failed.stderr.splitlines() if "File name too long" in line)
    assert line.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_deleting_a_job_deletes_its_files(run: Any, home: Path) -> None:
    searched = run("search", f"{home}/digits.yaml", "--executor", "inline", "--test", "none", "--trials", "1")
    assert searched.exit_code == 0
    job, artifacts = job_of(run), Artifacts(f"file:{home}/artifacts")
    assert run("export", job, "0").exit_code == 0
    assert artifacts.list(job) == [trial_checkpoint(0)]
    assert run("delete", job).exit_code == 0
    assert artifacts.list(job) == []
