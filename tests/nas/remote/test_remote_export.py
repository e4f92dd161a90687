"""Files that a server makes of trials: asked for once, fetched, cancelled, and told apart where one fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.contracts import Submitter
from nas.deploy.card import ModelCard, card_json
from nas.exports import Export, ExportSpec, ExportState
from nas.job import JobSpec, JobState, WrongState
from nas.remote.export import exported
from nas.remote.http import Http
from nas.trial import Measured, Proposal
from nas.wire import export_dict
from search_spaces.load import space_of
from tests.documents import A_CARD

CONTENT = b"a model"
ACCURATE = Measured({"accuracy": 0.5})


def answer(value: object, status: int = 200, kind: str = "application/json") -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": kind}, json.dumps(value).encode()


def export_of(number: int) -> Export:
    return Export(f"e{number}", ExportSpec.parse({"job": "j", "trial": number})).claimed(1.0)


def done(number: int) -> tuple[int, dict[str, str], bytes]:
    return answer(export_dict(export_of(number).succeeded(2.0)), 202)


def card_of(number: int) -> ModelCard:
    file = replace(A_CARD.file, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    return replace(A_CARD, trial=number, file=file)


GONE = answer(
    {"status": 404, "code": "NOT_FOUND", "detail": "it is not there any more"}, 404, "application/problem+json"
)
FILE = 200, {"Content-Type": "application/octet-stream"}, CONTENT


def card(number: int) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, card_json(card_of(number)).encode()


def test_a_download_that_fails_leaves_the_others_alone(stubbed: Callable[..., Any], tmp_path: Path) -> None:
    spoilt = FILE[0], FILE[1], b"another"
    stub = stubbed(done(0), done(1), done(2), done(3), GONE, card(1), spoilt, card(2), FILE, card(3), FILE)
    (tmp_path / "3.onnx.json").mkdir()
    targets = {n: tmp_path / f"{n}.onnx" for n in range(4)}
    found = exported(Http(stub.url), "j", targets)
    assert found[0] == "the file of trial 0: it is not there any more"
    assert found[1] == "the file of trial 1: it did not arrive whole; try again"
    assert isinstance(found[2], ModelCard)
    assert "the file of trial 3: " in str(found[3])
    assert [p.name for p in tmp_path.glob("*.onnx")] == ["2.onnx"]
    assert targets[2].read_bytes() == CONTENT


def test_a_request_that_is_repeated_carries_the_same_key(stubbed: Callable[..., Any], tmp_path: Path) -> None:
    stub = stubbed(None, done(0), card(0), FILE)
    exported(Http(stub.url), "j", {0: tmp_path / "a.onnx"})
    keys = [r.headers["idempotency-key"] for r in stub.seen if r.method == "POST"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    other = stubbed(done(0), card(0), FILE)
    exported(Http(other.url), "j", {0: tmp_path / "a.onnx"})
    assert other.seen[0].headers["idempotency-key"] != keys[0]


def trained(store: Any) -> str:
    """A job with two trials that count as trained."""
    spec = JobSpec.parse(
        {"space": "digits-tiny", "objectives": ["max accuracy"], "evaluator": {"kind": "training", "epochs": 1}}
    )
    job_id: str = store.submit(spec, by=Submitter()).id
    lease = store.claim(job_id)
    lease.open([Proposal(a) for a in space_of(spec.space).sample(2, 0)])
    lease.close([(0, ACCURATE), (1, ACCURATE)])
    lease.release(JobState.PAUSED)
    return job_id


def test_exports_of_a_job_can_be_looked_at_and_cancelled(served: Any, tmp_path: Path) -> None:
    job = nas.Client(served.url).job(trained(served.store))
    for number in (0, 1):
        with pytest.raises(TimeoutError, match="goes on"):
            job.export_model(number, tmp_path / "a.onnx", timeout=0)
    newest, oldest = job.exports()
    assert [(e.trial, e.state, e.reason) for e in (newest, oldest)] == [
        (1, ExportState.QUEUED, None),
        (0, ExportState.QUEUED, None),
    ]
    assert newest.cancel().cancel().state is ExportState.CANCELLED
    assert newest.reason == "cancelled on request"
    served.store.exports.settle(served.store.exports.claim().failed("accuracy", 1.0))
    assert oldest.refresh().state is ExportState.FAILED
    with pytest.raises(WrongState, match="FAILED cannot be cancelled"):
        oldest.cancel()
    with pytest.raises(WrongState, match="is FAILED: accuracy"):
        oldest.fetch(tmp_path / "a.onnx")


def test_a_cancelled_export_is_told_as_such(stubbed: Callable[..., Any], tmp_path: Path) -> None:
    stub = stubbed(answer(export_dict(export_of(0).cancelled(2.0)), 202))
    found = exported(Http(stub.url), "j", {0: tmp_path / "a.onnx"})
    assert found == {0: "the export of trial 0 was cancelled on request"}


def test_nas_retrain_trains_nothing_for_a_server(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job_id = trained(served.store)
    refused = CliRunner().invoke(app, ["retrain", job_id, "1", "--url", served.url, "--executor", "inline"])
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert f"job {job_id} is on {served.url}" in line
    assert f"nas export {job_id} 1 --weights retrained" in line
    assert list(tmp_path.iterdir()) == []
