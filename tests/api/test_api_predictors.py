"""Predictors over HTTP, with the real process that fits them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api import create_app
from nas.fitted import FitState
from nas.job import JobState
from nas.predictor_desk import PredictorDesk
from nas.predictor_documents import MOST_ARCHITECTURES
from nas.trial import Broken, BrokenKind

UNKNOWN = "0123456789abcdef00"


def until(ready: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait for something true; bounded, so that a test fails instead of hanging."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture
def desk(client: Any, store: Any) -> Iterator[PredictorDesk]:
    """The application's, and as patient as a busy machine needs."""
    client.app.state.desk = PredictorDesk(store, wait_seconds=90, answer_seconds=30)
    yield client.app.state.desk
    client.app.state.desk.close()


@pytest.fixture
def fit(client: Any, desk: PredictorDesk) -> Callable[..., dict[str, Any]]:
    """Has a predictor fitted, and gives it as it is once it is settled."""

    def fit(job_id: str, **spec: Any) -> dict[str, Any]:
        answer = client.post("/v1/predictors", json={"job": job_id, **spec})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/predictors/{answer.json()['id']}"
        assert answer.json()["state"] == "FITTING"
        return settled(client, answer.json()["id"])

    return fit


def settled(client: Any, predictor_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        answer = client.get(f"/v1/predictors/{predictor_id}")
        assert answer.status_code == 200
        return answer.json() if answer.json()["state"] != "FITTING" else None

    return until(ended)


def asked(search: Any, count: int, seed: int = 5) -> dict[str, Any]:
    return {"architectures": [dict(a) for a in search.space.sample(count, seed)]}


def paths(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [f["path"] for f in answer.json()["faults"]]


def test_a_predictor_is_fitted_looked_at_asked_and_deleted(client, search, fit, desk):
    search.run(40)
    made = fit(search.id)
    url = f"/v1/predictors/{made['id']}"
    assert (made["state"], made["reason"], made["trials"]) == ("READY", None, 40)
    assert made["metrics"] == ["macs", "params"]  # all by formulas, so all of them
    assert [(j["metric"], j["trials"]) for j in made["quality"]["predictor_quality"]] == [
        ("macs", 32),
        ("params", 32),
    ]
    body = asked(search, 7)
    answer = client.post(f"{url}:predict", json=body)
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    for architecture, expected in zip(body["architectures"], found, strict=True):
        cost = search.space.cost(search.space.architecture(architecture))
        assert set(expected) == {"macs", "params"}
        for metric, guess in expected.items():
            assert guess["std"] >= 0
            assert guess["mean"] == pytest.approx(cost[metric], rel=0.2)

    os.kill(desk.process.pid, signal.SIGKILL)
    assert client.post(f"{url}:predict", json=body).json()["predictions"] == found

    assert client.request("DELETE", url).status_code == 204
    for gone in (client.get(url), client.request("DELETE", url), client.post(f"{url}:predict", json=body)):
        assert gone.status_code == 404


def test_predictors_of_a_job_are_listed_in_pages(client, search, store):
    made = [store.shelf.add(search.id, ["macs"], n) for n in range(5)]
    newest = [p.id for p in sorted(made, key=lambda p: p.id, reverse=True)]
    seen, token = [], None
    while True:
        params = {"job": search.id, "page_size": 2} | ({"page_token": token} if token else {})
        page = client.get("/v1/predictors", params=params).json()
        seen += [p["id"] for p in page["predictors"]]
        assert len(page["predictors"]) <= 2
        if not (token := page["next_page_token"]):
            break
    assert seen == newest
    other = client.get("/v1/predictors", params={"job": search.id, "page_token": "AAAA"})
    assert other.status_code == 400


def test_a_list_names_its_job(client):
    assert client.get("/v1/predictors").status_code == 422
    assert client.get("/v1/predictors", params={"job": UNKNOWN}).status_code == 404


def test_one_that_an_ended_process_left_is_fitted_when_it_is_looked_at(client, search, store, desk):
    search.run(20)
    left = store.shelf.add(search.id, ["macs"], 20)
    answer = client.post(f"/v1/predictors/{left.id}:predict", json=asked(search, 1))
    assert (answer.status_code, answer.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert settled(client, left.id)["state"] == "READY"


def test_too_few_measured_trials_are_the_reason_of_a_failure(client, search, fit):
    for trial in search.open(12):
        search.close(trial.number, Broken(BrokenKind.INFEASIBLE, "no path") if trial.number > 3 else None)
    made = fit(search.id, metrics=["macs"])
    assert (made["state"], made["quality"]) == ("FAILED", None)
    assert "4 of the first 12" in made["reason"]
    answer = client.post(f"/v1/predictors/{made['id']}:predict", json=asked(search, 1))
    assert answer.status_code == 409
    assert made["reason"] in answer.json()["detail"]


def test_what_it_learns_from_can_be_chosen(search, fit):
    search.run(30)
    made = fit(search.id, metrics=["params"], trials=20)
    assert (made["metrics"], made["trials"]) == (["params"], 20)
    assert [j["trials"] for j in made["quality"]["predictor_quality"]] == [16]


def test_equal_requests_give_equal_predictors(client, search, fit):
    search.run(20)
    one, two = (fit(search.id, metrics=["macs"]) for _ in range(2))
    assert one["id"] != two["id"]
    assert one["quality"] == two["quality"]
    one, two = (client.post(f"/v1/predictors/{p['id']}:predict", json=asked(search, 3)) for p in (one, two))
    assert one.json() == two.json()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, ["job"]),
        ({"job": "a:b"}, ["job"]),
        ({"job": 7, "colour": "red"}, ["job", "colour"]),
        ({"metrics": []}, ["metrics"]),
        ({"metrics": ["macs", "a b"]}, ["metrics.1"]),
        ({"metrics": ["macs", "accuracy"]}, ["metrics.1"]),
        ({"metrics": [f"m{i}" for i in range(9)]}, ["metrics"]),
        ({"trials": 0}, ["trials"]),
        ({"trials": 5001}, ["trials"]),
        ({"trials": 4}, ["trials"]),
        ({"trials": 4, "metrics": ["accuracy"]}, ["metrics.0", "trials"]),
    ],
    ids=repr,
)
def test_a_wrong_document_is_refused_with_paths_and_nothing_is_written(client, search, store, document, expected):
    search.run(3)
    if document and "job" not in document:
        document = {"job": search.id, **document}
    assert sorted(paths(client.post("/v1/predictors", json=document))) == sorted(expected)
    assert list(store.shelf.of_job(search.id)) == []


def test_unknown_jobs_and_predictors_are_not_found(client, search):
    assert client.post("/v1/predictors", json={"job": UNKNOWN}).status_code == 404
    for url in (f"/v1/predictors/{UNKNOWN}", "/v1/predictors/a b"):
        assert client.get(url).status_code == 404
        assert client.request("DELETE", url).status_code == 404
        assert client.post(f"{url}:predict", json=asked(search, 1)).status_code == 404


def test_wrong_architectures_are_refused_with_their_places(client, search, store):
    made = store.shelf.add(search.id, ["macs"], 20)
    store.shelf.settle(made.ready({"predictor_quality": [], "remarks": []}))
    url = f"/v1/predictors/{made.id}:predict"
    good = asked(search, 1)["architectures"][0]
    lacking = {k: v for k, v in good.items() if k != "edge_2_3"}
    wrong = [good, {**good, "edge_0_1": "nor_conv_9x9"}, lacking, {**lacking, "edge_9_9": "none"}]
    found = paths(client.post(url, json={"architectures": [*wrong, {**good, "edge_9_9": "none"}]}))
    assert found == [
        "architectures.1.edge_0_1",
        "architectures.2.edge_2_3",
        "architectures.3.edge_9_9",
        "architectures.4",
    ]
    assert paths(client.post(url, json={"architectures": []})) == ["architectures"]
    assert paths(client.post(url, json={"architectures": [good, 3]})) == ["architectures.1"]
    assert paths(client.post(url, json={"architectures": [{**good, "edge_0_1": ["none"]}]})) == [
        "architectures.0.edge_0_1"
    ]
    assert paths(client.post(url, json={})) == ["architectures"]
    too_many = {"architectures": [good] * (MOST_ARCHITECTURES + 1)}
    assert paths(client.post(url, json=too_many)) == ["architectures"]
    every_one = {"architectures": [{"edge_0_1": "none"}] * MOST_ARCHITECTURES}
    assert len(paths(client.post(url, json=every_one))) == 100


def test_a_thousand_architectures_are_answered_at_once(client, search, fit):
    search.run(20)
    made = fit(search.id, metrics=["macs"])
    answer = client.post(f"/v1/predictors/{made['id']}:predict", json=asked(search, MOST_ARCHITECTURES))
    assert len(answer.json()["predictions"]) == MOST_ARCHITECTURES


def test_when_as_many_fits_wait_as_may_more_are_refused_for_now(client, search, store):
    search.run(20)
    client.app.state.desk = PredictorDesk(store, most_waiting=1)
    try:
        first = client.post("/v1/predictors", json={"job": search.id})
        second = client.post("/v1/predictors", json={"job": search.id})
        assert first.status_code == 202
        assert (second.status_code, second.json()["code"]) == (429, "RESOURCE_EXHAUSTED")
        assert int(second.headers["retry-after"]) > 0
        assert [p.id for p in store.shelf.of_job(search.id)] == [first.json()["id"]]
    finally:
        client.app.state.desk.close()


def test_without_an_answer_in_time_the_client_is_asked_to_come_back(client, search, store, fit):
    search.run(20)
    made = fit(search.id, metrics=["macs"])
    url, body = f"/v1/predictors/{made['id']}:predict", asked(search, 2)
    impatient = create_app(store)  # another process, which must fit it first
    patient, client.app = client.app, impatient
    impatient.state.desk = PredictorDesk(store, wait_seconds=0.0, answer_seconds=30)
    try:
        answer = client.post(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) > 0
        there = until(lambda: (a := client.post(url, json=body)).status_code == 200 and a)
    finally:
        impatient.state.desk.close()
        client.app = patient
    assert there.json() == client.post(url, json=body).json()


def test_the_process_that_fits_ends_with_the_application(client, search, fit, desk):
    search.run(20)
    fit(search.id, metrics=["macs"])
    pid = desk.process.pid
    assert pid is not None

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            assert desk.process.pid == pid

    asyncio.run(live())
    assert desk.process.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_with_its_job_a_predictor_is_gone(client, search, store, fit):
    search.run(20)
    made = fit(search.id, metrics=["macs"])
    search.release(JobState.SUCCEEDED)
    store.delete(search.id)
    assert client.get(f"/v1/predictors/{made['id']}").status_code == 404
    assert client.post(f"/v1/predictors/{made['id']}:predict", json=asked(search, 1)).status_code == 404


def test_a_document_may_be_yaml_and_only_what_is_known_may_stand_in_a_query(client, search, store):
    headers = {"content-type": "application/yaml"}
    made = store.shelf.add(search.id, ["macs"], 20)
    assert made.state is FitState.FITTING
    answer = client.post("/v1/predictors", content="job: [", headers=headers)
    assert answer.status_code == 400
    for url in ("/v1/predictors", f"/v1/predictors/{made.id}:predict"):
        assert client.post(f"{url}?colour=red", json={"job": search.id}).status_code == 422
        assert client.post(url, content="x", headers={"content-type": "text/csv"}).status_code == 415
    assert client.get(f"/v1/predictors/{made.id}?colour=red").status_code == 422
