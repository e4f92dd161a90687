from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import yaml

from api import create_app, warm_starts
from api.problems import Refused
from nas import warm_start
from nas.contracts import Submitter
from nas.job import JobSpec, JobState
from nas.trial import TrialState
from nas.wire import job_dict
from tests.waiting import until

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def test_a_job_is_accepted_and_can_be_read(client, store, document):
    answer = client.post("/v1/jobs", json=document)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert client.get(answer.headers["location"]).json() == job == job_dict(store.job(job["id"]))
    assert (job["name"], job["state"], job["started_at"], job["finished_at"]) == (
        "cells",
        "QUEUED",
        None,
        None,
    )
    assert job["counts"] == {state.value: 0 for state in TrialState}
    assert (job["project"], job["owner"], job["revision"]) == ("default", None, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job["created_at"])


def test_the_spec_of_a_job_is_the_document_with_its_defaults(client, document):
    spec = client.post("/v1/jobs", json=document).json()["spec"]
    assert spec == JobSpec.parse(document).dump()
    assert spec["objectives"][0] == {"metric": "macs", "goal": "maximize"}
    assert spec["space"]["family"] == "cell"
    again = client.post("/v1/jobs", json=spec)
    assert again.status_code == 202
    assert again.json()["spec"] == spec


@pytest.mark.parametrize("kind", ["application/yaml", "application/x-yaml; charset=utf-8", "text/yaml"])
def test_yaml_is_accepted_beside_json(client, document, kind):
    answer = client.post("/v1/jobs", content=yaml.safe_dump(document), headers={"Content-Type": kind})
    assert answer.status_code == 202
    assert answer.json()["spec"] == JobSpec.parse(document).dump()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_curl_can_post_an_example(client, example):
    curl = {"Content-Type": "application/x-www-form-urlencoded"}  # what `curl --data-binary` says of any file
    answer = client.post("/v1/jobs?validate_only=true", content=example.read_bytes(), headers=curl)
    # an example that names a callable or a file is for the shell alone
    assert answer.status_code == 200 or "over HTTP" in answer.text


def test_curl_can_post_both_formats_without_naming_them(client, document):
    curl = {"Content-Type": "application/x-www-form-urlencoded"}
    as_yaml = client.post("/v1/jobs", content=yaml.safe_dump(document), headers=curl)
    as_json = client.post("/v1/jobs", json=document, headers=curl)
    assert as_yaml.status_code == as_json.status_code == 202
    assert as_yaml.json()["spec"] == as_json.json()["spec"]


def test_a_job_begins_with_what_another_has_learnt(client, store, search, document):
    search.run(9)
    document["warm_start"] = [search.id]
    job = client.post("/v1/jobs", json=document).json()
    assert (job["counts"]["SUCCEEDED"], job["counts"]["INFEASIBLE"]) == (8, 1)
    assert job["spec"]["warm_start"] == [search.id]
    trials = client.get(f"/v1/jobs/{job['id']}/trials").json()["trials"]
    assert [t["origin"] for t in trials] == [{"job": search.id, "number": n} for n in range(9)]
    assert {t["attempt"] for t in trials} == {0}
    there = client.get(f"/v1/jobs/{search.id}/trials").json()["trials"]
    assert [(t["key"], t["metrics"]) for t in trials] == [(t["key"], t["metrics"]) for t in there]
    front = client.get(f"/v1/jobs/{job['id']}/pareto-front").json()
    assert front["trials"][0]["origin"]["job"] == search.id


def test_a_job_to_learn_from_that_does_not_fit_is_refused(client, store, search, document):
    document["warm_start"] = [search.id, "0123"]
    for flag in ("true", "false"):
        answer = client.post(f"/v1/jobs?validate_only={flag}", json=document)
        assert answer.status_code == 422
        assert answer.json()["faults"] == [
            {"path": "warm_start.0", "message": f"job {search.id}: it has measured no network yet"},
            {"path": "warm_start.1", "message": "job 0123: there is no such job"},
        ]
    assert len(store.jobs()) == 1


def test_jobs_to_learn_from_may_have_so_many_trials_together(
    client, store, new_search, document, monkeypatch, new_client
):
    monkeypatch.setattr(warm_start, "MAX_REMOTE", 10)
    sources = [new_search() for _ in range(3)]
    for i, (source, n) in enumerate(zip(sources, (6, 4, 1), strict=True)):
        source.run(n, seed=i)
        source.open(3, seed=9)  # what runs, or was cancelled, is not read
    sources[1].release(JobState.CANCELLED)
    ids = [source.id for source in sources]
    answer = client.post("/v1/jobs", json={**document, "warm_start": ids[:2]})
    assert (answer.status_code, sum(answer.json()["counts"].values())) == (202, 10)
    for url in ("/v1/jobs", "/v1/jobs?validate_only=true", f"/v1/jobs/{ids[0]}:clone"):
        answer = client.post(url, json={**document, "warm_start": ids})
        assert answer.status_code == 422
        told = f"job {ids[2]}: it has 1 trials to learn from; allowed: 0, as all jobs together may have 10"
        assert answer.json()["faults"] == [{"path": "warm_start.2", "message": told}]
    assert len(store.jobs()) == 4


def test_jobs_that_learn_from_others_are_taken_in_one_after_the_other(
    client, store, search, document, monkeypatch
):
    monkeypatch.setattr(warm_starts, "WAIT", 0.01)
    search.run(3)
    learns = {**document, "warm_start": [search.id]}
    headers = {"Idempotency-Key": "k"}
    first = client.post("/v1/jobs", json=learns, headers=headers)
    with client.app.state.warm_starts.take():
        for url in ("/v1/jobs", "/v1/jobs?validate_only=true"):
            answer = client.post(url, json=learns)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert client.post("/v1/jobs", json=document).status_code == 202
        assert client.post("/v1/jobs", json=learns, headers=headers).json()["id"] == first.json()["id"]
    assert client.post("/v1/jobs", json={**learns, "warm_start": ["0123"]}).status_code == 422
    assert client.post("/v1/jobs", json=learns).status_code == 202, "whoever fails gives the turn back"


def test_no_more_than_a_few_requests_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr(warm_starts, "WAIT", 30.0)
    turns, refused = warm_starts.Turns(), []

    def taken():
        try:
            with turns.take():
                pass
        except Refused as error:
            refused.append(error.status)

    with turns.take():
        threads = [threading.Thread(target=taken) for _ in range(20)]
        for thread in threads:
            thread.start()
        until(lambda: len(refused) == 20 - (warm_starts.WAITING - 1))
    for thread in threads:
        thread.join()
    assert set(refused) == {429}
    assert len(refused) == 20 - (warm_starts.WAITING - 1), "those that waited had their turn"


def test_validate_only_writes_nothing(client, store, document):
    answer = client.post("/v1/jobs?validate_only=true", json=document)
    assert answer.status_code == 200
    assert answer.json() == {"spec": JobSpec.parse(document).dump(), "size": 5**6}
    assert "location" not in answer.headers
    assert not store.jobs()


def test_validate_only_finds_the_same_faults(client, store, document):
    document["constraints"] = ["params <= 1"]
    answers = [client.post(f"/v1/jobs?validate_only={flag}", json=document) for flag in ("true", "false")]
    assert [a.status_code for a in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert not store.jobs()


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_pages_give_every_job_once_the_newest_first(client, store, new_search, size):
    expected = [new_search().id for _ in range(7)][::-1]
    found, query = [], {"page_size": size}
    while True:
        page = client.get("/v1/jobs", params=query).json()
        assert 0 < len(page["jobs"]) <= size
        found += [job["id"] for job in page["jobs"]]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    assert found == expected == [job.id for job in store.jobs()]


def test_no_jobs_are_one_empty_page(client):
    assert client.get("/v1/jobs").json() == {"jobs": [], "next_page_token": None}


def test_jobs_are_filtered_by_state(client, new_search):
    queued, cancelled, paused = (new_search() for _ in range(3))
    client.post(f"/v1/jobs/{cancelled.id}:cancel")
    client.post(f"/v1/jobs/{paused.id}:pause")

    def ids(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["jobs"]]

    assert ids("state=QUEUED") == [queued.id]
    assert ids("state=PAUSED&state=CANCELLED") == [paused.id, cancelled.id]
    assert ids("state=RUNNING") == []


def test_a_page_token_holds_for_its_filter_only_but_for_any_size(client, new_search):
    for _ in range(3):
        new_search()
    token = client.get("/v1/jobs?page_size=1&state=QUEUED&state=PAUSED").json()["next_page_token"]
    larger = client.get(f"/v1/jobs?page_size=5&state=PAUSED&state=QUEUED&page_token={token}")
    assert len(larger.json()["jobs"]) == 2
    other = client.get(f"/v1/jobs?page_token={token}")
    assert (other.status_code, other.json()["code"]) == (400, "INVALID_ARGUMENT")


def test_jobs_are_filtered_by_name_and_owner(client, store, document):
    def submit(name: str, owner: str | None) -> str:
        return store.submit(JobSpec.parse({**document, "name": name}), by=Submitter(owner=owner)).id

    ada, bob, other = submit("cells", "ada"), submit("cells", "bob"), submit("cells 2", "ada")

    def ids(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["jobs"]]

    assert ids("name=cells") == [bob, ada]
    assert ids("owner=ada") == [other, ada]
    assert ids("owner=ada&name=cells") == [ada]
    assert ids("name=cell") == ids("owner=A") == ids("owner=ada&state=RUNNING") == []
    assert client.get(f"/v1/jobs/{ada}").json()["owner"] == "ada"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_jobs_are_ordered_as_asked(client, new_search, size):
    oldest_first = [new_search().id for _ in range(5)]
    for order, expected in (("created_at", oldest_first), ("-created_at", oldest_first[::-1])):
        found, query = [], {"page_size": size, "order_by": order}
        while True:
            page = client.get("/v1/jobs", params=query).json()
            found += [job["id"] for job in page["jobs"]]
            if page["next_page_token"] is None:
                break
            query["page_token"] = page["next_page_token"]
        assert found == expected


def test_a_page_token_holds_for_its_order_and_filter_only(client, new_search):
    for _ in range(3):
        new_search()
    token = client.get("/v1/jobs?page_size=1&name=cells").json()["next_page_token"]
    for query in ("name=cells", "page_size=7&order_by=-created_at&name=cells"):
        assert client.get(f"/v1/jobs?{query}&page_token={token}").status_code == 200
    for query in (
        "name=cell",
        "order_by=created_at&name=cells",
        "owner=ada&name=cells",
        "name=cells&state=QUEUED",
    ):
        assert client.get(f"/v1/jobs?{query}&page_token={token}").status_code == 400


def test_a_repeated_submission_is_the_same_job(client, store, document):
    headers = {"Idempotency-Key": "nightly 2026-11-21"}
    first = client.post("/v1/jobs", json=document, headers=headers)
    in_yaml = {**headers, "Content-Type": "application/yaml"}
    reordered = dict(reversed(document.items()))
    again = client.post("/v1/jobs", content=yaml.safe_dump(reordered), headers=in_yaml)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    client.post(f"{first.headers['location']}:cancel")
    assert client.post("/v1/jobs", json=document, headers=headers).json()["state"] == "CANCELLED"
    assert len(store.jobs()) == 1
    assert client.post("/v1/jobs", json=document).json()["id"] != first.json()["id"]


def test_a_repeated_submission_needs_nothing_that_the_first_one_did(new_client, store, new_search, document):
    source, original = new_search(), new_search()
    source.run(3)
    source.release(JobState.SUCCEEDED)
    evaluator = {"kind": "callable", "function": "lab.bench:latency"}
    asked = [
        ("/v1/jobs", {**document, "warm_start": [source.id]}),
        ("/v1/jobs", {**document, "evaluator": evaluator}),
        (f"/v1/jobs/{original.id}:clone", {"warm_start": [source.id]}),
    ]
    at_first = new_client(create_app(store, functions=("lab.bench:latency",)))
    first = [
        at_first.post(url, json=body, headers={"Idempotency-Key": f"k{i}"}) for i, (url, body) in enumerate(asked)
    ]
    for job_id in (source.id, original.id):
        store.delete(job_id)
    now = new_client(create_app(store))
    for i, ((url, body), before) in enumerate(zip(asked, first, strict=True)):
        headers = {"Idempotency-Key": f"k{i}"}
        again = now.post(url, json=body, headers=headers)
        assert (again.status_code, again.json()) == (before.status_code, before.json()) == (202, again.json())
        assert again.headers["location"] == before.headers["location"]
        other = now.post(url, json={**body, "seed": 99}, headers=headers)
        assert (other.status_code, other.json()["faults"][0]["path"]) == (422, "Idempotency-Key")
        assert now.post(url, json=body).status_code in (404, 422), "it could not be made now"
        assert now.post(f"{url}?validate_only=true", json=body, headers=headers).status_code in (404, 422)
    assert now.post("/v1/jobs", content=b"{", headers={"Idempotency-Key": "k0"}).status_code == 400
    assert len(store.jobs()) == 3


def test_a_key_stands_for_one_submission_only(client, store, document):
    headers = {"Idempotency-Key": "k"}
    client.post("/v1/jobs", json=document, headers=headers)
    answer = client.post("/v1/jobs", json={**document, "seed": 4}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARGUMENT")
    assert [f["path"] for f in answer.json()["faults"]] == ["Idempotency-Key"]
    assert len(store.jobs()) == 1


def test_a_key_of_a_submission_that_was_only_checked_is_free(client, store, document):
    headers = {"Idempotency-Key": "k"}
    assert client.post("/v1/jobs?validate_only=true", json=document, headers=headers).status_code == 200
    assert client.post("/v1/jobs", json={**document, "seed": 4}, headers=headers).status_code == 202
    assert len(store.jobs()) == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "é", "a\tb"])
def test_a_key_that_is_no_key(client, store, document, key):
    answer = client.post("/v1/jobs", json=document, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert [f["path"] for f in answer.json()["faults"]] == ["Idempotency-Key"]
    assert not store.jobs()


def test_every_answer_with_a_job_has_its_revision_as_etag(client, search, document):
    submitted = client.post("/v1/jobs", json=document)
    cloned = client.post(f"/v1/jobs/{search.id}:clone")
    url = f"/v1/jobs/{search.id}"
    answers = [submitted, cloned, client.get(url), client.patch(url, json={"name": "n"})]
    answers += [client.post(f"{url}:{verb}") for verb in ("pause", "resume", "cancel")]
    assert all(a.headers["etag"] == f'"{a.json()["revision"]}"' for a in answers)


def test_a_job_is_deleted_with_its_trials(client, store, search, new_search):
    search.run(3)
    search.release(JobState.SUCCEEDED)
    kept = new_search()
    url = f"/v1/jobs/{search.id}"
    answer = client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [job.id for job in store.jobs()] == [kept.id]
    assert {client.get(url).status_code, client.get(f"{url}/trials").status_code} == {404}
    assert client.delete(url).status_code == 404


def test_a_job_that_a_runner_holds_is_not_deleted(client, search):
    search.open(1)
    answer = client.delete(f"/v1/jobs/{search.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert search.job.state is JobState.RUNNING


def test_a_job_that_waits_is_cancelled_at_once(client, search):
    answer = client.post(f"/v1/jobs/{search.id}:cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
    assert client.post(f"/v1/jobs/{search.id}:cancel").json()["state"] == "CANCELLED"


def test_a_job_that_runs_is_asked_to_change(client, search):
    search.open(1)
    for verb, state in (("pause", "PAUSING"), ("cancel", "CANCELLING")):
        answer = client.post(f"/v1/jobs/{search.id}:{verb}")
        assert (answer.status_code, answer.json()["state"]) == (202, state)
        assert client.get(f"/v1/jobs/{search.id}").json()["state"] == state


def test_a_paused_job_is_resumed(client, search):
    assert client.post(f"/v1/jobs/{search.id}:pause").json()["state"] == "PAUSED"
    answer = client.post(f"/v1/jobs/{search.id}:resume")
    assert (answer.status_code, answer.json()["state"]) == (200, "QUEUED")


def test_a_job_counts_its_trials_by_state(client, search):
    search.run(5)
    search.open(2, seed=1)
    job = client.get(f"/v1/jobs/{search.id}").json()
    assert {s: n for s, n in job["counts"].items() if n} == {"SUCCEEDED": 4, "INFEASIBLE": 1, "RUNNING": 2}
    assert job["state"] == "RUNNING"
    assert job["started_at"] >= job["created_at"]


def test_error_is_there_only_where_a_job_failed_or_was_cancelled(client, search):
    search.run(2)
    assert "error" not in client.get(f"/v1/jobs/{search.id}").json()
    search.release(JobState.FAILED, "10 trials failed")
    job = client.get(f"/v1/jobs/{search.id}").json()
    assert (job["state"], job["error"]) == ("FAILED", "10 trials failed")
    assert "reason" not in job
    assert job["finished_at"] is not None


def test_a_job_that_succeeded_may_say_why_it_ended(client, search):
    search.run(2)
    search.release(JobState.SUCCEEDED, "the space is exhausted")
    job = client.get(f"/v1/jobs/{search.id}").json()
    assert (job["state"], job["reason"]) == ("SUCCEEDED", "the space is exhausted")
    assert "error" not in job
