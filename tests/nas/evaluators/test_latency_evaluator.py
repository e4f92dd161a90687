"""Latency as a metric of trials: measured here, on devices that may not answer, and beside training."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.deploy.onnx_file import random_examples
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.latency import LatencyConfig, LatencySettings
from nas.evaluators.repeats import measure
from nas.hardware import usable_cores
from nas.job import JobSpec
from nas.latency.measured import Setting, measured
from nas.latency.protocol import Protocol
from nas.latency.runtimes import prepared
from nas.remarks import remarks
from nas.storage import open_store
from nas.trial import Proposal
from search_spaces import Choice, Space, SpecError, load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.load import parse_text

QUICK = {"kind": "latency", "seconds": 0.2}
DEVICE = """
import sys
data = open(sys.argv[1], "rb").read()
if len(data) % 3 == 0:
    raise SystemExit(5)
print('{"latency_ms": %d.5, "runtime": "lab 1.0"}' % (len(data) // 1000))
"""


@pytest.fixture(autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference takes is found once for all tests, and not kept for later."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "kept"))


@pytest.fixture
def space() -> DeclaredSpace:
    found = load_space("digits-tiny")
    assert isinstance(found, DeclaredSpace)
    return found


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device that tells the length of the file, and fails for a third of them."""
    (tmp_path / "lab.py").write_text(DEVICE)
    (tmp_path / "devices.json").write_text(
        json.dumps(
            {
                "lab": {"command": [sys.executable, str(tmp_path / "lab.py"), "{file}"], "timeout": 60},
                "gone": {"url": "http://127.0.0.1:1/latency", "timeout": 60},
                "board": {"url": "http://127.0.0.1:1/latency", "headers": {"Authorization": "BOARD_TOKEN"}},
            }
        )
    )
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path / "devices.json"))
    return "lab"


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_measurement_says_what_belongs_to_the_number(runtime: Any, space: DeclaredSpace, tmp_path: Path) -> None:
    (arch,) = space.sample(1, 0)
    found = measured(space, arch, Setting(runtime, batch=2), Protocol(seconds=0.2), tmp_path).dump()
    assert found["latency_ms"] > 0
    assert found["latency_interval_ms"] >= 0
    assert (found["runtime"], found["threads"], found["batch"], found["clock"]) == (runtime, 1, 2, "thread")
    assert found["versions"][runtime]
    assert found["protocol"]["precision"] == 0.03
    assert json.loads(json.dumps(found)) is not None
    again = measured(space, arch, Setting(runtime, batch=2), Protocol(seconds=0.2), tmp_path).dump()
    assert again["reference_ms"] == found["reference_ms"]


def test_numbers_are_in_units_of_the_reference(space: DeclaredSpace, tmp_path: Path) -> None:
    """With what it counts for in the document, nothing is kept, and hosts need not agree about anything else."""
    (arch,) = space.sample(1, 0)
    protocol, numbers = Protocol(seconds=0.2), tmp_path / "numbers"
    found = measured(space, arch, Setting(reference_ms=1e6), protocol, tmp_path, numbers)
    assert found.standard == 1e6
    assert found.latency.milliseconds > 1e4
    assert found.dump()["reference_ms"] == 1e6
    assert not numbers.exists()


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_whoever_draws_beside_a_measurement_goes_on_as_before(runtime: Any, space: DeclaredSpace) -> None:
    import torch

    (arch,) = space.sample(1, 0)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    prepared(runtime, space, arch, 2)
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(random_examples(space, 2), random_examples(space, 2))


def test_a_network_too_slow_for_its_time_is_infeasible(space: DeclaredSpace) -> None:
    gauge = LatencySettings(seconds=1e-6).gauge(space)
    with pytest.raises(Infeasible, match=r"^latency: one run takes [\d.e-]+ s; .* fit into 1e-06 s; more seconds"):
        gauge(space.sample(1, 0)[0])


def test_more_threads_than_cores_are_no_fault_of_the_network() -> None:
    cores = usable_cores()
    with pytest.raises(
        nas.SearchFailed, match=f"threads: {cores + 1} is more than .* on this host; allowed: 1 to {cores}"
    ) as told:
        nas.search(
            space="digits-tiny",
            objectives=["min latency_ms"],
            evaluator={**QUICK, "threads": cores + 1},
            searcher="random",
            executor="inline",
            max_trial_count=1,
        )
    assert [t.state.value for t in told.value.result.all_trials] == ["FAILED"]


def test_headers_are_looked_for_before_the_search_starts(lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {
        "space": "digits-tiny",
        "objectives": ["min latency_ms"],
        "evaluator": {"kind": "latency", "device": "board"},
        "executor": "inline",
        "max_trial_count": 1,
    }
    monkeypatch.delenv("BOARD_TOKEN", raising=False)
    with pytest.raises(SpecError, match=r"device: board\.headers\.Authorization: names .* not set here") as told:
        nas.search(**asked)
    assert "BOARD_TOKEN" not in str(told.value)  # the token itself may stand there by mistake
    monkeypatch.setenv("BOARD_TOKEN", "t")
    (trial,) = nas.search(**asked).all_trials
    assert "device board cannot be reached" in str(trial.reason)
    space = load_space("digits-tiny")
    gauge = LatencySettings(device="board").gauge(space)
    monkeypatch.delenv("BOARD_TOKEN")
    with pytest.raises(SpecError, match=r"^device board\.headers\.Authorization: names .* not set here"):
        gauge(space.sample(1, 0)[0])


def test_the_larger_of_two_networks_takes_longer(space: DeclaredSpace, tmp_path: Path) -> None:
    drawn = space.sample(200, 0)
    macs = space.costs(space.genes(drawn), ["macs"])["macs"]
    small, large = drawn[int(macs.argmin())], drawn[int(macs.argmax())]
    assert macs.max() > 100 * macs.min()
    of = [
        measured(space, a, Setting("torch"), Protocol(seconds=0.5), tmp_path).latency.milliseconds
        for a in (small, large)
    ]
    assert of[1] > of[0]


def test_a_network_is_measured_with_several_threads_on_the_wall_clock(
    space: DeclaredSpace, tmp_path: Path
) -> None:
    if usable_cores() < 2:
        pytest.skip("there is one core")
    found = measured(space, space.sample(1, 0)[0], Setting(threads=2), Protocol(seconds=0.2), tmp_path)
    assert (found.clock, found.setting.threads) == ("wall", 2)


def test_a_search_has_latency_and_energy_as_objectives(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    result = nas.search(
        space="digits-tiny",
        objectives=["min latency_ms", "min energy_mj"],
        constraints=["energy_mj <= 1"],
        evaluator=QUICK,
        searcher="random",
        executor="inline",
        max_trial_count=3,
        store=url,
    )
    space = result.study.space
    for trial in result.all_trials:
        assert trial.metrics["latency_ms"] > 0
        genes = space.genes([trial.architecture])
        assert trial.metrics["energy_mj"] == space.costs(genes, ["energy_mj"])["energy_mj"][0]
        trace = open_store(url).trace(result.job.id, trial.number)
        assert trace is not None
        said = json.loads(trace.log.removeprefix("latency: "))
        assert said["latency_ms"] == trial.metrics["latency_ms"]
        assert {"protocol", "versions", "device", "threads", "reference_ms"} <= set(said)


def test_energy_beyond_reach_is_told_before_anything_runs() -> None:
    with pytest.raises(SpecError, match=r"no architecture of the space meets energy_mj <= 1e-09; the closest has"):
        nas.search(
            space="digits-tiny", objectives=["min params"], constraints=["energy_mj <= 1e-9"], evaluator="cost"
        )


def test_where_the_device_does_not_answer_trials_are_infeasible_and_the_search_goes_on(lab: str) -> None:
    result = nas.search(
        space="digits-tiny",
        objectives=["min latency_ms"],
        evaluator={"kind": "latency", "device": lab},
        searcher="random",
        executor="inline",
        max_trial_count=8,
    )
    states = {t.state.value for t in result.all_trials}
    assert states == {"SUCCEEDED", "INFEASIBLE"}
    assert len(result.all_trials) == 8
    for trial in result.all_trials:
        if trial.state.value == "INFEASIBLE":
            assert trial.reason == "device lab exit code 5"
        else:
            assert trial.metrics["latency_ms"] % 1 == 0.5
            assert "latency_interval_ms" not in trial.metrics


def test_beside_training_latency_is_measured_first(lab: str, space: DeclaredSpace) -> None:
    document = {
        "space": "digits-tiny",
        "objectives": ["max accuracy", "min latency_ms"],
        "evaluator": {"kind": "training", "epochs": 1, "train_limit": 100, "latency": {"seconds": 0.2}},
    }
    spec = JobSpec.parse(document)
    assert JobSpec.parse(spec.dump()) == spec
    metrics = spec.evaluator.bind(space, 0).evaluate(Proposal(space.sample(1, 0)[0]), lambda step, found: None)
    assert set(metrics) == spec.evaluator.metrics()
    gone = JobSpec.parse({**document, "evaluator": {"kind": "training", "latency": {"device": "gone"}}}).evaluator
    reported: list[int] = []
    with pytest.raises(Infeasible, match="device gone cannot be reached"):
        gone.bind(space, 0).evaluate(Proposal(space.sample(1, 0)[0]), lambda step, found: reported.append(step))
    assert reported == []


def test_repeats_measure_anew(space: DeclaredSpace) -> None:
    evaluator = pickle.loads(pickle.dumps(LatencyConfig.model_validate(QUICK).bind(space, 0)))
    with remarks() as lines:
        found = measure(evaluator, 3, Proposal(space.sample(1, 0)[0]), lambda step, metrics: None)
    said = [json.loads(line.removeprefix("latency: "))["latency_ms"] for line in lines]
    assert len(said) == 3
    assert found["latency_ms"] == pytest.approx(np.mean(said))
    assert found["latency_ms_std"] == pytest.approx(np.std(said, ddof=1))


class Own(Space):
    name, choices = "own", (Choice("depth", (1, 2)),)

    def build(self, arch: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("evaluator", "said"),
    [
        (
            {"device": "lap"},
            "evaluator.device: 'lap' is no device; there are: lab, gone, board; did you mean \"lab\"?",
        ),
        (
            {"device": "lab", "threads": 2},
            "evaluator: threads is given beside device, which measures in its own way",
        ),
        ({"threads": 0}, "evaluator.threads: 0 is not allowed"),
        ({"runtime": "tflite"}, "evaluator.runtime: 'tflite' is not allowed"),
        (
            {"thread": 1},
            "evaluator.thread: unknown key; allowed: runtime, threads, batch, seconds, reference_ms, device",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_path(lab: str, evaluator: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as told:
        nas.search(space="digits-tiny", objectives=["min latency_ms"], evaluator={"kind": "latency", **evaluator})
    assert said in str(told.value)


def test_the_same_inside_of_training(lab: str) -> None:
    evaluator = {"kind": "training", "latency": {"device": "lap"}}
    with pytest.raises(SpecError, match=r"evaluator\.latency\.device: 'lap' is no device"):
        nas.search(space="digits-tiny", objectives=["max accuracy"], evaluator=evaluator)


def test_spaces_of_one_s_own_have_no_file() -> None:
    with pytest.raises(SpecError, match=r"evaluator\.kind: latency cannot be measured in a space of one's own"):
        nas.search(space=Own(), objectives=["min latency_ms"], evaluator={"kind": "latency"})


def test_the_command(lab: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nas.cli import app

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["latency", *arguments])

    drawn = run("digits-tiny", "-n", "3", "--repeats", "2", "--seconds", "0.2", "--json")
    assert drawn.exit_code == 0, drawn.output
    found = json.loads(drawn.stdout)
    assert [len(network["measurements"]) for network in found["networks"]] == [2, 2, 2]
    assert -1 <= found["kendall_tau"] <= 1
    one = run("digits-tiny", "--values", "stem.width=8", "--seconds", "0.2")
    assert one.exit_code == 0, one.output
    assert "latency_ms" in one.stdout
    asked = run("digits-tiny", "--device", "gone")
    assert (asked.exit_code, "error: device gone cannot be reached" in asked.stderr) == (1, True)
    many = run("digits-tiny", "--threads", "1000", "--json")
    assert many.exit_code == 2
    assert json.loads(many.stdout)["faults"][0]["path"] == "threads"
    refused = run("digits-tiny", "--runtime", "tflite", "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["faults"][0]["path"] == "runtime"


def test_the_page_has_every_key_with_its_default_and_documents_that_parse() -> None:
    page = (Path(__file__).parents[3] / "docs" / "latency.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| `?([\w.]+)`? \|$", page, re.MULTILINE))
    defaults = {name: field.default for name, field in LatencySettings.model_fields.items()}
    assert rows == {name: f"{v:g}" if isinstance(v, float) else str(v or "none") for name, v in defaults.items()}
    found = [parse_text(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]
    for document in found:
        assert isinstance(document, dict)
        JobSpec.parse({"space": "digits-tiny", "objectives": ["min latency_ms"], **document})
    assert len(found) == 2
