"""The OpenAPI document: what FastAPI derives from the routes, and the documents that clients send."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from api.examples import EXAMPLES, answers
from api.models import Problem
from api.queries import MAX_ARCHITECTURES
from nas.exports import ExportSpec
from nas.job import JobSpec
from nas.objectives import CONSTRAINT, OBJECTIVE
from nas.predictor_documents import Candidates, PredictorSpec
from search_spaces.load import SpaceDocument, names
from search_spaces.schema import DocumentSchema

REF = "#/components/schemas/{model}"
LOCAL_ONLY = ("CallableConfig", "PythonDocument")
"""Parts of a document that name code, which no client may."""
ONE_OF_THE_FUNCTIONS = "one of the `functions` of `/v1/capabilities`"

PROBLEM: dict[str, Any] = {
    "description": "What is wrong",
    "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
}
MEANINGS = {
    400: "The request cannot be read: its body, a header, or a page token",
    401: "There is no API key in the request, or none that holds",
    403: "The role of the API key does not allow this",
    404: "There is no such thing in the project of the API key",
    409: "The state of the job does not allow this",
    412: "The job was edited since the ETag in If-Match was given",
    413: "The body is too large",
    415: "The content type is not read",
    421: "A server without API keys takes only requests for a loopback address, from this machine",
    422: "The body or the query can be read and is wrong; `faults` tells where",
    429: "Too many requests; see Retry-After",
    503: "The database does not answer; see Retry-After",
}
OPEN_TO_ALL = (421, 429)
"""Any route may answer these."""
ALWAYS = (401, 403, *OPEN_TO_ALL, 503)
"""Any route that asks for an API key may."""
SECONDS = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
REFUSAL_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    429: SECONDS,
    503: SECONDS,
}
ETAG = {"ETag": {"description": "the job's revision, for If-Match", "schema": {"type": "string"}}}
LOCATION = {"Location": {"description": "the path of the new job", "schema": {"type": "string"}}}


def refusals(*statuses: int, always: Iterable[int] = ALWAYS) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that refuse a request with one of these statuses, or one that any may answer."""
    return {
        status: {**PROBLEM, "description": MEANINGS[status], "headers": REFUSAL_HEADERS.get(status, {})}
        for status in sorted({*statuses, *always})
    }


def body_of(model: str, *kinds: str, required: bool = True) -> dict[str, Any]:
    """The description of a request body; without `kinds` a document, which may be written as JSON or YAML."""
    schema = {"$ref": REF.format(model=model)}
    kinds = kinds or ("application/json", "application/yaml")
    content = {kind: {"schema": schema, "examples": EXAMPLES[model]} for kind in kinds}
    return {"requestBody": {"required": required, "content": content}}


def complete(openapi: dict[str, Any], *, functions: bool = False) -> dict[str, Any]:
    """The document with the schemas that its references name, and their examples.

    `functions` says whether the operator lets documents name any. Which ones stands in `/v1/capabilities`: this
    document is read without an API key.
    """
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas.update(_parts(Problem.model_json_schema(ref_template=REF), "Problem"))
    schemas.update(document_schemas(functions=functions))
    for answer in ("Job", "Validated"):
        schemas[answer]["properties"]["spec"] = {"$ref": REF.format(model="JobSpec")}
    schemas["Space"]["properties"]["document"] = {"$ref": REF.format(model="SpaceDocument")}
    for name, example in answers().items():
        schemas[name]["examples"] = [example]
    for path in openapi["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(parameter["schema"])
    return openapi


def document_schemas(*, functions: bool = False) -> dict[str, Any]:
    """JSON Schemas of what clients may send, by name: `JobSpec`, `SpaceDocument`, their parts, and patches."""
    space = TypeAdapter[Any](SpaceDocument).json_schema(ref_template=REF, schema_generator=DocumentSchema)
    schemas = {
        **_parts(space, "SpaceDocument"),
        **_parts(JobSpec.model_json_schema(ref_template=REF, schema_generator=DocumentSchema), "JobSpec"),
    }
    if functions:
        schemas["CallableConfig"]["properties"]["function"]["description"] = ONE_OF_THE_FUNCTIONS
    gone = [name for name in LOCAL_ONLY if name != "CallableConfig" or not functions]
    for name in gone:
        del schemas[name]
    _drop(schemas, {REF.format(model=name) for name in gone})
    fields = schemas["JobSpec"]["properties"]
    fields["space"] = _space_or_name()
    for name in ("searcher", "evaluator"):
        fields[name] = _or_text(fields[name], enum=list(fields[name]["discriminator"]["mapping"]))
    objectives, constraints = ["max accuracy", "min latency_ms"], ["latency_ms <= 10"]
    schemas["Objective"] = _or_text(schemas["Objective"], pattern=f"^{OBJECTIVE}$", examples=objectives)
    schemas["Constraint"] = _or_text(schemas["Constraint"], pattern=f"^{CONSTRAINT}$", examples=constraints)
    return schemas | _patches(schemas) | _questions() | _about_predictors()


def _patches(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Merge patches of a job: of what may be edited, and of the whole document for a clone."""
    fields, budget = schemas["JobSpec"]["properties"], schemas["Budget"]["properties"]
    limits = {name: _or_null(field) for name, field in budget.items()}
    clone = {name: _or_null(_patch(field)) for name, field in fields.items()}
    for name in ("space", "objectives"):  # without which there is no document
        clone[name] = _patch(fields[name])
    clone["budget"] = _or_null(_object(limits))
    edits = {
        "name": clone["name"],
        "budget": _or_null(_object({name: limits[name] for name in limits if name != "repeats"})),
    }
    told = "A merge patch (RFC 7396): what is left out stays as it is, null takes a key back to its default"
    return {
        "JobPatch": {**_object(edits), "description": f"{told}."},
        "JobClone": {
            **_object(clone),
            "description": f"{told} Any part of a job's document.",
        },
    }


def _patch(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of what may stand for a field in a merge patch: of a section, any part; of others, all of it."""
    texts = [kind for kind in field.get("anyOf", ()) if kind.get("type") == "string"]
    return {"anyOf": [*texts, {"type": "object"}]} if texts else dict(field)


def _space_or_name() -> dict[str, Any]:
    """The schema of a space wherever one stands."""
    name = {"type": "string", "enum": list(names())}
    alone = {**_object({"name": name}), "required": ["name"]}
    return {"anyOf": [name, {"$ref": REF.format(model="SpaceDocument")}, alone]}


def _questions() -> dict[str, Any]:
    """What is asked about spaces."""
    architecture = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    asked = {"type": "array", "items": architecture, "minItems": 1, "maxItems": MAX_ARCHITECTURES}
    return {
        "SpaceOrName": {**_space_or_name(), "description": "The name of a space, or its document"},
        "SpaceCostQuery": {
            **_object({"space": {"$ref": REF.format(model="SpaceOrName")}, "architectures": asked}),
            "required": ["space", "architectures"],
        },
    }


def _about_predictors() -> dict[str, Any]:
    """What is asked about predictors, and about exports."""
    asked: dict[str, type[BaseModel]] = {
        "PredictorSpec": PredictorSpec,
        "Candidates": Candidates,
        "ExportSpec": ExportSpec,
    }
    return {name: model.model_json_schema(ref_template=REF) for name, model in asked.items()}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with these keys, each of which may be left out, and no others."""
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of what may also be null; a patch has no defaults."""
    return {"anyOf": [{k: v for k, v in schema.items() if k != "default"}, {"type": "null"}]}


def _never_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which may be left out and cannot be written as null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return dict(schema)
    return {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def _parts(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema and the definitions inside it, by name."""
    definitions: dict[str, Any] = schema.pop("$defs", {})
    return {**definitions, name: schema}


def _drop(node: Any, gone: Collection[str]) -> None:
    """Take these members out of every union."""
    if isinstance(node, dict):
        if "oneOf" in node:
            node["oneOf"] = [m for m in node["oneOf"] if m.get("$ref") not in gone]
        if "mapping" in node:
            node["mapping"] = {kind: ref for kind, ref in node["mapping"].items() if ref not in gone}
        for inner in node.values():
            _drop(inner, gone)
    elif isinstance(node, list):
        for inner in node:
            _drop(inner, gone)


def _or_text(schema: dict[str, Any], **text: Any) -> dict[str, Any]:
    """The schema of what may also be written as text."""
    return {"anyOf": [{"type": "string", **text}, schema]}
