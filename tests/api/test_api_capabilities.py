from __future__ import annotations

import pytest

from api import models
from api.body import MAX_BYTES
from api.openapi import document_schemas
from search_spaces import presets


@pytest.fixture
def found(client):
    answer = client.get("/v1/capabilities").json()
    models.Capabilities.model_validate(answer)
    return answer


def test_what_documents_may_name_is_what_the_schema_says(found):
    schemas = document_schemas()
    for key, plural in (("searcher", "searchers"), ("evaluator", "evaluators")):
        field = schemas["JobSpec"]["properties"][key]
        text, *_ = field["anyOf"]
        assert sorted(found[plural]) == sorted(text["enum"])
    assert sorted(found["families"]) == sorted(schemas["SpaceDocument"]["discriminator"]["mapping"])
    assert found["presets"] == list(presets())


@pytest.mark.parametrize("kind", ["searchers", "evaluators"])
def test_every_kind_that_is_named_is_known(client, document, found, kind):
    for name in found[kind]:
        answer = client.post("/v1/jobs?validate_only=true", json={**document, kind.removesuffix("s"): name})
        faults = answer.json().get("faults", [])
        assert not [f for f in faults if "is not known" in f["message"] or "over HTTP" in f["message"]]


def test_the_data_registry_shows(client, tmp_path, monkeypatch):
    (tmp_path / "shop.csv").write_text("a,b\n")
    (tmp_path / "cifar.npz").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    found = client.get("/v1/capabilities").json()
    assert (found["datasets"], found["tables"]) == (["digits", "cifar"], ["nas-bench-201", "shop.csv"])


def test_the_limits_are_those_that_hold(client, found, document):
    limits = found["limits"]
    assert limits["max_body_bytes"] == MAX_BYTES
    assert client.get(f"/v1/jobs?page_size={limits['max_page_size']}").status_code == 200
    assert client.get(f"/v1/jobs?page_size={limits['max_page_size'] + 1}").status_code == 422
    for more, status in ((0, 200), (1, 422)):
        budget = {"max_trial_count": limits["max_trial_count"] + more}
        answer = client.post("/v1/jobs?validate_only=true", json={**document, "budget": budget})
        assert answer.status_code == status
        count = limits["max_architectures"] + more
        answer = client.post(f"/v1/spaces:sample?count={count}", json={"name": "nas-bench-201"})
        assert answer.status_code == status


def test_the_operator_s_devices_show_and_no_other_may_be_named(client, document, tmp_path, monkeypatch):
    (tmp_path / "devices.yaml").write_text("phone: {command: [python, phone.py]}\n")
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path / "devices.yaml"))
    assert client.get("/v1/capabilities").json()["devices"] == ["phone"]
    for device, status in (("phone", 200), ("python phone.py", 422)):
        changed = {"objectives": ["min latency_ms"], "evaluator": {"kind": "latency", "device": device}}
        answer = client.post("/v1/jobs?validate_only=true", json={**document, "space": "digits-tiny", **changed})
        assert answer.status_code == status, answer.text
    assert [f["path"] for f in answer.json()["faults"]] == ["evaluator.device"]
