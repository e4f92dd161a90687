"""The OpenAPI document: what FastAPI derives from the routes, and the documents that clients send."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from api.models import Problem
from nas.job import JobSpec
from search_spaces.load import SpaceDocument, names
from search_spaces.schema import DocumentSchema

REF = "#/components/schemas/{model}"
LOCAL_ONLY = ("CallableConfig", "PythonDocument")
"""Parts of a document that name code, which no client may."""

PROBLEM: dict[str, Any] = {
    "description": "What is wrong",
    "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
}

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "JobSpec": {
        "joint": {
            "summary": "Architecture, quantization and recipe together, on a preset",
            "value": {
                "name": "digits-tiny",
                "space": "digits-tiny",
                "objectives": ["max accuracy", "min model_size_bytes"],
                "constraints": ["model_size_bytes <= 100e3"],
                "searcher": {"kind": "predictor_guided"},
                "evaluator": {"kind": "training", "dataset": "digits", "epochs": 5},
                "budget": {"max_trial_count": 60, "parallel_trial_count": 2},
                "seed": 0,
            },
        },
        "cost": {
            "summary": "Formulas alone: nothing is trained",
            "value": {
                "name": "smallest-cells",
                "space": "nas-bench-201",
                "objectives": ["min params", "max macs"],
                "searcher": "random",
                "evaluator": "cost",
                "budget": {"max_trial_count": 20},
            },
        },
    },
    "SpaceDocument": {
        "staged": {
            "summary": "Two stages of blocks for images of 28 x 28",
            "value": {
                "family": "staged",
                "input": [1, 28, 28],
                "classes": 10,
                "architecture": {
                    "stem": {"width": [8, 16]},
                    "stages": [
                        {"block": "conv", "depth": {"min": 0, "max": 2}, "width": [16, 32], "stride": 2},
                        {"block": ["inverted_residual", "conv"], "depth": [1, 2], "width": 64, "stride": 2},
                    ],
                },
                "quantization": {"per": "stage", "weight_bits": [4, 8, 32]},
                "recipe": {"learning_rate": {"min": 0.001, "max": 0.1, "scale": "log", "levels": 5}},
            },
        }
    },
}


def body_of(model: str) -> dict[str, Any]:
    """The description of a request body that is a document."""
    schema = {"$ref": REF.format(model=model)}
    content: dict[str, Any] = {
        "application/json": {"schema": schema, "examples": EXAMPLES[model]},
        "application/yaml": {"schema": schema},
    }
    return {"requestBody": {"required": True, "content": content}}


def complete(openapi: dict[str, Any]) -> dict[str, Any]:
    """The document with the schemas that its references name."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas.update(_parts(Problem.model_json_schema(ref_template=REF), "Problem"))
    schemas.update(document_schemas())
    for answer in ("Job", "Validated"):
        schemas[answer]["properties"]["spec"] = {"$ref": REF.format(model="JobSpec")}
    schemas["Space"]["properties"]["document"] = {"$ref": REF.format(model="SpaceDocument")}
    return openapi


def document_schemas() -> dict[str, Any]:
    """JSON Schemas of what clients may send, by name: `JobSpec`, `SpaceDocument`, and their parts."""
    space = TypeAdapter[Any](SpaceDocument).json_schema(ref_template=REF, schema_generator=DocumentSchema)
    schemas = {
        **_parts(space, "SpaceDocument"),
        **_parts(JobSpec.model_json_schema(ref_template=REF, schema_generator=DocumentSchema), "JobSpec"),
    }
    for name in LOCAL_ONLY:
        del schemas[name]
    _drop_local_only(schemas)
    fields = schemas["JobSpec"]["properties"]
    fields["space"] = _or_text({"$ref": REF.format(model="SpaceDocument")}, enum=list(names()))
    for name in ("searcher", "evaluator"):
        fields[name] = _or_text(fields[name], enum=list(fields[name]["discriminator"]["mapping"]))
    schemas["Objective"] = _or_text(schemas["Objective"], examples=["max accuracy", "min latency_ms"])
    schemas["Constraint"] = _or_text(schemas["Constraint"], examples=["latency_ms <= 10"])
    return schemas


def _parts(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema and the definitions inside it, by name."""
    definitions: dict[str, Any] = schema.pop("$defs", {})
    return {**definitions, name: schema}


def _drop_local_only(node: Any) -> None:
    """Take the members that clients may not use out of every union."""
    gone = {REF.format(model=name) for name in LOCAL_ONLY}
    if isinstance(node, dict):
        if "oneOf" in node:
            node["oneOf"] = [m for m in node["oneOf"] if m.get("$ref") not in gone]
        if "mapping" in node:
            node["mapping"] = {kind: ref for kind, ref in node["mapping"].items() if ref not in gone}
        for inner in node.values():
            _drop_local_only(inner)
    elif isinstance(node, list):
        for inner in node:
            _drop_local_only(inner)


def _or_text(schema: dict[str, Any], **text: Any) -> dict[str, Any]:
    """The schema of what may also be written as text."""
    return {"anyOf": [{"type": "string", **text}, schema]}
