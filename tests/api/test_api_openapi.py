from __future__ import annotations

from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from api import create_app, models
from api.examples import EXAMPLES, answers
from api.guard import Guard
from api.openapi import document_schemas
from nas.access import Role, new_key
from nas.check import check
from nas.exports import ExportSpec
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
    "/v1/exports": {"get", "post"},
    "/v1/exports/{export_id}": {"get"},
    "/v1/exports/{export_id}:cancel": {"post"},
    "/v1/exports/{export_id}/file": {"get"},
    "/v1/exports/{export_id}:card": {"get"},
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


PROBES = {"/healthz", "/readyz"}
"""Asked by load balancers and probes, which add query parameters of their own."""


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


def test_no_route_takes_a_query_parameter_that_it_does_not_know(openapi, client, search, store):
    search.open(1)
    predictor = store.shelf.add(search.id, ["macs"], 1)
    export = store.exports.add(ExportSpec.parse({"job": search.id, "trial": 0}))
    parts = {"job_id": search.id, "predictor_id": predictor.id, "export_id": export.id}
    parts |= {"number": 0, "name": "digits-tiny"}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items() if path not in PROBES else ():
            required = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query" and p["required"]}
            query = {"job": search.id} if "job" in required else {}
            body = {} if "requestBody" not in operation else {"json": {"name": "digits-tiny"}}
            url = path.format(**parts)
            answer = client.request(method.upper(), url, params={**query, "colour": "red"}, **body)
            assert answer.status_code == 422, f"{method} {path}: {answer.text}"
            assert "'colour' is not a query parameter" in answer.json()["faults"][0]["message"]
            assert "422" in operation["responses"]


@pytest.mark.parametrize("path", sorted(PROBES))
def test_probes_may_add_query_parameters(openapi, client, path):
    assert client.get(path, params={"probe": "7f3a", "": "x"}).status_code == 200
    assert "422" not in openapi["paths"][path]["get"]["responses"]


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


def test_every_answer_that_is_text_has_an_example(openapi):
    schemas, checked = openapi["components"]["schemas"], 0
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    schema = schemas.get(content["schema"].get("$ref", "").rpartition("/")[2], content["schema"])
                    if schema.get("format") != "binary":
                        assert "example" in content or schema.get("examples"), f"{method} {path} {status} {kind}"
                        checked += 1
    assert checked > 200


SPECIAL = {
    ("delete", "/v1/jobs/{job_id}"): {"409"},
    ("get", "/readyz"): {"503"},
    ("get", "/v1/jobs"): {"400"},
    ("get", "/v1/jobs/{job_id}/events"): {"400"},
    ("get", "/v1/jobs/{job_id}/trials"): {"400"},
    ("get", "/v1/jobs/{job_id}/trials:export"): {"409"},
    ("get", "/v1/predictors"): {"400", "404"},
    ("get", "/v1/exports"): {"400", "404"},
    ("get", "/v1/exports/{export_id}/file"): {"409"},
    ("get", "/v1/exports/{export_id}:card"): {"409"},
    ("patch", "/v1/jobs/{job_id}"): {"409", "412"},
    ("post", "/v1/jobs/{job_id}:cancel"): {"202", "409"},
    ("post", "/v1/jobs/{job_id}:pause"): {"202", "409"},
    ("post", "/v1/jobs/{job_id}:resume"): {"202", "409"},
    ("post", "/v1/exports"): {"404", "409"},
    ("post", "/v1/exports/{export_id}:cancel"): {"409"},
    ("post", "/v1/predictors"): {"404"},
    ("post", "/v1/predictors/{predictor_id}:predict"): {"409"},
}
"""What only some operations answer, beside what goes with keys, paths and bodies."""


def test_every_refusal_of_an_operation_is_documented(openapi):
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            expected = {"421", "429"} | SPECIAL.get((method, path), set())
            expected |= {"401", "403", "503"} if "security" in operation else set()
            expected |= {"422"} if path not in PROBES else set()
            expected |= {"404"} if "{" in path else set()
            expected |= {"400", "413", "415"} if "requestBody" in operation else set()
            found = set(operation["responses"]) - {"default", "200", "204"}
            found -= {"202"} - expected if method == "post" else set()
            assert found == expected, (method, path)


def test_an_empty_page_token_is_the_first_page_in_schema_and_service(openapi, client, search):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with ray")
    (token,) = (p for p in openapi["paths"]["/v1/jobs"]["get"]["parameters"] if p["name"] == "page_token")
    assert jsonschema.Draft202012Validator(token["schema"]).is_valid("")
    assert client.get("/v1/jobs", params={"page_token": ""}).json() == client.get("/v1/jobs").json()


@pytest.mark.parametrize("text", [" MAXIMIZE  accuracy", "min latency_ms", "max a b", "best accuracy", "min 2"])
def test_the_pattern_of_objectives_is_what_the_service_reads(openapi, client, search, text):
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front", params={"objective": text})
    assert (answer.status_code == 200) == validator(openapi, "Objective").is_valid(text)


@pytest.mark.parametrize("text", ["params<=1_0e3", " params >= -.5 ", "params < 3", "params <= 1.2.3", "a <= inf"])
def test_the_pattern_of_constraints_is_what_the_service_reads(openapi, client, search, text):
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front", params={"constraint": text})
    assert (answer.status_code == 200) == validator(openapi, "Constraint").is_valid(text)


@pytest.mark.parametrize(
    "patch",
    [{"space": None}, {"objectives": []}, {"seed": ""}, {"budget": {"repeats": 0}}, {"searcher": "x"}],
    ids=repr,
)
def test_the_schema_of_clones_refuses_what_the_service_refuses(openapi, client, search, patch):
    assert client.post(f"/v1/jobs/{search.id}:clone", json=patch).status_code == 422
    assert not validator(openapi, "JobClone").is_valid(patch)


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


def test_where_the_operator_allows_functions_the_schema_takes_them_and_names_none(document, new_client):
    store = MemoryStore()
    app = create_app(store, Guard(keys=store.keys), functions=("lab.bench:latency", "lab.bench:energy"))
    openapi, client = app.openapi(), new_client(app)
    for open_to_all in ("/openapi.json", "/docs", "/healthz", "/readyz"):
        answer = client.get(open_to_all)
        assert answer.status_code == 200
        assert "lab.bench" not in answer.text
    assert client.get("/v1/capabilities").status_code == 401
    key, text = new_key("al", Role.VIEWER, "default", 1.0)
    store.keys.add(key)
    told = client.get("/v1/capabilities", headers={"Authorization": f"Bearer {text}"}).json()
    assert told["functions"] == ["lab.bench:latency", "lab.bench:energy"]
    function = openapi["components"]["schemas"]["CallableConfig"]["properties"]["function"]
    assert "/v1/capabilities" in function["description"]
    schemas = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) <= schemas
    job = validator(openapi, "JobSpec")
    assert job.is_valid({**document, "evaluator": {"kind": "callable", "function": "lab.bench:energy"}})
    refused = {**document, "evaluator": {"kind": "callable", "function": "os:system"}}
    answer = new_client(create_app(store, functions=app.state.functions)).post("/v1/jobs", json=refused)
    assert answer.status_code == 422


@pytest.mark.parametrize("name", EXAMPLES["JobSpec"])
def test_the_examples_of_jobs_are_accepted_and_fit_the_schema(openapi, client, name):
    example = EXAMPLES["JobSpec"][name]["value"]
    check(JobSpec.parse(example), remote=True)
    validator(openapi, "JobSpec").validate(example)
    job = client.post("/v1/jobs", json=example).json()
    validator(openapi, "Job").validate(job)
    validator(openapi, "JobSpec").validate(job["spec"])


@pytest.mark.parametrize("name", EXAMPLES["SpaceOrName"])
def test_the_examples_of_spaces_are_accepted_and_fit_the_schema(openapi, client, name):
    example = EXAMPLES["SpaceOrName"][name]["value"]
    validator(openapi, "SpaceOrName").validate(example)
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
