"""Networks of trials as files over HTTP: asked for here, made by a runner, handed out here."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from api import create_app
from nas.artifacts import Artifacts
from nas.contracts import LeaseLost
from nas.deploy.card import card_json
from nas.deploy.checkpoint import trial_checkpoint
from nas.deploy.export import CARD, MODEL
from nas.export_runner import ExportRunner
from nas.exports import Export, ExportSpec
from nas.job import JobSpec, JobState
from nas.runner import run
from nas.stopping import Stop
from nas.storage.memory import MemoryStore
from tests.documents import A_CARD

DIGITS: dict[str, Any] = {
    "name": "small digits",
    "space": "digits-tiny",
    "objectives": ["max accuracy"],
    "searcher": "random",
    "evaluator": {"kind": "training", "epochs": 1},
    "budget": {"max_trial_count": 1},
}


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
        ({"trial": 99}, 409, "there is no trial 99"),
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


@pytest.fixture(scope="module")
def searched() -> Any:
    """A store with a job that has trained a network."""
    store = MemoryStore()
    lease = store.claim(store.submit(JobSpec.parse(DIGITS)).id)
    assert lease is not None
    run(lease, "inline")
    return store


def runner(store: Any, files: Artifacts, stop: Stop | None = None) -> ExportRunner:
    return ExportRunner(store, files, "inline", stop or Stop())


def test_a_runner_makes_what_was_asked_for(searched: MemoryStore, new_client: Any) -> None:
    client = new_client(create_app(searched))
    (job,) = searched.jobs()
    path = ask(client, job.id).headers["location"]
    exporter = runner(searched, client.app.state.artifacts)
    assert exporter.turn()
    assert not exporter.turn()
    found = client.get(path).json()
    assert (found["state"], found["reason"], found["attempt"]) == ("SUCCEEDED", None, 1)
    card = client.get(path + ":card").json()
    assert len(client.get(path + "/file").content) == card["file"]["bytes"]
    assert all(check["passed"] for check in card["verification"])


def test_a_runner_says_why_there_is_no_file(searched: MemoryStore, new_client: Any) -> None:
    files = Artifacts("memory://broken")
    (job,) = searched.jobs()
    files.put(job.id, trial_checkpoint(0), b"no weights at all")
    made = searched.exports.add(ExportSpec.parse({"job": job.id, "trial": 0, "weights": "checkpoint"}))
    gone = searched.exports.add(ExportSpec.parse({"job": job.id, "trial": 0, "weights": "final"}))
    exporter = runner(searched, files)
    assert exporter.turn()
    assert exporter.turn()
    reasons = [searched.exports.export(e.id).reason or "" for e in (made, gone)]
    assert "the weights of trial 0: it cannot be read" in reasons[0]
    assert "there are no final weights" in reasons[1]
    assert files.list(job.id) == [trial_checkpoint(0)]


class Forgetful:
    """A store of which the exports are lost to another runner once they were claimed."""

    def __init__(self, store: Any) -> None:
        self._store, self.exports = store, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self) -> Any:
        return self._store.exports.claim()

    def renew(self, export: Any) -> None:
        raise LeaseLost("gone")

    def settle(self, export: Any) -> None:
        raise LeaseLost("gone")


def test_what_another_runner_took_over_leaves_no_files(searched: MemoryStore) -> None:
    files = Artifacts("memory://forgetful")
    (job,) = searched.jobs()
    searched.exports.add(ExportSpec.parse({"job": job.id, "trial": 0}))
    assert runner(Forgetful(searched), files).turn()
    assert files.list(job.id) == [trial_checkpoint(0)]


def test_a_job_deleted_meanwhile_leaves_no_files() -> None:
    store, files = MemoryStore(), Artifacts("memory://deleted")
    job_id = store.submit(JobSpec.parse(DIGITS), queued=False).id
    store.exports.add(ExportSpec.parse({"job": job_id, "trial": 0}))
    claimed = store.exports.claim
    store.exports.claim = lambda: (claimed(), files.put(job_id, "a", b"x"), store.delete(job_id))[0]  # type: ignore[method-assign]
    assert runner(store, files).turn()
    assert files.list(job_id) == []


def test_a_runner_that_is_asked_to_stop_stops(searched: MemoryStore) -> None:
    stop = Stop()
    thread = threading.Thread(target=runner(searched, Artifacts("memory://idle"), stop).serve)
    thread.start()
    stop.ask()
    thread.join(timeout=30)
    assert not thread.is_alive()
