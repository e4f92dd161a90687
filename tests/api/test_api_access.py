"""Who may do what: every role on every route, in the own project and in another."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

import api.access
from api import create_app
from api.guard import Guard
from api.limits import Rate
from nas.access import ApiKey, Role, new_key
from nas.artifacts import Artifacts
from nas.contracts import Submitter
from nas.deploy.card import card_json
from nas.deploy.export import CARD, MODEL
from nas.exports import ExportSpec
from nas.job import JobSpec, JobState
from nas.storage import DatabaseError
from nas.storage.memory import MemoryStore
from nas.trial import Measured, Proposal
from search_spaces.load import space_of
from tests.documents import A_CARD

ANYBODY = None
RULES: dict[tuple[str, str], Role | None] = {
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/metrics"): Role.ADMIN,
    ("POST", "/v1/jobs"): Role.SUBMITTER,
    ("GET", "/v1/jobs"): Role.VIEWER,
    ("GET", "/v1/jobs/{job_id}"): Role.VIEWER,
    ("PATCH", "/v1/jobs/{job_id}"): Role.SUBMITTER,
    ("DELETE", "/v1/jobs/{job_id}"): Role.ADMIN,
    ("POST", "/v1/jobs/{job_id}:cancel"): Role.SUBMITTER,
    ("POST", "/v1/jobs/{job_id}:pause"): Role.SUBMITTER,
    ("POST", "/v1/jobs/{job_id}:resume"): Role.SUBMITTER,
    ("POST", "/v1/jobs/{job_id}:clone"): Role.SUBMITTER,
    ("GET", "/v1/jobs/{job_id}/trials"): Role.VIEWER,
    ("GET", "/v1/jobs/{job_id}/trials/{number}"): Role.VIEWER,
    ("GET", "/v1/jobs/{job_id}/trials:export"): Role.VIEWER,
    ("GET", "/v1/jobs/{job_id}/pareto-front"): Role.VIEWER,
    ("GET", "/v1/jobs/{job_id}/events"): Role.VIEWER,
    ("POST", "/v1/predictors"): Role.SUBMITTER,
    ("GET", "/v1/predictors"): Role.VIEWER,
    ("GET", "/v1/predictors/{predictor_id}"): Role.VIEWER,
    ("DELETE", "/v1/predictors/{predictor_id}"): Role.ADMIN,
    ("POST", "/v1/predictors/{predictor_id}:predict"): Role.VIEWER,
    ("POST", "/v1/exports"): Role.SUBMITTER,
    ("GET", "/v1/exports"): Role.VIEWER,
    ("POST", "/v1/exports/{export_id}:cancel"): Role.SUBMITTER,
    ("GET", "/v1/exports/{export_id}"): Role.VIEWER,
    ("GET", "/v1/exports/{export_id}/file"): Role.VIEWER,
    ("GET", "/v1/exports/{export_id}:card"): Role.VIEWER,
    ("GET", "/v1/spaces"): Role.VIEWER,
    ("GET", "/v1/spaces/{name}"): Role.VIEWER,
    ("POST", "/v1/spaces:validate"): Role.VIEWER,
    ("POST", "/v1/spaces:sample"): Role.VIEWER,
    ("POST", "/v1/spaces:cost"): Role.VIEWER,
    ("GET", "/v1/capabilities"): Role.VIEWER,
}
"""What each route takes. A route that is not here fails a test below."""

OWNED = [route for route in RULES if any(f"{{{what}_id}}" in route[1] for what in ("job", "predictor", "export"))]
"""Routes to what belongs to a project."""
LISTS = [("GET", "/v1/predictors"), ("GET", "/v1/exports")]
"""Of what belongs to the job in the query."""
DOCUMENT = {"space": "nas-bench-201", "objectives": ["max macs"], "searcher": "random", "evaluator": "cost"}
NEITHER = "0123456789abcdef01"
"""An id of nothing."""


@dataclass
class World:
    """A service with two projects, a job, a predictor and an export in each, and keys by project and role."""

    store: MemoryStore
    client: Any
    shown: dict[tuple[str, Role], str]
    jobs: dict[str, str]
    predictors: dict[str, str]
    exports: dict[str, str]

    def ask(
        self, route: tuple[str, str], project: str = "vision", key: str | None = None, ids: str | None = None
    ) -> Any:
        method, path = route
        job, predictor = ids or self.jobs[project], ids or self.predictors[project]
        export = ids or self.exports[project]
        parts = {"job_id": job, "predictor_id": predictor, "export_id": export, "number": 0}
        url = path.format(**parts, name="nas-bench-201")
        options: dict[str, Any] = {"headers": bearer(key) if key else {}}
        if route in LISTS:
            options["params"] = {"job": job}
        if method in ("POST", "PATCH") and not url.endswith((":cancel", ":pause", ":resume")):
            options["json"] = {}
        return self.client.request(method, url, **options)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def kept(store: MemoryStore, name: str, role: Role, project: str, **changes: Any) -> str:
    key, text = new_key(name, role, project, time.time())
    store.keys.add(replace(key, **changes))
    return text


def finished_job(store: MemoryStore, project: str) -> str:
    """A job that is over, with one trial."""
    spec = JobSpec.parse(DOCUMENT)
    job = store.submit(spec, by=Submitter(project, f"owner of {project}"))
    lease = store.claim(job.id)
    assert lease is not None
    (architecture,) = space_of(spec.space).sample(1, 0)
    lease.open([Proposal(architecture)])
    lease.close([(0, Measured({"macs": 2.0, "params": 1.0}))])
    lease.release(JobState.CANCELLED)
    return job.id


def predictor_of(store: MemoryStore, job: str) -> str:
    """A predictor that is settled, so that none is fitted."""
    predictor = store.shelf.add(job, ("params",), 1)
    store.shelf.settle(predictor.failed("there is nothing to learn"))
    return predictor.id


def export_of(store: MemoryStore, files: Artifacts, job: str) -> str:
    """An export that is over, with its files."""
    made = store.exports.add(ExportSpec.parse({"job": job, "trial": 0}))
    export = store.exports.claim()
    assert export is not None
    assert export.id == made.id
    files.put(job, f"{export.folder}/0/{MODEL}", b"a model")
    files.put(job, f"{export.folder}/0/{CARD}", card_json(A_CARD).encode())
    store.exports.settle(export.succeeded(time.time()))
    return export.id


def new_world(new_client: Any) -> World:
    store = MemoryStore()
    shown = {
        (project, role): kept(store, f"{role}.{project}", role, project)
        for project in ("vision", "audio")
        for role in Role
    }
    jobs = {project: finished_job(store, project) for project in ("vision", "audio")}
    predictors = {project: predictor_of(store, job) for project, job in jobs.items()}
    client = new_client(create_app(store, Guard(keys=store.keys)))
    exports = {project: export_of(store, client.app.state.artifacts, job) for project, job in jobs.items()}
    return World(store, client, shown, jobs, predictors, exports)


@pytest.fixture
def world(new_client: Any) -> World:
    return new_world(new_client)


@pytest.fixture(scope="module")
def standing(new_client: Any) -> World:
    """One world for many tests, whose jobs and predictors of `vision` alone may be changed."""
    return new_world(new_client)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    return problem


def test_every_route_has_a_rule() -> None:
    contexts = list(iter_route_contexts(create_app(MemoryStore()).routes))
    found = {
        (method, re.sub(r":\w+}", "}", str(context.path)))
        for context in contexts
        for method in context.methods or ()
        if method != "HEAD"
    }
    assert found == set(RULES)


@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_without_a_key(standing: World, route: tuple[str, str]) -> None:
    answer = standing.ask(route)
    if RULES[route] is ANYBODY:
        assert answer.status_code == 200
    else:
        refused(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == 'Bearer realm="nas"'


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_every_role_on_every_route(standing: World, route: tuple[str, str], role: Role) -> None:
    store = standing.store
    job = standing.jobs["vision"] = finished_job(store, "vision")
    predictor = standing.predictors["vision"] = predictor_of(store, job)
    export = standing.exports["vision"] = export_of(store, standing.client.app.state.artifacts, job)
    answer = standing.ask(route, key=standing.shown["vision", role])
    needed = RULES[route]
    if needed is not None and not role.allows(needed):
        problem = refused(answer, 403, "PERMISSION_DENIED")
        assert f"takes the role {needed}" in problem["detail"]
        assert store.job(job)
        assert store.shelf.predictor(predictor)
        assert store.exports.export(export)
    elif route[0] in ("GET", "DELETE"):
        assert answer.status_code in (200, 204)
    else:
        assert answer.status_code in (200, 202, 409, 422)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", [*OWNED, *LISTS], ids=" ".join)
def test_what_is_anothers_is_not_there(standing: World, route: tuple[str, str], role: Role) -> None:
    key = standing.shown["vision", role]
    answer, nothing = standing.ask(route, "audio", key), standing.ask(route, key=key, ids=NEITHER)
    needed = RULES[route]
    assert needed is not None
    if not role.allows(needed):
        refused(answer, 403, "PERMISSION_DENIED")
    else:
        refused(answer, 404, "NOT_FOUND")
    told = answer.text
    for theirs in (standing.jobs, standing.predictors, standing.exports):
        told = told.replace(theirs["audio"], NEITHER)
    assert told == nothing.text, "an id that belongs to somebody must look like one that belongs to nobody"
    assert standing.store.job(standing.jobs["audio"])
    assert standing.store.shelf.predictor(standing.predictors["audio"])
    assert standing.store.exports.export(standing.exports["audio"])


def test_lists_hold_the_own_projects_jobs(world: World, document: dict[str, Any]) -> None:
    for project in ("vision", "audio"):
        headers = bearer(world.shown[project, Role.ADMIN])
        found = world.client.get("/v1/jobs", headers=headers).json()["jobs"]
        assert [(job["id"], job["project"]) for job in found] == [(world.jobs[project], project)]
    theirs = {"owner": "owner of audio"}
    answer = world.client.get("/v1/jobs", params=theirs, headers=bearer(world.shown["vision", Role.ADMIN]))
    assert answer.json()["jobs"] == []


def test_a_job_belongs_to_the_project_and_the_name_of_the_key(world: World, document: dict[str, Any]) -> None:
    headers = bearer(world.shown["vision", Role.SUBMITTER])
    made = world.client.post("/v1/jobs", json=document, headers=headers).json()
    assert (made["project"], made["owner"]) == ("vision", "submitter.vision")
    clone = world.client.post(f"/v1/jobs/{made['id']}:clone", headers=headers).json()
    assert (clone["project"], clone["owner"]) == ("vision", "submitter.vision")


@pytest.mark.parametrize("whose", ["audio", "nobody"])
def test_no_document_or_query_reaches_into_another_project(
    world: World, document: dict[str, Any], whose: str
) -> None:
    theirs = world.jobs.get(whose, NEITHER)
    headers = bearer(world.shown["vision", Role.ADMIN])
    learnt = world.client.post("/v1/jobs", json={**document, "warm_start": [theirs]}, headers=headers)
    assert refused(learnt, 422, "INVALID_ARGUMENT")["faults"] == [
        {"path": "warm_start.0", "message": f"job {theirs}: there is no such job"}
    ]
    clone = world.client.post(
        f"/v1/jobs/{world.jobs['vision']}:clone", json={"warm_start": [theirs]}, headers=headers
    )
    refused(clone, 422, "INVALID_ARGUMENT")
    front = world.client.get(
        f"/v1/jobs/{world.jobs['vision']}/pareto-front", params={"job": theirs}, headers=headers
    )
    assert refused(front, 404, "NOT_FOUND")["detail"] == f"there is no job {theirs}"
    fit = world.client.post("/v1/predictors", json={"job": theirs}, headers=headers)
    assert refused(fit, 404, "NOT_FOUND")["detail"] == f"there is no job {theirs}"
    export = world.client.post("/v1/exports", json={"job": theirs, "trial": 0}, headers=headers)
    assert refused(export, 404, "NOT_FOUND")["detail"] == f"there is no job {theirs}"


def test_a_token_of_one_project_is_free_in_another(world: World, document: dict[str, Any]) -> None:
    made = [
        world.client.post(
            "/v1/jobs",
            json=document,
            headers={**bearer(world.shown[project, Role.SUBMITTER]), "Idempotency-Key": "again"},
        ).json()
        for project in ("vision", "audio", "vision")
    ]
    assert [job["project"] for job in made] == ["vision", "audio", "vision"]
    assert made[0]["id"] == made[2]["id"] != made[1]["id"]


RIGHT = f"nas_abcdefghij_{'s' * 43}"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        RIGHT,
        f"Token {RIGHT}",
        f"Bearer {RIGHT} {RIGHT}",
        f"Bearer {RIGHT[:-1]}",
        f"Bearer {RIGHT.upper()}",
        "Bearer nas_",
        "Bearer nas__",
        "Bearer " + "x" * 5000,
        "Bearer nas_ééééé_é".encode(),
        b"Bearer \xff\xfe",
        "Bearer ' OR 1=1 --",
    ],
)
def test_what_is_no_key_opens_nothing(world: World, value: str | bytes) -> None:
    answer = world.client.get("/v1/jobs", headers={"Authorization": value})
    refused(answer, 401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="nas"')


def test_an_unknown_key_and_a_wrong_secret_get_the_same_answer(world: World) -> None:
    right = world.shown["vision", Role.ADMIN]
    unknown = new_key("x", Role.ADMIN, "vision", 1.0)[1]
    wrong = right[: right.index("_", 4) + 1] + unknown.split("_", 2)[2]
    answers = [world.client.get("/v1/jobs", headers=bearer(text)) for text in (unknown, wrong, "nonsense")]
    assert len({a.text for a in answers}) == 1
    assert len({str(sorted(a.headers.items())) for a in answers}) == 1
    assert answers[0].headers["www-authenticate"] == 'Bearer realm="nas", error="invalid_token"'


@pytest.mark.parametrize(
    ("changes", "said"), [({"expires_at": 5.0}, "has expired"), ({"revoked_at": 5.0}, "was revoked")]
)
def test_a_key_that_is_over_opens_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float], said: str
) -> None:
    monkeypatch.setattr("api.limits.WRONG_KEYS", Rate(0.5, len(RULES)))  # there are more routes than wrong tries
    text = kept(world.store, "old", Role.ADMIN, "vision", **changes)
    for route in RULES:
        if RULES[route] is not ANYBODY:
            assert said in refused(world.ask(route, key=text), 401, "UNAUTHENTICATED")["detail"]


def until_refused(world: World, text: str) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        answer = world.client.get("/v1/jobs", headers=bearer(text))
        if answer.status_code != 200:
            return answer
        time.sleep(0.02)
    raise AssertionError("the key still works")


def test_a_key_that_is_revoked_soon_stops_working(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.access.TRUSTED_SECONDS <= 5
    monkeypatch.setattr(api.access, "TRUSTED_SECONDS", 0.2)
    text = kept(world.store, "al", Role.ADMIN, "vision")
    assert world.client.get("/v1/jobs", headers=bearer(text)).status_code == 200
    world.store.keys.revoke("al", time.time())
    assert "was revoked" in refused(until_refused(world, text), 401, "UNAUTHENTICATED")["detail"]


def test_a_key_stops_working_when_it_expires_though_it_was_just_used(world: World) -> None:
    text = kept(world.store, "al", Role.ADMIN, "vision", expires_at=time.time() + 1.0)
    world.client.get("/v1/jobs", headers=bearer(text))
    assert "has expired" in refused(until_refused(world, text), 401, "UNAUTHENTICATED")["detail"]


def test_a_new_key_works_at_once(world: World) -> None:
    key, text = new_key("al", Role.VIEWER, "vision", time.time())
    assert world.client.get("/v1/jobs", headers=bearer(text)).status_code == 401
    world.store.keys.add(key)
    assert world.client.get("/v1/jobs", headers=bearer(text)).status_code == 200


class Watched:
    """Keys that count how often they are looked up."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.asked = store, 0
        self.away = False

    def get(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        if self.away:
            raise DatabaseError("the database is away")
        return self.store.keys.get(key_id)


def test_a_key_is_not_looked_up_for_every_request(world: World, new_client: Any) -> None:
    keys = Watched(world.store)
    client = new_client(create_app(world.store, Guard(keys=keys)))  # type: ignore[arg-type]
    text = world.shown["vision", Role.VIEWER]
    assert {client.get("/v1/jobs", headers=bearer(text)).status_code for _ in range(60)} == {200}
    assert keys.asked < 30
    before = keys.asked
    right = world.shown["vision", Role.ADMIN]
    for text in (new_key("x", Role.ADMIN, "vision", 1.0)[1], right[:-3] + "abc"):
        client.get("/v1/jobs", headers=bearer(text))
    assert keys.asked == before + 2, "an unknown key and a wrong secret cost the same"


def test_a_database_that_is_away_is_no_reason_to_refuse_a_key(world: World, new_client: Any) -> None:
    keys = Watched(world.store)
    client = new_client(create_app(world.store, Guard(keys=keys)))  # type: ignore[arg-type]
    keys.away = True
    answer = client.get("/v1/jobs", headers=bearer(world.shown["vision", Role.VIEWER]))
    refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("content", [b"{", b"x" * (3 << 20), b""])
def test_the_key_is_looked_at_before_the_body(world: World, content: bytes) -> None:
    for path in ("/v1/jobs", "/v1/spaces:validate", "/v1/predictors"):
        answer = world.client.post(path, content=content, params={"nonsense": "1"})
        refused(answer, 401, "UNAUTHENTICATED")


def test_no_key_gets_into_logs_or_answers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [world.shown["vision", Role.VIEWER], new_key("x", Role.ADMIN, "vision", 1.0)[1]]
    for text in texts:
        for route in RULES:
            answer = world.ask(route, key=text)
            assert text.split("_", 2)[2] not in answer.text + caplog.text


def test_the_openapi_document_says_which_operations_take_a_key() -> None:
    openapi = create_app(MemoryStore()).openapi()
    (scheme,) = openapi["components"]["securitySchemes"]
    described = {
        (method.upper(), path): operation.get("security", [])
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    }
    for route, security in described.items():
        assert security == ([] if RULES[route] is ANYBODY else [{scheme: []}])
    assert openapi["components"]["securitySchemes"][scheme]["scheme"] == "bearer"


def test_without_keys_everybody_sees_everything(world: World, new_client: Any) -> None:
    client = new_client(create_app(world.store))
    assert {job["id"] for job in client.get("/v1/jobs").json()["jobs"]} == set(world.jobs.values())
    assert client.get("/metrics").status_code == 200
