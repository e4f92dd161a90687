from __future__ import annotations

from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from api import create_app, models
from api.examples import EXAMPLES, answers
from api.openapi import document_schemas
from nas.check import check
from nas.job import JobSpec
from nas.storage.memory import MemoryStore
from search_spaces import load_space, presets

PATHS = {
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get", "patch", "delete"},
    "/v1/jobs/{job_id}:cancel": {"post"},
    "/v1/jobs/{job_id}:pause": {"post"},
    "/v1/jobs/{job_id}:resume": {"post"},
    "/v1/jobs/{job_id}:clone": {"post"},
    "/v1/jobs/{job_id}/trials": {"get"},
    "/v1/jobs/{job_id}/trials/{number}": {"get"},
    "/v1/jobs/{job_id}/trials:export": {"get"},
    "/v1/jobs/{job_id}/pareto-front": {"get"},
    "/v1/jobs/{job_id}/events": {"get"},
    "/v1/predictors": {"get", "post"},
    "/v1/predictors/{predictor_id}": {"get", "delete"},
    "/v1/predictors/{predictor_id}:predict": {"post"},
    "/v1/spaces": {"get"},
    "/v1/spaces/{name}": {"get"},
    "/v1/spaces:validate": {"post"},
    "/v1/spaces:sample": {"post"},
    "/v1/spaces:cost": {"post"},
    "/v1/capabilities": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return create_app(MemoryStore()).openapi()


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(v) for v in node.values()))
    return set().union(*(references(v) for v in node)) if isinstance(node, list) else set()


def operations(openapi: dict[str, Any]) -> list[dict[str, Any]]:
    return [o for path in openapi["paths"].values() for o in path.values()]


def validator(openapi: dict[str, Any], name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with ray")
    schema = {"$ref": f"#/components/schemas/{name}", "components": openapi["components"]}
    return jsonschema.Draft202012Validator(schema)


def test_the_document_is_openapi_3_1(openapi, client):
    assert openapi["openapi"].startswith("3.1")
    OpenAPI.model_validate(openapi)
    assert client.get("/openapi.json").json() == openapi


def test_every_route_is_in_it(openapi):
    assert {path: set(methods) for path, methods in openapi["paths"].items()} == PATHS
    assert all(o["description"] for o in operations(openapi))
    names = [o["operationId"] for o in operations(openapi)]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(openapi):
    schemas = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) <= schemas
    assert schemas <= references(openapi), "a schema that nothing uses"


def test_every_schema_is_a_json_schema(openapi):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with ray")
    for schema in openapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_is_sent_and_what_is_answered_have_different_names():
    answers = {name for name in vars(models) if name[0].isupper()}
    assert not answers & set(document_schemas())


def test_every_refusal_is_described_as_a_problem(openapi):
    for operation in operations(openapi):
        for status, answer in operation["responses"].items():
            if not status.startswith("2"):
                assert set(answer["content"]) == {"application/problem+json"}


@pytest.mark.parametrize("url", ["/v1/jobs", "/v1/spaces:validate"])
def test_documents_are_taken_as_json_and_yaml_and_have_examples(openapi, url):
    body = openapi["paths"][url]["post"]["requestBody"]
    assert body["required"] is True
    assert set(body["content"]) == {"application/json", "application/yaml"}
    assert body["content"]["application/json"]["examples"]


def test_every_route_describes_the_refusals_that_any_may_answer(openapi):
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert {"421", "429"} <= statuses, (method, path)
            if path.startswith("/v1/"):
                assert {"401", "403", "422", "429", "503", "default"} <= statuses, (method, path)
            if "{" in path:
                assert "404" in statuses, (method, path)
            if "requestBody" in operation:
                assert {"400", "413", "415"} <= statuses, (method, path)


def test_no_parameter_can_be_null(openapi):
    parameters = [p for o in operations(openapi) for p in o.get("parameters", [])]
    assert len(parameters) > 20
    assert not [p["name"] for p in parameters if "null" in str(p["schema"].get("type", p["schema"].get("anyOf")))]


def test_refusals_that_say_when_to_try_again_describe_it(openapi):
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            for status in ("429", "503"):
                if path.startswith("/v1/"):
                    assert "Retry-After" in operation["responses"][status]["headers"]


def test_every_body_has_examples_that_fit(openapi):
    checked = 0
    for operation in operations(openapi):
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert content["examples"]
            for example in content["examples"].values():
                validator(openapi, name).validate(example["value"])
                checked += 1
    assert checked >= len(EXAMPLES)


def test_the_examples_of_answers_fit(openapi):
    for name, example in answers().items():
        assert openapi["components"]["schemas"][name]["examples"] == [example]
        validator(openapi, name).validate(example)


@pytest.mark.parametrize("name", EXAMPLES["JobPatch"])
def test_the_examples_of_edits_are_accepted(client, search, name):
    answer = client.patch(f"/v1/jobs/{search.id}", json=EXAMPLES["JobPatch"][name]["value"])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", EXAMPLES["JobClone"])
def test_the_examples_of_clones_are_accepted(client, search, name):
    answer = client.post(f"/v1/jobs/{search.id}:clone", json=EXAMPLES["JobClone"][name]["value"])
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    "patch", [{"seed": 1}, {"budget": {"repeats": 2}}, {"budget": {"max_trial_count": 0}}, {"name": ""}], ids=repr
)
def test_the_schema_of_edits_refuses_what_the_service_refuses(openapi, client, search, patch):
    assert client.patch(f"/v1/jobs/{search.id}", json=patch).status_code in (409, 422)
    assert not validator(openapi, "JobPatch").is_valid(patch)


def test_functions_that_the_operator_allows_are_in_the_schema(document):
    openapi = create_app(MemoryStore(), functions=("lab.bench:latency", "lab.bench:energy")).openapi()
    schemas = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) <= schemas
    job = validator(openapi, "JobSpec")
    assert job.is_valid({**document, "evaluator": {"kind": "callable", "function": "lab.bench:energy"}})
    assert not job.is_valid({**document, "evaluator": {"kind": "callable", "function": "os:system"}})


@pytest.mark.parametrize("name", EXAMPLES["JobSpec"])
def test_the_examples_of_jobs_are_accepted_and_fit_the_schema(openapi, client, name):
    example = EXAMPLES["JobSpec"][name]["value"]
    check(JobSpec.parse(example), remote=True)
    validator(openapi, "JobSpec").validate(example)
    job = client.post("/v1/jobs", json=example).json()
    validator(openapi, "Job").validate(job)
    validator(openapi, "JobSpec").validate(job["spec"])


@pytest.mark.parametrize("name", EXAMPLES["SpaceDocument"])
def test_the_examples_of_spaces_are_accepted_and_fit_the_schema(openapi, client, name):
    example = EXAMPLES["SpaceDocument"][name]["value"]
    validator(openapi, "SpaceDocument").validate(example)
    answer = client.post("/v1/spaces:validate", json=example)
    assert answer.status_code == 200
    validator(openapi, "Space").validate(answer.json())


@pytest.mark.parametrize("name", presets())
def test_presets_fit_the_schema(openapi, name):
    document = load_space(name).document.model_dump(mode="json", exclude_none=True)
    validator(openapi, "SpaceDocument").validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "x"},
        {"colour": "red"},
        {"objectives": []},
        {"space": "nowhere"},
        {"evaluator": "callable"},
        {"evaluator": {"kind": "callable", "function": "os:system"}},
        {"space": {"family": "python", "object": "os:system"}},
    ],
    ids=repr,
)
def test_the_schema_refuses_what_the_service_refuses(openapi, client, document, change):
    wrong = {**document, **change}
    assert client.post("/v1/jobs", json=wrong).status_code == 422
    assert not validator(openapi, "JobSpec").is_valid(wrong)
