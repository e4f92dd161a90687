from __future__ import annotations

import math
from typing import Any

import pytest

from nas.wire import readable
from search_spaces import load_space, presets

CELL = {f"edge_{a}_{b}": "skip_connect" for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))}
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


@pytest.mark.parametrize(
    "body", ['"nas-bench-210"', '"/etc/passwd"', '{"name": "nas-bench-210"}', "[]", "null", "3"]
)
@pytest.mark.parametrize("question", ["validate", "sample", "cost"])
def test_what_is_neither_a_name_nor_a_document_is_no_space(client, question, body):
    headers = {"Content-Type": "application/json"}
    content, path = body, ""
    if question == "cost":
        content, path = f'{{"space": {body}, "architectures": [{{}}]}}', "space"
    answer = client.post(f"/v1/spaces:{question}", content=content, headers=headers)
    (fault,) = answer.json()["faults"]
    assert (answer.status_code, fault["path"]) == (422, path)
    if "210" in body:
        assert 'did you mean "nas-bench-201"?' in fault["message"]


@pytest.mark.parametrize("name", ["digits-tiny", "resnet-18"])
def test_wherever_a_space_stands_it_may_be_named_or_written_down(client, document, name):
    shown = client.get(f"/v1/spaces/{name}").json()

    def answers(space):
        job = {**document, "space": space, "constraints": []}
        validated = client.post("/v1/jobs?validate_only=true", json=job).json()
        drawn = client.post("/v1/spaces:sample?count=3&seed=2", json=space).json()
        asked = {"space": space, "architectures": [a["architecture"] for a in drawn["architectures"]]}
        counted = client.post("/v1/spaces:validate", json=space).json()
        return (
            validated["spec"]["space"],
            drawn,
            counted,
            client.post("/v1/spaces:cost", json=asked).json()["costs"],
        )

    named = answers(name)
    assert named[2] == shown
    assert answers({"name": name}) == answers(shown["document"]) == named


def test_a_name_is_read_from_curl_as_it_is_typed(client):
    answer = client.post("/v1/spaces:validate", content="digits-tiny")
    assert answer.json()["name"] == "digits-tiny"


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


@pytest.mark.parametrize("name", ["nas-bench-201", "digits-tiny", "fbnetv3"])
def test_a_sample_is_of_the_space_and_repeats_with_its_seed(client, name):
    url = "/v1/spaces:sample?count=20&seed=7"
    drawn = client.post(url, json={"name": name}).json()["architectures"]
    space = load_space(name)
    assert drawn == [{"architecture": readable(a), "key": a.key} for a in space.sample(20, seed=7)]
    assert [space.architecture(a["architecture"]).key for a in drawn] == [a["key"] for a in drawn]
    assert (
        client.post(url, json=space.document.model_dump(mode="json", exclude_none=True)).json()["architectures"]
        == drawn
    )
    assert client.post("/v1/spaces:sample?count=20&seed=8", json={"name": name}).json()["architectures"] != drawn


def test_one_architecture_is_drawn_unless_more_are_asked_for(client):
    assert len(client.post("/v1/spaces:sample", json={"name": "digits-tiny"}).json()["architectures"]) == 1


@pytest.mark.parametrize("query", ["count=0", "count=1001", "count=x", "seed=-1", "seed=1e30", "n=3"])
def test_a_draw_that_cannot_be_made(client, query):
    answer = client.post(f"/v1/spaces:sample?{query}", json={"name": "digits-tiny"})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "body", [{}, {"name": 3}, {"name": None}, {"name": "resnet-05"}, {**STAGED, "classes": 0}]
)
def test_no_sample_of_what_is_no_space(client, body):
    answer = client.post("/v1/spaces:sample", json=body)
    assert (answer.status_code, bool(answer.json()["faults"])) == (422, True)


@pytest.mark.parametrize("name", ["nas-bench-201", "digits-tiny", "fbnetv3"])
def test_costs_are_those_of_the_formulas(client, name):
    space = load_space(name)
    drawn = space.sample(12, seed=1)
    body = {"space": name, "architectures": [readable(a) for a in drawn]}
    assert client.post("/v1/spaces:cost", json=body).json() == {"costs": [space.cost(a) for a in drawn]}
    body["space"] = space.document.model_dump(mode="json", exclude_none=True)
    assert client.post("/v1/spaces:cost", json=body).json() == {"costs": [space.cost(a) for a in drawn]}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"space": "digits-tiny"}, "architectures"),
        ({"architectures": [{}]}, "space"),
        ({"space": "digits-tiny", "architectures": [], "spaces": 1}, "spaces"),
        ({"space": "digits-tiny", "architectures": []}, "architectures"),
        ({"space": "digits-tiny", "architectures": {}}, "architectures"),
        ({"space": "digits-tiny", "architectures": [{}] * 1001}, "architectures"),
        ({"space": "digits-tiny", "architectures": ["x"]}, "architectures.0"),
        ({"space": "nas-bench-201", "architectures": [CELL, {**CELL, "edge_0_1": 3}]}, "architectures.1.edge_0_1"),
        (
            {"space": "nas-bench-201", "architectures": [{**CELL, "edge_0_1": ["none"]}]},
            "architectures.0.edge_0_1",
        ),
        ({"space": "nas-bench-201", "architectures": [{**CELL, "edge_9_9": "none"}]}, "architectures.0"),
        ({"space": "nas-bench-201", "architectures": [{"edge_9_9": "none"}]}, "architectures.0.edge_9_9"),
        ({"space": {**STAGED, "classes": 0}, "architectures": [{}]}, "space.classes"),
        ({"space": 3, "architectures": [{}]}, "space"),
    ],
)
def test_a_question_about_costs_that_is_wrong(client, body, path):
    answer = client.post("/v1/spaces:cost", json=body)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == path


def test_costs_of_giants_are_numbers(client):
    stage = {"block": "conv", "depth": 8, "width": 8192, "kernel": 7}
    giant = {**STAGED, "input": [3, 4096, 4096], "architecture": {"stem": {"width": 8192}, "stages": [stage] * 8}}
    answer = client.post("/v1/spaces:cost", json={"space": giant, "architectures": [{}]})
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert all(value > 0 for value in answer.json()["costs"][0].values())
