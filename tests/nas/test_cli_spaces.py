"""`nas space`: what it tells about a space, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner, Result

from nas.cli import app
from search_spaces import load_space, presets

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["space", *arguments])


def test_what_comes_with_the_package_is_listed_with_a_line_each(run: Run) -> None:
    listed = json.loads(run("list", "--json").stdout)
    assert listed["presets"] == list(presets())
    told = run("list").stdout
    assert all(name in told for name in listed["presets"] + listed["references"])
    assert "MobileNetV2 (Sandler" in told


def test_a_space_is_described_by_section_with_its_exact_size(run: Run) -> None:
    told = run("describe", "digits-tiny").stdout
    assert "1,358,954,496 points (10^9.1)" in told
    places = [told.index(f"\n{section} ") for section in ("architecture", "quantization", "recipe")]
    assert places == sorted(places)
    assert "stages.0.block in {inverted_residual}" in " ".join(told.split())


def test_json_of_a_description_holds_sizes_conditions_and_costs(run: Run) -> None:
    told, space = json.loads(run("describe", "digits-tiny", "--json").stdout), load_space("digits-tiny")
    assert told["size"] == space.size
    assert [c["name"] for c in told["choices"]] == [c.name for c in space.choices]
    for metric in ("params", "macs", "model_size_bytes", "peak_activation_bytes"):
        spread = told["costs"][metric]
        assert 0 < spread["min"] < spread["median"] < spread["max"]


def test_a_python_space_is_described_too_and_not_drawn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_space.py").write_text(
        "from search_spaces import Choice, Space\n"
        "class Own(Space):\n"
        "    name, choices = 'own', (Choice('depth', (1, 2, 3)),)\n"
        "    def build(self, arch): raise NotImplementedError\n"
    )
    Path("own.yaml").write_text("{family: python, object: 'own_space:Own'}")
    monkeypatch.syspath_prepend(".")
    assert json.loads(run("describe", "own.yaml", "--json").stdout)["size"] == 3
    assert "1, 2, 3" in run("describe", "own.yaml").stdout
    refused = run("draw", "own.yaml")
    assert (refused.exit_code, "own is a Python space" in refused.stderr) == (2, True)


def test_every_fault_of_a_document_is_told(run: Run) -> None:
    document = {"family": "staged", "input": [1, 8], "classes": 1, "architecture": {"stages": []}, "colour": 3}
    Path("wrong.yaml").write_text(yaml.safe_dump(document))
    for command in ("validate", "describe", "sample", "draw"):
        refused = run(command, "wrong.yaml")
        assert refused.exit_code == 2
        for path in ("input", "classes", "architecture.stem", "architecture.stages", "colour"):
            assert f"error: {path}" in refused.stderr
        assert "Traceback" not in refused.output


@pytest.mark.parametrize("command", ["validate", "describe", "sample"])
def test_faults_are_json_where_json_is_asked_for(run: Run, command: str) -> None:
    Path("wrong.yaml").write_text("family: staged\ninput: [1, 8, 8]\nclasses: 1\n")
    refused = run(command, "wrong.yaml", "--json")
    assert (refused.exit_code, refused.stderr) == (2, "")
    faults = json.loads(refused.stdout)["faults"]
    assert [f["path"] for f in faults] == ["classes", "architecture"]
    assert faults[1]["message"] == "is required"


@pytest.mark.parametrize(("name", "meant"), [("resnet-81", "resnet-18"), ("fashion-sell", "fashion-cell")])
def test_a_name_that_is_not_known_gets_the_nearest(run: Run, name: str, meant: str) -> None:
    for command in ("validate", "describe", "sample", "draw"):
        refused = run(command, name)
        assert refused.exit_code == 2
        assert refused.stderr.count("error:") == 1
        assert f'did you mean "{meant}"?' in refused.stderr
    (fault,) = json.loads(run("validate", name, "--json").stdout)["faults"]
    assert meant in fault["message"]


@pytest.mark.parametrize("space", ["[1, 2]", "3", "true", "null"])
def test_a_space_that_is_neither_a_name_nor_a_document_is_refused(run: Run, space: str) -> None:
    Path("odd.yaml").write_text(f"space: {space}\n")
    for command in ("validate", "describe", "sample", "draw"):
        refused = run(command, "odd.yaml")
        assert (refused.exit_code, refused.stderr.count("error:")) == (2, 1)
        assert "error: space: " in refused.stderr
        assert "allowed: a name or a document" in refused.stderr
    Path("named.yaml").write_text("space: digits-tiny\n")
    assert run("validate", "named.yaml").exit_code == 0


@pytest.mark.parametrize("command", [("schema",), ("draw", "digits-tiny")])
def test_a_place_that_cannot_be_written_is_named(run: Run, command: tuple[str, ...]) -> None:
    for place in ("nowhere/x.svg", "."):
        refused = run(*command, "-o", place)
        assert refused.exit_code == 2
        assert refused.stderr.count("error:") == 1
        assert f"error: {place} cannot be written" in refused.stderr


def test_samples_have_the_costs_of_each_alone(run: Run) -> None:
    found, space = json.loads(run("sample", "digits-tiny", "-n", "7", "--json").stdout), load_space("digits-tiny")
    assert len(found["architectures"]) == 7
    for one in found["architectures"]:
        arch = space.architecture(one["values"])
        assert (one["key"], one["costs"]) == (arch.key, space.cost(arch))
    told = run("sample", "digits-tiny", "-n", "7").stdout
    assert f"{found['architectures'][0]['costs']['params']:.6g}" in told


def test_a_drawing_has_the_named_values_and_draws_the_rest(run: Run) -> None:
    named = ("--values", "stages.*.block=conv", "--values", "stages.*.kernel=5", "--values", "stages.1.depth=3")
    picture = run("draw", "digits-tiny", *named).stdout
    ElementTree.fromstring(picture)
    assert "5x5 /2" in picture
    assert "dw" not in picture
    pictures = {run("draw", "digits-tiny", *named, "--seed", str(seed)).stdout for seed in range(4)}
    assert picture in pictures
    assert len(pictures) > 1


def test_a_sampled_architecture_is_drawn_from_its_json(run: Run) -> None:
    sampled = json.loads(run("sample", "digits-tiny", "-n", "1", "--seed", "5", "--json").stdout)
    (one,) = sampled["architectures"]
    Path("one.json").write_text(json.dumps(one))
    Path("values.yaml").write_text(yaml.safe_dump(one["values"]))
    assert one["key"] in run("draw", "digits-tiny", "--values", "one.json", "-o", "one.svg").stderr
    assert (
        run("draw", "digits-tiny", "--values", "values.yaml", "--seed", "9").stdout == Path("one.svg").read_text()
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("stages.0.kernel=7", "stages.0.kernel: 7 is not a value of stages.0.kernel; allowed: 3, 5"),
        (
            "stages.0.kernels=5",
            'stages.0.kernels: matches no choice of digits-tiny; did you mean "stages.0.kernel"?',
        ),
        ("stages.0.kernel={", "stages.0.kernel: '{' is not a value"),
        ("kernel", "'kernel' is neither a file nor NAME=VALUE"),
    ],
)
def test_values_that_a_space_does_not_have_are_refused_by_name(run: Run, values: str, words: str) -> None:
    refused = run("draw", "digits-tiny", "--values", values)
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert refused.stdout == ""


def test_the_schema_is_printed_or_written(run: Run) -> None:
    printed = run("schema").stdout
    assert json.loads(printed)["$schema"].endswith("2020-12/schema")
    run("schema", "-o", "space.schema.json")
    assert Path("space.schema.json").read_text() == printed
