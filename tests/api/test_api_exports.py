"""Networks of trials as files over HTTP: asked for here, made by a runner, handed out here."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api import create_app
from nas.artifacts import Artifacts
from nas.deploy.card import card_json
from nas.deploy.checkpoint import trial_checkpoint
from nas.deploy.export import CARD, MODEL
from nas.export_runner import ExportRunner
from nas.exports import Export
from nas.job import JobState
from nas.stopping import Stop
from nas.storage.memory import MemoryStore
from tests.documents import A_CARD, DIGITS


@pytest.fixture
def trained(new_search: Any) -> Any:
    """A job of trainings with three trials (that were trained nowhere), of which the last is INFEASIBLE."""
    search = new_search({**DIGITS, "objectives": ["min params"]})
    search.run(5)
    search.release(JobState.PAUSED)
    return search


def ask(client: Any, job: str, **changes: Any) -> Any:
    return client.post("/v1/exports", json={"job": job, "trial": 0, **changes})


def finish(store: Any, files: Artifacts, content: bytes = b"a model") -> Export:
    """What a runner does with the next export."""
    export: Export = store.exports.claim()
    folder = f"{export.folder}/{export.spec.trial}"
    files.put(export.spec.job, f"{folder}/{MODEL}", content)
    files.put(export.spec.job, f"{folder}/{CARD}", card_json(A_CARD).encode())
    store.exports.settle(export.succeeded(time.time()))
    return export


def test_an_export_is_asked_for_and_looked_at(client: Any, trained: Any) -> None:
    made = ask(client, trained.id, trial=1, data_licence="CC0")
    assert made.status_code == 202
    assert made.json()["state"] == "QUEUED"
    assert client.get(made.headers["location"]).json() == made.json()
    other = ask(client, trained.id, format="state").json()
    listed = client.get("/v1/exports", params={"job": trained.id}).json()
    assert [e["id"] for e in listed["exports"]] == sorted((made.json()["id"], other["id"]), reverse=True)
    page = client.get("/v1/exports", params={"job": trained.id, "page_size": 1}).json()
    rest = client.get("/v1/exports", params={"job": trained.id, "page_token": page["next_page_token"]}).json()
    assert page["exports"] + rest["exports"] == listed["exports"]


def test_the_file_and_its_card_are_handed_out_once_it_has_succeeded(client: Any, trained: Any, store: Any) -> None:
    path = ask(client, trained.id).headers["location"]
    for what in ("/file", ":card"):
        early = client.get(path + what)
        assert (early.status_code, early.json()["code"]) == (409, "FAILED_PRECONDITION")
        assert "is QUEUED; only a SUCCEEDED one has a file" in early.json()["detail"]
    content = b"\0\1\2" * 100_000
    finish(store, client.app.state.artifacts, content)
    assert client.get(path).json()["state"] == "SUCCEEDED"
    file = client.get(path + "/file")
    assert file.content == content
    assert file.headers["content-disposition"] == 'attachment; filename="trial-0.onnx"'
    card = client.get(path + ":card")
    assert card.headers["content-type"] == "application/json"
    assert (card.json()["trial"], card.json()["file"]["name"]) == (A_CARD.trial, "trial-0.onnx")
    assert client.get(path + ":card", params={"format": "markdown"}).text.startswith(f"# {A_CARD.name}")


def test_a_failed_export_says_why(client: Any, trained: Any, store: Any) -> None:
    path = ask(client, trained.id).headers["location"]
    store.exports.settle(store.exports.claim().failed("accuracy 0.5", time.time()))
    found = client.get(path).json()
    assert (found["state"], found["reason"]) == ("FAILED", "accuracy 0.5")
    refused = client.get(path + "/file")
    assert refused.status_code == 409
    assert "is FAILED: accuracy 0.5" in refused.json()["detail"]


def test_a_file_that_is_gone_is_not_there(client: Any, trained: Any, store: Any) -> None:
    path = ask(client, trained.id).headers["location"]
    finish(store, client.app.state.artifacts)
    client.app.state.artifacts.delete(trained.id)
    for what in ("/file", ":card"):
        assert client.get(path + what).status_code == 404


def test_with_the_job_go_its_exports_and_files(client: Any, trained: Any, store: Any) -> None:
    files, path = client.app.state.artifacts, ask(client, trained.id).headers["location"]
    finish(store, files)
    files.put(trained.id, trial_checkpoint(0), b"weights")
    files.put("another", "a", b"x")
    assert client.delete(f"/v1/jobs/{trained.id}").status_code == 204
    assert client.get(path).status_code == 404
    assert files.list(trained.id) == []
    assert files.list("another") == ["a"]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"trial": 99}, 404, "has no trial 99"),
        ({"trial": 4}, 409, "trial 4 is INFEASIBLE; only a SUCCEEDED one"),
        ({"weights": "checkpoint"}, 409, "there are no checkpoint weights of trial 0"),
        ({"weights": "final"}, 409, "nas retrain makes them"),
        ({"format": "tflite"}, 422, "format"),
        ({"trial": None}, 422, "trial"),
        ({"job": "nothing"}, 404, "there is no job nothing"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    client: Any, trained: Any, changes: dict[str, Any], status: int, words: str
) -> None:
    refused = ask(client, **{"job": trained.id, **changes})
    assert refused.status_code == status
    assert words in refused.text
    assert client.get("/v1/exports", params={"job": trained.id}).json()["exports"] == []


def test_only_trained_networks_have_weights(client: Any, search: Any) -> None:
    search.run(1)
    search.release(JobState.PAUSED)
    refused = ask(client, search.id)
    assert refused.status_code == 409
    assert "the cost evaluator trains no networks" in refused.json()["detail"]


def test_weights_that_are_there_may_be_asked_for(client: Any, trained: Any) -> None:
    client.app.state.artifacts.put(trained.id, trial_checkpoint(0), b"weights")
    assert ask(client, trained.id, weights="checkpoint").status_code == 202


def test_a_runner_makes_what_was_asked_for(searched: MemoryStore, new_client: Any) -> None:
    client = new_client(create_app(searched))
    (job,) = searched.jobs()
    path = ask(client, job.id).headers["location"]
    exporter = ExportRunner(searched, client.app.state.artifacts, "inline", Stop())
    assert exporter.turn()
    assert not exporter.turn()
    found = client.get(path).json()
    assert (found["state"], found["reason"], found["attempt"]) == ("SUCCEEDED", None, 1)
    card = client.get(path + ":card").json()
    assert len(client.get(path + "/file").content) == card["file"]["bytes"]
    assert all(check["passed"] for check in card["verification"])


def test_an_export_can_be_cancelled_until_it_is_over(client: Any, trained: Any, store: Any) -> None:
    waits, runs, over = (ask(client, trained.id).headers["location"] for _ in range(3))
    for path in (over, runs):  # the first in the queue is the first to be made
        assert client.get(path).json()["state"] == "QUEUED"
    assert client.post(f"{waits}:cancel").json()["state"] == "CANCELLED"
    claimed = store.exports.claim()
    assert client.post(f"{runs}:cancel").json()["state"] == "CANCELLED"
    assert runs.endswith(claimed.id)
    finish(store, client.app.state.artifacts)
    for path in (waits, runs):
        again = client.post(f"{path}:cancel")
        assert (again.status_code, again.json()) == (200, client.get(path).json())
        assert again.json()["reason"] == "cancelled on request"
        assert "is CANCELLED" in client.get(f"{path}/file").json()["detail"]
    refused = client.post(f"{over}:cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert client.get(f"{over}/file").status_code == 200
    assert client.post("/v1/exports/nothing:cancel").status_code == 404


def test_a_repeated_request_is_the_same_export(client: Any, trained: Any, store: Any) -> None:
    body, headers = {"job": trained.id, "trial": 0}, {"Idempotency-Key": "k"}
    first = client.post("/v1/exports", json=body, headers=headers)
    again = client.post("/v1/exports", content=f"trial: 0\njob: {trained.id}\n", headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    finish(store, client.app.state.artifacts)
    assert client.post("/v1/exports", json=body, headers=headers).json()["state"] == "SUCCEEDED"
    other = client.post("/v1/exports", json={**body, "trial": 1}, headers=headers)
    assert (other.status_code, [f["path"] for f in other.json()["faults"]]) == (422, ["Idempotency-Key"])
    assert client.post("/v1/exports", json=body).json()["id"] != first.json()["id"]
    assert len(store.exports.of_job(trained.id)) == 2
