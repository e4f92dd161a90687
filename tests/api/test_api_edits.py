from __future__ import annotations

import json
from typing import Any

import pytest

from api.body import MAX_BYTES
from nas.job import JobSpec, JobState
from nas.runner import run
from nas.trial import Proposal

MERGE = {"Content-Type": "application/merge-patch+json"}


def test_an_edit_changes_the_document_and_the_revision(client, search, document):
    url = f"/v1/jobs/{search.id}"
    before = client.get(url)
    patch = {"name": "longer", "budget": {"max_trial_count": 30, "parallel_trial_count": 2}}
    answer = client.patch(url, json=patch, headers={"If-Match": before.headers["etag"]})
    assert answer.status_code == 200
    assert answer.json() == client.get(url).json()
    assert answer.headers["etag"] == client.get(url).headers["etag"] != before.headers["etag"]
    budget = {**document["budget"], "max_trial_count": 30, "parallel_trial_count": 2}
    assert search.job.spec == JobSpec.parse({**document, "name": "longer", "budget": budget})
    assert (answer.json()["name"], answer.json()["revision"]) == ("longer", before.json()["revision"] + 1)


def test_a_runner_sees_the_edit_of_a_job_that_it_holds(client, search):
    search.open(2)
    assert client.patch(f"/v1/jobs/{search.id}", json={"budget": {"max_trial_count": 5}}).status_code == 200
    assert search.lease.renew().spec.budget.max_trial_count == 5


def test_null_takes_a_limit_back_to_its_default(client, search):
    url = f"/v1/jobs/{search.id}"
    client.patch(url, json={"budget": {"max_duration": 60}})
    assert search.job.spec.budget.max_duration == 60
    answer = client.patch(url, json={"budget": {"max_duration": None, "max_trial_count": None}}, headers=MERGE)
    assert "max_duration" not in answer.json()["spec"]["budget"]
    assert search.job.spec.budget.max_trial_count == 100


def test_a_stale_edit_changes_nothing(client, search):
    url = f"/v1/jobs/{search.id}"
    etag = client.get(url).headers["etag"]
    assert client.patch(url, json={"name": "first"}, headers={"If-Match": etag}).status_code == 200
    answer = client.patch(url, json={"name": "second"}, headers={"If-Match": etag})
    assert (answer.status_code, answer.json()["code"]) == (412, "ABORTED")
    assert search.job.spec.name == "first"
    assert client.patch(url, json={"name": "third"}, headers={"If-Match": "*"}).status_code == 200
    assert client.patch(url, json={"name": "fourth"}).status_code == 200


@pytest.mark.parametrize("value", ["", "1", 'W/"0"', '"zero"', '"0", "1"', '"-1"', '"99999999999999999999"', "é"])
def test_an_if_match_that_no_job_came_with(client, search, value):
    headers = {"If-Match": value.encode("latin-1")}
    answer = client.patch(f"/v1/jobs/{search.id}", json={"name": "n"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["faults"][0]["path"] == "If-Match"
    assert search.job.spec.name == "cells"


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"seed": 4}, "seed"),
        ({"space": "digits-tiny"}, "space"),
        ({"budjet": {}}, "budjet"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"budget": []}, "budget"),
        ({"budget": {"max_trial_count": 0}}, "budget.max_trial_count"),
        ({"budget": {"max_trials": 5}}, "budget.max_trials"),
        ({"budget": {"max_duration": {"a": 1}}}, "budget.max_duration"),
        ([], ""),
        ("name", ""),
        (None, ""),
    ],
)
def test_a_patch_that_is_wrong(client, search, patch, path):
    before = search.job
    answer = client.patch(f"/v1/jobs/{search.id}", content=json.dumps(patch), headers=MERGE)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARGUMENT")
    assert [f["path"] for f in answer.json()["faults"]] == [path]
    assert search.job == before


@pytest.mark.parametrize("verb", ["PATCH", "clone"])
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"name": NaN}', "application/merge-patch+json", 400),
        (b'{"name": "a", "name": "b"}', "application/json", 400),
        (b'{"name":' * 100 + b"1" + b"}" * 100, "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}".ljust(MAX_BYTES + 1), "application/json", 413),
        (b"name: n", "application/yaml", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "application/json-patch+json", 415),
    ],
    ids=lambda value: repr(value)[:16],
)
def test_a_patch_that_cannot_be_read(client, store, search, verb, content, kind, status):
    url, method = f"/v1/jobs/{search.id}", "PATCH"
    if verb == "clone":
        url, method = f"{url}:clone", "POST"
    answer = client.request(method, url, content=content, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, "INVALID_ARGUMENT")
    assert (search.job.revision, len(store.jobs())) == (0, 1)


def test_a_patch_needs_a_body(client, search):
    assert client.patch(f"/v1/jobs/{search.id}").status_code == 400


def test_curl_can_patch_without_naming_the_format(client, search):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.patch(f"/v1/jobs/{search.id}", content=b'{"name": "n"}', headers=headers).status_code == 200
    elsewhere = {**headers, "Origin": "https://elsewhere.example"}
    assert client.patch(f"/v1/jobs/{search.id}", content=b'{"name": "m"}', headers=elsewhere).status_code == 415
    assert search.job.spec.name == "n"


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_is_over_cannot_be_edited(client, search, state):
    search.run(2)
    search.release(state)
    answer = client.patch(f"/v1/jobs/{search.id}", json={"budget": {"max_trial_count": 50}})
    assert (answer.status_code, answer.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert search.job.spec.budget.max_trial_count == 10


def test_the_budget_cannot_be_below_what_has_been_opened(client, search):
    search.run(3)
    search.open(2, seed=1)
    answer = client.patch(f"/v1/jobs/{search.id}", json={"budget": {"max_trial_count": 4}})
    assert (answer.status_code, answer.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert "at least 5" in answer.json()["detail"]
    assert search.job.spec.budget.max_trial_count == 10
    assert client.patch(f"/v1/jobs/{search.id}", json={"budget": {"max_trial_count": 5}}).status_code == 200


def test_trials_of_other_jobs_are_not_of_the_budget(client, store, search, document):
    search.run(9)
    job = client.post("/v1/jobs", json={**document, "warm_start": [search.id]}).json()
    store.claim(job["id"]).open([Proposal(a) for a in search.space.sample(2, seed=1)])
    url = f"/v1/jobs/{job['id']}"
    assert sum(client.get(url).json()["counts"].values()) == 11
    answer = client.patch(url, json={"budget": {"max_trial_count": 1}})
    assert (answer.status_code, "at least 2" in answer.json()["detail"]) == (409, True)
    assert client.patch(url, json={"budget": {"max_trial_count": 2}}).status_code == 200


def test_an_edit_at_the_last_moment_of_a_search_is_not_lost(client, store, search):
    lease = store.claim(search.id)
    release, answers = lease.release, []

    def late(*how: Any) -> JobState:
        if not answers:
            answers.append(client.patch(f"/v1/jobs/{search.id}", json={"budget": {"max_trial_count": 14}}))
        return release(*how)

    lease.release = late
    run(lease, "inline")
    assert [answer.status_code for answer in answers] == [200]
    job = client.get(f"/v1/jobs/{search.id}").json()
    assert (job["state"], job["counts"]["SUCCEEDED"]) == ("SUCCEEDED", 14)


def test_a_clone_begins_anew_with_the_same_document(client, store, search):
    search.run(3)
    answer = client.post(f"/v1/jobs/{search.id}:clone")
    assert answer.status_code == 202
    clone = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{clone['id']}"
    assert clone["id"] != search.id
    assert (clone["state"], sum(clone["counts"].values())) == ("QUEUED", 0)
    assert store.job(clone["id"]).spec == search.job.spec


def test_a_clone_may_change_anything_and_take_the_trials_over(client, store, search):
    search.run(4)
    search.release(JobState.SUCCEEDED)
    patch = {"name": "on", "budget": {"max_trial_count": 30}, "seed": 9, "warm_start": [search.id]}
    clone = client.post(f"/v1/jobs/{search.id}:clone", json=patch, headers=MERGE).json()
    assert clone["counts"]["SUCCEEDED"] == 4
    assert store.job(clone["id"]).spec == JobSpec.parse({**search.job.spec.dump(), **patch})


def test_a_clone_is_checked_like_any_document(client, store, search):
    answer = client.post(f"/v1/jobs/{search.id}:clone", json={"constraints": ["params <= 1"], "objectives": None})
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "objectives")
    answer = client.post(f"/v1/jobs/{search.id}:clone?validate_only=true", json={"seed": 5})
    assert (answer.status_code, answer.json()["spec"]["seed"]) == (200, 5)
    assert len(store.jobs()) == 1


def test_a_repeated_clone_is_the_same_job(client, store, search):
    url, headers = f"/v1/jobs/{search.id}:clone", {"Idempotency-Key": "again"}
    first = client.post(url, json={"seed": 5}, headers=headers)
    client.patch(f"/v1/jobs/{search.id}", json={"name": "edited in between"})
    second = client.post(url, json={"seed": 5}, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert client.post(url, json={"seed": 6}, headers=headers).status_code == 422
    assert client.post("/v1/jobs", json=first.json()["spec"], headers=headers).status_code == 422
    assert len(store.jobs()) == 2
