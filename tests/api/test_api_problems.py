from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from api import create_app
from api.body import MAX_BYTES, MAX_YAML_BYTES
from api.models import Problem
from api.problems import MAX_FAULTS
from nas.job import JobSpec
from nas.storage import DatabaseError, open_store
from nas.storage.memory import MemoryStore

JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem, if it is one of this status and code."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    Problem.model_validate(problem)
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    return problem


def faults(answer: Any) -> dict[str, str]:
    return {f["path"]: f["message"] for f in refused(answer, 422, "INVALID_ARGUMENT")["faults"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/0123abc"),
        ("POST", "/v1/jobs/0123abc:cancel"),
        ("POST", "/v1/jobs/0123abc:pause"),
        ("POST", "/v1/jobs/0123abc:resume"),
        ("POST", "/v1/jobs/0123abc:clone"),
        ("DELETE", "/v1/jobs/0123abc"),
        ("GET", "/v1/jobs/0123abc/trials"),
        ("GET", "/v1/jobs/0123abc/trials/0"),
        ("GET", "/v1/jobs/0123abc/pareto-front"),
        ("GET", "/v1/jobs/%00"),
        ("GET", "/v1/jobs/" + "a" * 1000),
        ("GET", "/v1/jobs/..%2F..%2Fetc%2Fpasswd"),
        ("POST", "/v1/jobs/0123abc:explode"),
        ("GET", "/v1/nothing"),
    ],
)
def test_what_is_not_there(client, method, path):
    refused(client.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize("number", ["1", "-1", "x", "1.0", "99999999999999999999"])
def test_a_trial_that_is_not_there(client, search, number):
    search.run(1)
    refused(client.get(f"/v1/jobs/{search.id}/trials/{number}"), 404, "NOT_FOUND")


def test_a_method_that_a_resource_does_not_have(client, search):
    answer = client.request("PUT", f"/v1/jobs/{search.id}")
    refused(answer, 405, "UNIMPLEMENTED")
    assert answer.headers["allow"] == "DELETE, GET, PATCH"
    assert client.request("DELETE", "/v1/jobs").headers["allow"] == "GET, POST"
    refused(client.get(f"/v1/jobs/{search.id}:cancel"), 405, "UNIMPLEMENTED")


def test_a_request_that_the_state_does_not_allow(client, search):
    search.run(1)
    problem = refused(client.post(f"/v1/jobs/{search.id}:resume"), 409, "FAILED_PRECONDITION")
    assert "RUNNING" in problem["detail"]
    assert search.job.state.value == "RUNNING"


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"budjet": {}}, "budjet", 'did you mean "budget"?'),
        ({"objectives": []}, "objectives", "is empty"),
        ({"objectives": None}, "objectives", "None"),
        ({"constraints": ["latency <= fast"]}, "constraints.0", "metric <= number"),
        ({"constraints": ["accuracy >= 0.9"]}, "constraints.0", "'accuracy'"),
        ({"constraints": ["params <= 1"]}, "constraints.0", "no architecture of the space"),
        ({"space": "nas-bench-210"}, "space", 'did you mean "nas-bench-201"?'),
        ({"searcher": {"kind": "magic"}}, "searcher.kind", "'magic'"),
        ({"budget": {"max_trial_count": 0}}, "budget.max_trial_count", "0"),
        ({"budget": {"max_duration": "inf"}}, "budget.max_duration", "'inf'"),
        ({"seed": 10**40}, "seed", "64 bits"),
        ({"name": "a\0b"}, "name", "not allowed"),
    ],
)
def test_a_document_that_is_wrong(client, store, document, change, path, said):
    answer = client.post("/v1/jobs", json={**document, **change})
    assert said in faults(answer)[path]
    assert not store.jobs()


def test_every_fault_is_told_at_once(client, document):
    answer = client.post("/v1/jobs", json={**document, "seed": -1, "budget": {"max_trial_count": 0}, "a": 1})
    assert set(faults(answer)) == {"seed", "budget.max_trial_count", "a"}


def test_half_a_surrogate_pair_is_no_text(client):
    answer = client.post("/v1/jobs", content=rb'{"name": "\ud800"}', headers=JSON)
    assert "'\\ud800'" in faults(answer)["name"]
    answer = client.post("/v1/jobs", content=rb'{"\udfff": 1}', headers=JSON)
    assert "keys are text" in faults(answer)[""]


@pytest.mark.parametrize(
    ("query", "path", "said"),
    [
        ("page_size=0", "page_size", "'0'"),
        ("page_size=1001", "page_size", "1000"),
        ("page_size=many", "page_size", "'many'"),
        ("state=QUEUED&state=queued", "state.1", "'queued'"),
        ("pagesize=3", "pagesize", 'did you mean "page_size"?'),
        ("order_by=name", "order_by", "'created_at'"),
        ("name=%00", "name", "pattern"),
        ("owner=" + "a" * 201, "owner", "200"),
    ],
)
def test_a_query_that_is_wrong(client, query, path, said):
    assert said in faults(client.get(f"/v1/jobs?{query}"))[path]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", ":cancel"),
        ("POST", ":pause"),
        ("POST", ":resume"),
        ("POST", ":clone"),
    ],
)
def test_a_query_parameter_that_nobody_knows_changes_nothing(client, search, method, path):
    body = {"json": {"name": "n"}} if method == "PATCH" else {}
    answer = client.request(method, f"/v1/jobs/{search.id}{path}?force=true", **body)
    assert "'force' is not a query parameter" in faults(answer)["force"]
    assert search.job.state.value == "QUEUED"
    assert (search.job.revision, len(search.store.jobs())) == (0, 1)


def test_an_answer_lists_no_more_faults_than_can_be_read(client, document):
    answer = client.post("/v1/jobs", json={**document, **{f"k{i}": 1 for i in range(1000)}})
    assert "1000 faults" in refused(answer, 422, "INVALID_ARGUMENT")["detail"]
    assert len(answer.json()["faults"]) == MAX_FAULTS


def test_a_misspelt_validate_only_does_not_submit(client, store, document):
    assert "validate_only" in faults(client.post("/v1/jobs?validateonly=true", json=document))["validateonly"]
    assert not store.jobs()


@pytest.mark.parametrize(
    "token", ["", "a", "!!!!", "AAAAAAAAAAA", "é", "AAAAAAAAAAAxMjM=", "x" * 200, "%00", "AAAA AAAA"]
)
def test_a_page_token_from_nowhere(client, search, token):
    for url in ("/v1/jobs", f"/v1/jobs/{search.id}/trials"):
        answer = client.get(url, params={"page_token": token})
        assert answer.status_code == 400 if token else 200
        if token:
            refused(answer, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("values", ["1", "1&reference=2&reference=3", "nan&reference=1", "inf&reference=1", "x"])
def test_a_reference_that_does_not_fit(client, search, values):
    assert faults(client.get(f"/v1/jobs/{search.id}/pareto-front?reference={values}"))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{]",
        b'{"seed": 1, "seed": 2}',
        b'{"seed": NaN}',
        b'{"seed": 1' + b"0" * 5000 + b"}",
        b'{"name": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        "{}".encode("utf-16"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_json_that_cannot_be_read(client, body):
    refused(client.post("/v1/jobs", content=body, headers=JSON), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "body",
    [
        b"space: [",
        b"a: 1\na: 2",
        b"a: &x [1]\nb: *x",
        b"!!python/object/apply:os.system [ls]",
        b"when: 2026-99-99",
        b"a: !!timestamp soon",
        b'a: !!int ""',
        b"a: 1\n---\nb: 2",
        b"[" * 2000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_yaml_that_cannot_be_read(client, body):
    refused(client.post("/v1/jobs", content=body, headers=YAML), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"seed: .inf", "seed"),
        (b"name: 2026-11-20", "name"),
        (b"name: !!binary aGVsbG8=", "name"),
        (b"initial: [{1: 2}]", "initial.0"),
        (b"name: !!set {a, b}", "name"),
        (b"", ""),
        (b"just text", ""),
    ],
    ids=repr,
)
def test_yaml_of_values_that_json_does_not_have(client, body, path):
    assert path in faults(client.post("/v1/jobs", content=body, headers=YAML))


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "multipart/form-data; boundary=x", "json", "*/*"])
def test_a_content_type_that_is_not_read(client, document, kind):
    answer = client.post("/v1/jobs", content=json.dumps(document), headers={"Content-Type": kind})
    assert "application/yaml" in refused(answer, 415, "INVALID_ARGUMENT")["detail"]


def test_the_form_of_another_site_cannot_submit(client, store, document):
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://elsewhere.example"}
    answer = client.post("/v1/jobs", content=json.dumps(document), headers=headers)
    refused(answer, 415, "INVALID_ARGUMENT")
    assert not store.jobs()


@pytest.mark.parametrize("url", ["/v1/jobs", "/v1/spaces:validate"])
def test_a_body_that_is_too_large(client, url):
    padded = b"{}".ljust(MAX_BYTES)
    assert client.post(url, content=padded, headers=JSON).status_code == 422
    refused(client.post(url, content=padded + b" ", headers=JSON), 413, "INVALID_ARGUMENT")
    comment = b"a: 1 #".ljust(MAX_YAML_BYTES, b".")
    assert client.post(url, content=comment, headers=YAML).status_code == 422
    refused(client.post(url, content=comment + b".", headers=YAML), 413, "INVALID_ARGUMENT")


def test_a_body_without_a_length_is_read_no_further_than_the_limit(client):
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield b" " * 65536

    refused(client.post("/v1/jobs", content=endless(), headers=JSON), 413, "INVALID_ARGUMENT")
    assert len(sent) <= MAX_BYTES // 65536 + 2


class Away:
    """A store whose every method raises."""

    database = None

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def method(*args: Any, **options: Any) -> Any:
            raise self._error

        return method


ROUTES = [
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/a"),
    ("PATCH", "/v1/jobs/a"),
    ("DELETE", "/v1/jobs/a"),
    ("POST", "/v1/jobs/a:clone"),
    ("POST", "/v1/jobs/a:cancel"),
    ("POST", "/v1/jobs/a:pause"),
    ("POST", "/v1/jobs/a:resume"),
    ("GET", "/v1/jobs/a/trials"),
    ("GET", "/v1/jobs/a/trials/0"),
    ("GET", "/v1/jobs/a/pareto-front"),
]


def bodies(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {("POST", "/v1/jobs"): document, ("PATCH", "/v1/jobs/a"): {"name": "n"}}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_database_that_is_away(new_client, document, method, path):
    client = new_client(create_app(Away(DatabaseError("postgresql://secret-host/nas cannot be used"))))
    answer = client.request(method, path, json=bodies(document).get((method, path)))
    refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0
    assert "secret" not in answer.text


def test_a_database_that_went_away_and_came_back(new_client, tmp_path):
    file = tmp_path / "nas.db"
    store = open_store(f"sqlite:///{file}")
    client = new_client(create_app(store))
    assert client.get("/readyz").status_code == 200
    store.close()
    moved = file.rename(tmp_path / "moved.db")
    file.mkdir()
    refused(client.get("/readyz"), 503, "UNAVAILABLE")
    file.rmdir()
    moved.rename(file)
    assert client.get("/readyz").status_code == 200
    store.close()


def test_a_database_that_is_away_does_not_end_the_process(new_client):
    client = new_client(create_app(Away(DatabaseError("gone"))))
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/v1/spaces").status_code == 200


def test_a_database_that_answers_is_ready(client):
    assert client.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_bug_shows_nothing_to_the_client_and_all_to_the_server(new_client, document, method, path):
    app = create_app(Away(ZeroDivisionError("inner secret")))
    body = bodies(document).get((method, path))
    answer = new_client(app, raises=False).request(method, path, json=body)
    refused(answer, 500, "INTERNAL")
    assert "secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    with pytest.raises(ZeroDivisionError):  # the server gets the exception, and logs it
        new_client(app).request(method, path, json=body)


def test_a_job_of_another_version_is_told_and_hides_no_other(tmp_path, new_client, document):
    store = open_store(f"sqlite:///{tmp_path / 'nas.db'}")
    bad, good = (store.submit(JobSpec.parse(document)).id for _ in range(2))
    with store.database.writing() as connection:
        renamed = "UPDATE jobs SET spec = replace(spec, '\"objectives\"', '\"goals\"') WHERE id = :id"
        connection.execute(text(renamed), {"id": bad})
    client = new_client(create_app(open_store(f"sqlite:///{tmp_path / 'nas.db'}")))
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == [good]
    for path in ("", "/trials", "/pareto-front"):
        refused = client.get(f"/v1/jobs/{bad}{path}")
        assert (refused.status_code, refused.json()["code"]) == (409, "FAILED_PRECONDITION"), path
        assert "goals" in refused.json()["detail"]
