"""No file, address or module that a client names is ever opened, and no code of its is run."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api import create_app
from nas.storage.memory import MemoryStore

MARK = "planted"
EVENTS = ("open", "import", "socket.getaddrinfo", "socket.connect", "urllib.Request", "pickle.find_class", "exec")


class Watch:
    """What this process opens, imports and connects to while it is on. Audit hooks stay, so there is one."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in EVENTS:
            self.seen.append(f"{event} {args}")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def touched(watch: Watch) -> Iterator[list[str]]:
    """Events of the test that name something planted, or that look for a host; filled when it is read."""
    watch.seen.clear()
    watch.on = True
    try:
        yield watch.seen
    finally:
        watch.on = False


def caught(seen: list[str]) -> list[str]:
    return [event for event in seen if MARK in event or event.startswith(("socket", "urllib", "pickle"))]


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, (f"raise SystemExit({MARK!r})",))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A data registry with links that lead out of it, and files beside it that could be read."""
    outside, registry = tmp_path / "outside", tmp_path / "registry"
    outside.mkdir()
    registry.mkdir()
    rng = np.random.default_rng(0)
    np.savez(outside / f"{MARK}.npz", x=rng.random((40, 8, 8)), y=np.arange(40) % 10)
    (outside / f"{MARK}.pickle").write_bytes(pickle.dumps(Bomb()))
    (outside / f"{MARK}.csv").write_text("edge_0_1,acc\nnone,1\n")
    (outside / f"{MARK}.yaml").write_text("family: cell\n")
    (outside / f"{MARK}.py").write_text("raise SystemExit('imported')\n")
    (registry / f"link_{MARK}.npz").symlink_to(outside / f"{MARK}.npz")
    (registry / f"link_{MARK}.csv").symlink_to(outside / f"{MARK}.csv")
    idx = registry / f"folder_{MARK}"
    idx.mkdir()
    (idx / "train-images-idx3-ubyte").symlink_to(outside / f"{MARK}.npz")
    (registry / f"dir_{MARK}").symlink_to(outside, target_is_directory=True)
    monkeypatch.setenv("NAS_DATA_DIR", str(registry))
    monkeypatch.syspath_prepend(str(outside))
    monkeypatch.chdir(outside)
    return {"outside": str(outside)}


FILES = (
    "{outside}/planted{suffix}",
    "../outside/planted{suffix}",
    "./planted{suffix}",
    "planted{suffix}",
    "~/planted{suffix}",
    "file://{outside}/planted{suffix}",
    "s3://planted/planted{suffix}",
    "http://planted.example/planted{suffix}",
    "\\\\planted\\share\\planted{suffix}",
    "link_planted{suffix}",
    "dir_planted/planted{suffix}",
    "../registry/link_planted{suffix}",
    "planted\0{suffix}",
)


@pytest.fixture
def client(new_client: Any) -> Any:
    return new_client(create_app(MemoryStore(), functions=("lab.bench:latency",)))


def refused(client: Any, document: dict[str, Any], path: str) -> None:
    for url in ("/v1/jobs", "/v1/jobs?validate_only=true"):
        answer = client.post(url, json=document)
        assert answer.status_code == 422, answer.text
        assert answer.json()["faults"][0]["path"] == path
    assert client.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("suffix", [".npz", ".pickle", ""])
def test_no_data_set_of_a_client_is_opened(client, document, places, touched, file, suffix):
    name = file.format(suffix=suffix, **places)
    evaluator = {"kind": "training", "dataset": name}
    changed = {**document, "space": "digits-tiny", "objectives": ["max accuracy"], "constraints": []}
    refused(client, {**changed, "evaluator": evaluator}, "evaluator.dataset")
    assert caught(touched) == []


@pytest.mark.parametrize("name", ["link_planted", "folder_planted", "dir_planted", "planted"])
def test_no_link_out_of_the_registry_is_followed(client, document, places, touched, name):
    changed = {**document, "space": "digits-tiny", "objectives": ["max accuracy"], "constraints": []}
    refused(client, {**changed, "evaluator": {"kind": "training", "dataset": name}}, "evaluator.dataset")
    assert caught(touched) == []
    found = client.get("/v1/capabilities").json()
    assert (found["datasets"], found["tables"]) == (["digits"], ["nas-bench-201"])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pickle", ""])
def test_no_table_of_a_client_is_opened(client, document, places, touched, file, suffix):
    name = file.format(suffix=suffix, **places)
    evaluator = {"kind": "tabular", "table": name, "metrics": {"accuracy": "acc"}}
    refused(client, {**document, "evaluator": evaluator}, "evaluator.table")
    assert caught(touched) == []


@pytest.mark.parametrize("file", FILES)
def test_no_space_of_a_client_is_opened(client, document, places, touched, file):
    name = file.format(suffix=".yaml", **places)
    refused(client, {**document, "space": name}, "space")
    sampled = client.post("/v1/spaces:sample", json={"name": name})
    asked = client.post("/v1/spaces:cost", json={"space": name, "architectures": [{}]})
    assert (sampled.status_code, asked.status_code) == (422, 422)
    assert caught(touched) == []


@pytest.mark.parametrize("verb", [":validate", ":sample", ":cost"])
def test_no_space_written_in_python_is_imported(client, document, places, touched, verb):
    space = {"family": "python", "object": "planted:Space"}
    body = {"space": space, "architectures": [{}]} if verb == ":cost" else space
    answer = client.post(f"/v1/spaces{verb}", json=body)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == ("space.family" if verb == ":cost" else "family")
    refused(client, {**document, "space": space}, "space.family")
    assert caught(touched) == []
    assert MARK not in sys.modules


@pytest.mark.parametrize(
    "function",
    [
        "planted:evaluate",
        "os:system",
        "lab.bench:latency2",
        "lab.bench:latency.__globals__",
        "lab.bench: latency",
        "LAB.bench:latency",
        "lab.bench",
        "",
    ],
)
def test_no_function_is_imported_that_the_operator_does_not_allow(client, document, places, touched, function):
    evaluator = {"kind": "callable", "function": function}
    refused(client, {**document, "evaluator": evaluator}, "evaluator.function")
    assert caught(touched) == []
    assert MARK not in sys.modules


def test_a_function_that_the_operator_allows_is_left_to_the_runners(new_client, document, places, touched):
    client = new_client(create_app(MemoryStore(), functions=("planted:evaluate",)))
    evaluator = {"kind": "callable", "function": "planted:evaluate"}
    answer = client.post("/v1/jobs", json={**document, "evaluator": evaluator})
    assert (answer.status_code, answer.json()["spec"]["evaluator"]) == (202, evaluator)
    assert caught(touched) == []
    found = client.get("/v1/capabilities").json()
    assert (found["functions"], "callable" in found["evaluators"]) == (["planted:evaluate"], True)


def test_nor_is_it_imported_to_compare_jobs(new_client, store, document, new_search, places, touched):
    wanted = {**document, "evaluator": {"kind": "callable", "function": "planted:evaluate"}}
    source = new_search(wanted)
    source.run(3)
    client = new_client(create_app(store, functions=("planted:evaluate",)))
    answer = client.post("/v1/jobs", json={**wanted, "warm_start": [source.id]})
    assert answer.status_code == 202, answer.text
    assert answer.json()["counts"]["SUCCEEDED"] == 3  # the same function, by its name: taken over
    assert caught(touched) == []
    assert MARK not in sys.modules


def test_a_clone_may_name_no_more_than_its_document(client, store, new_client, search, places, touched):
    client = new_client(create_app(store))
    for patch, path in (
        ({"evaluator": {"kind": "callable", "function": "planted:f"}}, "evaluator.kind"),
        ({"evaluator": {"kind": "training", "dataset": "./planted.npz"}}, "evaluator.dataset"),
        ({"space": "./planted.yaml"}, "space"),
    ):
        answer = client.post(f"/v1/jobs/{search.id}:clone", json=patch)
        assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, path)
    assert len(store.jobs()) == 1
    assert caught(touched) == []


def test_a_data_set_in_the_registry_is_still_opened(client, document, places, touched, tmp_path):
    file = tmp_path / "registry" / f"own_{MARK}.npz"
    file.write_bytes((tmp_path / "outside" / f"{MARK}.npz").read_bytes())
    touched.clear()
    changed = {**document, "space": "digits-tiny", "objectives": ["max accuracy"], "constraints": []}
    evaluator = {"kind": "training", "dataset": f"own_{MARK}"}
    answer = client.post("/v1/jobs", json={**changed, "evaluator": evaluator})
    assert answer.status_code == 202, answer.text
    assert caught(touched), "the watch sees what is opened"
