from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import create_app
from api.models import Problem
from nas.storage.memory import MemoryStore

JOB: dict[str, Any] = {
    "name": "cells",
    "space": {
        "family": "staged",
        "input": [1, 8, 8],
        "classes": 10,
        "architecture": {
            "stem": {"width": [8, 16]},
            "stages": [{"block": ["conv", "inverted_residual"], "depth": {"min": 0, "max": 2}, "width": [8, 16]}],
        },
        "quantization": {"per": "layer", "weight_bits": [4, 32]},
        "recipe": {"learning_rate": {"min": 0.001, "max": 0.1, "scale": "log", "levels": 4}},
    },
    "objectives": ["max macs", {"metric": "params", "goal": "minimize"}],
    "constraints": ["params <= 1e6"],
    "searcher": {"kind": "regularized_evolution"},
    "evaluator": {"kind": "cost"},
    "budget": {"max_trial_count": 10},
    "initial": [{"stem.width": 8}],
    "seed": 0,
}

KEYS = ("space", "family", "kind", "min", "max", "step", "levels", "scale", "log", "staged", "cell", "python")
TEXTS = (
    "callable",
    "tabular",
    "digits-tiny",
    "max params",
    "params <= 1",
    "nan",
    "inf",
    "*",
    "",
    "0",
    "1e999",
)
WORDS = st.sampled_from([*KEYS, *TEXTS, "../../x", "\0"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=8), st.integers(-3, 40)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every node of a document."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def nearly(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with up to three places replaced, removed or added to."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        left = list(places(changed))
        if not left:
            break
        *way, last = draw(st.sampled_from(left))
        parent = changed
        for key in way:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del parent[last]
        elif action == "replace" or isinstance(parent, list):
            parent[last] = draw(VALUES)
        else:
            parent[draw(WORDS)] = draw(VALUES)
    return changed


@pytest.fixture(scope="module")
def post(new_client) -> Any:
    client = new_client(create_app(MemoryStore()))

    def send(url: str, document: Any, method: str = "POST") -> Any:
        body = json.dumps(document).encode()  # NaN and halves of surrogate pairs included
        return client.request(method, url, content=body, headers={"Content-Type": "application/json"})

    return send


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sound(answer: Any, *accepted: int) -> None:
    assert answer.status_code in (*accepted, 400, 422), answer.text
    if answer.status_code >= 400:
        Problem.model_validate(answer.json())
        if answer.status_code == 422:
            assert answer.json()["faults"]


@FUZZ
@given(document=st.one_of(VALUES, nearly(JOB)))
def test_no_job_document_breaks_the_service(post, document):
    answer = post("/v1/jobs", document)
    sound(answer, 202)
    if answer.status_code == 202:
        again = post("/v1/jobs?validate_only=true", answer.json()["spec"])
        assert again.json()["spec"] == answer.json()["spec"]


@FUZZ
@given(document=st.one_of(VALUES, nearly(JOB["space"])))
def test_no_space_document_breaks_the_service(post, document):
    answer = post("/v1/spaces:validate", document)
    sound(answer, 200)
    if answer.status_code == 200:
        assert post("/v1/spaces:validate", answer.json()["document"]).json() == answer.json()


@FUZZ
@given(text=st.text(max_size=200))
def test_no_text_breaks_the_service(post, text):
    sound(post("/v1/jobs", text), 202)


COSTS: dict[str, Any] = {
    "space": JOB["space"],
    "architectures": [{"stem.width": 8, "stages.0.depth": 0, "learning_rate": 0.1}],
}
PATCH: dict[str, Any] = {
    "name": "longer",
    "budget": {"max_trial_count": 3, "max_duration": None, "parallel_trial_count": 2},
    "evaluator": {"kind": "cost"},
    "searcher": "random",
}


@FUZZ
@given(document=st.one_of(VALUES, nearly(COSTS)))
def test_no_question_about_costs_breaks_the_service(post, document):
    sound(post("/v1/spaces:cost", document), 200)


@FUZZ
@given(document=st.one_of(VALUES, nearly(JOB["space"]), st.dictionaries(st.just("name"), VALUES)))
def test_no_space_to_sample_breaks_the_service(post, document):
    sound(post("/v1/spaces:sample?count=3", document), 200)


@FUZZ
@given(patch=st.one_of(VALUES, nearly(PATCH), nearly({k: PATCH[k] for k in ("name", "budget")})))
def test_no_patch_breaks_the_service(post, patch):
    job = post("/v1/jobs", JOB).headers["location"]
    answer = post(f"{job}:clone", patch)
    sound(answer, 202)
    answer = post(job, patch, method="PATCH")
    sound(answer, 200, 409)
    if answer.status_code == 200:
        assert post("/v1/jobs?validate_only=true", answer.json()["spec"]).status_code == 200
