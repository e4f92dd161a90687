from __future__ import annotations

import math
from typing import Any

import pytest

from search_spaces import load_space, presets

STAGED: dict[str, Any] = {
    "family": "staged",
    "input": [1, 8, 8],
    "classes": 10,
    "architecture": {
        "stem": {"width": 8},
        "stages": [{"block": "conv", "depth": [0, 1], "width": [8, 16, 24]}],
    },
}


def test_every_preset_is_listed(client):
    spaces = client.get("/v1/spaces").json()["spaces"]
    assert [s["name"] for s in spaces] == list(presets())
    cells = next(s for s in spaces if s["name"] == "nas-bench-201")
    assert cells == {"name": "nas-bench-201", "family": "cell", "size": 15625}


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_shown_with_its_choices(client, name):
    shown, space = client.get(f"/v1/spaces/{name}").json(), load_space(name)
    assert (shown["name"], shown["size"]) == (name, space.size)
    assert [c["name"] for c in shown["choices"]] == [c.name for c in space.choices]
    assert math.prod(len(c["values"]) for c in shown["choices"]) == shown["size"]
    again = client.post("/v1/spaces:validate", json=shown["document"])
    assert again.json() == shown


def test_a_reference_network_is_shown_as_a_space_of_one_point(client):
    shown = client.get("/v1/spaces/resnet-50").json()
    assert (shown["name"], shown["size"], shown["choices"]) == ("resnet-50", 1, [])
    assert client.post("/v1/spaces:validate", json=shown["document"]).json() == shown
    assert client.get("/v1/spaces/mobilenetv2").json()["size"] > 1  # where both are called so, the preset


@pytest.mark.parametrize("name", ["resnet-18", "mobilenetv3-small"])
def test_a_reference_network_is_the_space_of_a_job(client, document, name):
    answer = client.post("/v1/jobs?validate_only=true", json={**document, "space": name, "constraints": []})
    assert answer.status_code == 200, answer.text


def test_a_space_that_does_not_exist(client):
    answer = client.get("/v1/spaces/resnet-05")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert 'did you mean "resnet-50"?' in answer.json()["detail"]
    answer = client.get("/v1/spaces/nas-bench-210")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert 'did you mean "nas-bench-201"?' in answer.json()["detail"]


def test_a_space_document_is_counted(client):
    space = client.post("/v1/spaces:validate", json=STAGED).json()
    assert (space["family"], space["size"]) == ("staged", 6)
    assert space["choices"] == [
        {"name": "stages.0.depth", "values": [0, 1], "when": []},
        {
            "name": "stages.0.width",
            "values": [8, 16, 24],
            "when": [{"name": "stages.0.depth", "values": [1]}],
        },
    ]


def test_a_space_of_more_than_1e30_points_has_an_exact_size(client):
    stage = {"block": "conv", "depth": 1, "width": list(range(8, 88, 8))}
    document = {**STAGED, "architecture": {"stem": {"width": 8}, "stages": [stage] * 31}}
    assert client.post("/v1/spaces:validate", json=document).json()["size"] == 10**31


def test_a_wrong_space_gets_every_fault(client):
    document = {**STAGED, "classes": 0, "colour": "red"}
    answer = client.post("/v1/spaces:validate", json=document)
    assert answer.status_code == 422
    assert {f["path"] for f in answer.json()["faults"]} == {"classes", "colour"}


@pytest.mark.parametrize("body", ['"nas-bench-201"', '"/etc/passwd"', "[]", "null", "3"])
def test_a_name_or_a_path_is_not_a_document(client, body):
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/spaces:validate", content=body, headers=headers)
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "")


def test_no_code_of_a_client_is_imported(client, document, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    space = {"family": "python", "object": "planted:Space"}
    answer = client.post("/v1/spaces:validate", json=space)
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "family")
    answer = client.post("/v1/jobs", json={**document, "space": space})
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "space.family")
    evaluator = {"kind": "callable", "function": "planted:evaluate"}
    answer = client.post("/v1/jobs", json={**document, "evaluator": evaluator})
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "evaluator.kind")
