from __future__ import annotations

from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from api import create_app, models
from api.openapi import EXAMPLES, document_schemas
from nas.check import check
from nas.job import JobSpec
from nas.storage.memory import MemoryStore
from search_spaces import load_space, presets

PATHS = {
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get"},
    "/v1/jobs/{job_id}:cancel": {"post"},
    "/v1/jobs/{job_id}:pause": {"post"},
    "/v1/jobs/{job_id}:resume": {"post"},
    "/v1/jobs/{job_id}/trials": {"get"},
    "/v1/jobs/{job_id}/trials/{number}": {"get"},
    "/v1/jobs/{job_id}/pareto-front": {"get"},
    "/v1/spaces": {"get"},
    "/v1/spaces/{name}": {"get"},
    "/v1/spaces:validate": {"post"},
    "/healthz": {"get"},
    "/readyz": {"get"},
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
