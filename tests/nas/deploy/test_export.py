"""From a search to files: the network of the trial, checked, whole or not there at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nas
from nas.artifacts import Artifacts
from nas.deploy.card import card_schema, read_card
from nas.deploy.checkpoint import Checkpoint, final_checkpoint, read, trial_checkpoint, written
from nas.deploy.deliver import ExportFailed, Order, export, put_together
from nas.deploy.export import CARD, Exporter, OfTrial, protocol
from nas.deploy.surroundings import Surroundings
from nas.evaluators import datasets
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.latency import LatencySettings
from nas.evaluators.training import TrainingConfig, TrainingEvaluator
from nas.job import WrongState
from nas.result import SearchResult
from nas.trial import Origin, Proposal, Trial
from search_spaces import SpecError

DIGITS: dict[str, Any] = {
    "name": "small digits",
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "evaluator": {"kind": "training", "dataset": "digits", "epochs": 2},
    "searcher": "random",
    "initial": [{"quantization.*.weight_bits": 8, "quantization.*.activation_bits": 8}],
}


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return nas.search(DIGITS, max_trial_count=2, seed=1, executor="inline")


@pytest.fixture(scope="module")
def kept(result: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts with a checkpoint of trial 0, and the file that was written with it."""
    folder = tmp_path_factory.mktemp("kept")
    result.export(0, folder / "model.onnx", artifacts=str(folder / "artifacts"))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_an_exported_file_is_the_trial(result: SearchResult, kept: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(kept / "model.onnx", providers=["CPUExecutionProvider"])
    unseen = datasets.load("digits").validation
    (logits,) = session.run(None, {"input": unseen.x})
    accuracy = float((logits.argmax(axis=1) == unseen.y).mean())
    metrics = result.all_trials[0].metrics
    assert accuracy == pytest.approx(metrics["accuracy"], abs=0.005)
    assert (kept / "model.onnx").stat().st_size == pytest.approx(metrics["model_size_bytes"], rel=0.02, abs=4096)


def test_its_card_says_what_it_is(result: SearchResult, kept: Path) -> None:
    card = json.loads((kept / "model.onnx.json").read_text())
    jsonschema.validate(card, card_schema())
    trial = result.all_trials[0]
    assert (card["job"], card["trial"], card["key"]) == (result.job.id, 0, trial.architecture.key)
    assert card["file"]["bytes"] == (kept / "model.onnx").stat().st_size
    assert card["file"]["name"] == "model.onnx"
    assert {m["name"]: m["value"] for m in card["metrics"]} == dict(trial.metrics)
    assert card["spec"] == result.job.spec.dump()
    assert card["training"]["weights"] == "trained again"
    assert card["training"]["epochs"] == 2
    assert card["data"]["licence"] == "unknown"
    assert card["data"]["sha256"] == datasets.fingerprint("digits")
    assert all(check["passed"] for check in card["verification"])
    assert "small digits, trial 0" in (kept / "model.onnx.md").read_text()


def test_a_checkpoint_gives_the_same_file_as_training_again(
    result: SearchResult, kept: Path, tmp_path: Path
) -> None:
    card = result.export(
        0, tmp_path / "a.onnx", weights="checkpoint", artifacts=str(kept / "artifacts"), data_licence="CC0"
    )
    assert (card.training.weights, card.data.licence) == ("checkpoint", "CC0")
    result.export(0, tmp_path / "b.onnx", weights="retrained")
    contents = {(folder / name).read_bytes() for folder, name in ((kept, "model.onnx"), (tmp_path, "a.onnx"))}
    assert contents == {(tmp_path / "b.onnx").read_bytes()}
    assert files(tmp_path) == [f"{n}.onnx{end}" for n in "ab" for end in ("", ".json", ".md")]
    assert Artifacts(str(kept / "artifacts")).list(result.job.id) == [trial_checkpoint(0)]


def test_files_for_torch(result: SearchResult, kept: Path, tmp_path: Path) -> None:
    import torch

    artifacts, x = str(kept / "artifacts"), torch.from_numpy(datasets.load("digits").validation.x)
    for ending in ("pt2", "pt"):
        card = result.export(0, tmp_path / f"a.{ending}", "checkpoint", artifacts=artifacts)
        assert [check.name for check in card.verification] == ["accuracy", "agreement"]
        assert card.verification[1].measured == 1
    logits = torch.export.load(tmp_path / "a.pt2").module()(x)
    y = torch.from_numpy(datasets.load("digits").validation.y)
    accuracy = (logits.argmax(dim=1) == y).double().mean().item()
    assert accuracy == result.all_trials[0].metrics["accuracy"]
    weights = torch.load(tmp_path / "a.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def damage(kept: Path, result: SearchResult, folder: Path) -> tuple[str, Checkpoint]:
    """Artifacts in which the checkpoint of trial 0 has other weights."""
    shutil.copytree(kept / "artifacts", folder)
    artifacts, space, arch = Artifacts(str(folder)), result.study.space, result.all_trials[0].architecture
    with artifacts.open(result.job.id, trial_checkpoint(0)) as stream:
        checkpoint = read(stream.read(), space, arch)  # type: ignore[arg-type]
    for parameter in checkpoint.trained.network.model.parameters():
        parameter.data.zero_()
    artifacts.put(result.job.id, trial_checkpoint(0), written(checkpoint, arch))
    return str(folder), checkpoint


def test_a_file_that_fails_its_checks_is_not_handed_out(result: SearchResult, kept: Path, tmp_path: Path) -> None:
    artifacts, _ = damage(kept, result, tmp_path / "artifacts")
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    with pytest.raises(ExportFailed, match=r"trial 0 fails its checks: accuracy is 0\.") as failed:
        result.export(0, target, weights="checkpoint", artifacts=artifacts)
    assert files(target.parent) == []
    assert set(failed.value.reasons) == {0}
    target.write_bytes(b"an earlier export")  # stays as it is
    with pytest.raises(ExportFailed):
        result.export(0, target, artifacts=artifacts)
    assert files(target.parent) == ["model.onnx"]
    assert target.read_bytes() == b"an earlier export"
    result.export(0, target, artifacts=artifacts, weights="retrained")  # which repairs the checkpoint
    assert target.read_bytes() == (kept / "model.onnx").read_bytes()
    result.export(0, target, artifacts=artifacts, weights="checkpoint")


def test_a_network_that_comes_out_otherwise_is_exported_as_itself(result: SearchResult, tmp_path: Path) -> None:
    """As on a processor of another kind: training again does not reach what the trial reached."""
    trial, evaluator = result.all_trials[0], result.study.evaluator
    assert isinstance(evaluator, TrainingEvaluator)
    reached = trial.metrics["accuracy"]
    other = replace(trial, metrics={**trial.metrics, "accuracy": reached - 0.1})
    artifacts = Artifacts(str(tmp_path))
    exporter = Exporter(evaluator, result.job.spec, "job", artifacts, "exports/e", {0: "onnx"})
    asked = OfTrial.again(other, result.job.spec.seed)
    with pytest.raises(Infeasible, match=r"accuracy is 0\.\d+, allowed.* in torch has .* weights 'retrained'"):
        exporter.evaluate(asked, lambda step, metrics: None)
    assert list(artifacts.list("job")) == []
    replace(exporter, weights="retrained").evaluate(asked, lambda step, metrics: None)
    assert trial_checkpoint(0) not in artifacts.list("job")
    with artifacts.open("job", f"exports/e/0/{CARD}") as stream:
        card = read_card(stream.read())
    assert (card.metric("accuracy"), card.metric("retrained_accuracy")) == (reached - 0.1, reached)


def test_what_was_trained_elsewhere_is_written_here(result: SearchResult, kept: Path, tmp_path: Path) -> None:
    folder, checkpoint = damage(kept, result, tmp_path / "artifacts")
    artifacts, name, arch = Artifacts(folder), trial_checkpoint(0), result.all_trials[0].architecture
    content = (kept / "artifacts" / result.job.id / name).read_bytes()
    checkpoint = read(content, result.study.space, arch)  # type: ignore[arg-type]
    there = Surroundings({"torch": "1.0"}, {"gpu": "another machine's"})
    trained = replace(checkpoint.trained, device="cuda")
    artifacts.put(result.job.id, name, written(replace(checkpoint, trained=trained, made_with=there), arch))
    card = result.export(0, tmp_path / "a.onnx", weights="checkpoint", artifacts=folder)
    assert (card.training.device, card.training.made_with) == ("cuda", there)
    assert "gpu" not in card.written_with.hardware
    assert "another machine's" in (tmp_path / "a.onnx.md").read_text()


def test_the_card_tells_how_each_metric_was_come_by() -> None:
    config = TrainingConfig(latency=LatencySettings(threads=2))
    assert "nothing was measured" in protocol("energy_mj", True, 3, config)
    assert "runtime onnxruntime, threads 2" in protocol("latency_ms", False, 1, config)
    assert "mean of 3 trainings" in protocol("accuracy", False, 3, config)
    assert protocol("params", True, 3, config) == "exact formula"


def test_a_checkpoint_that_cannot_be_read_is_told_or_made_anew(
    result: SearchResult, kept: Path, tmp_path: Path
) -> None:
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    artifacts.put(result.job.id, trial_checkpoint(0), b"not a checkpoint")
    with pytest.raises(ExportFailed, match="the weights of trial 0: it cannot be read"):
        result.export(0, tmp_path / "a.onnx", weights="checkpoint", artifacts=str(tmp_path / "artifacts"))
    assert files(tmp_path) == ["artifacts"]
    result.export(0, tmp_path / "a.onnx", artifacts=str(tmp_path / "artifacts"))
    assert (tmp_path / "a.onnx").read_bytes() == (kept / "model.onnx").read_bytes()


def test_a_checkpoint_of_another_network_is_refused(result: SearchResult, kept: Path) -> None:
    content = (kept / "artifacts" / result.job.id / trial_checkpoint(0)).read_bytes()
    space, others = result.study.space, result.all_trials[1].architecture
    with pytest.raises(ValueError, match="it is of architecture"):
        read(content, space, others)  # type: ignore[arg-type]


def test_the_whole_front(result: SearchResult, tmp_path: Path) -> None:
    cards = result.export_front(tmp_path / "front", executor="inline")
    numbers = [t.number for t in result.front.trials]
    assert list(cards) == numbers
    expected = [f"trial-{n}{end}" for n in sorted(numbers) for end in (".onnx", ".onnx.json", ".onnx.md")]
    assert files(tmp_path / "front") == expected


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (
            lambda r, p: r.export(0, p / "a.onnx", weights="checkpoint"),
            WrongState,
            "no checkpoint weights of trial 0",
        ),
        (lambda r, p: r.export(0, p / "a.onnx", "final"), WrongState, "nas retrain makes them"),
        (lambda r, p: r.export(0, p), SpecError, "is a folder"),
        (lambda r, p: r.export(7, p / "a.onnx"), WrongState, "there is no trial 7"),
        (lambda r, p: r.export(0, p / "a.tflite"), SpecError, r"allowed: \.onnx, \.pt2, \.pt"),
        (lambda r, p: r.retrain(9), WrongState, "there is no trial 9"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    result: SearchResult, tmp_path: Path, ask: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(result, tmp_path)
    assert files(tmp_path) == []


def test_only_networks_that_are_trained_have_weights(tmp_path: Path) -> None:
    free = nas.search(DIGITS, objectives=["min params"], evaluator="cost", max_trial_count=1, executor="inline")
    for ask in (lambda: free.export(0, tmp_path / "a.onnx"), lambda: free.retrain(0)):
        with pytest.raises(WrongState, match="the cost evaluator trains no networks"):
            ask()


def test_a_trial_that_was_taken_over_is_trained_by_the_seed_of_its_job(
    result: SearchResult, tmp_path: Path
) -> None:
    other = nas.search(
        DIGITS, max_trial_count=1, seed=9, executor="inline", warm_start=[result]
    )  # another seed, hence other weights of equal networks
    taken = other.all_trials[0]
    assert taken.origin == Origin(result.job.id, 0)
    with pytest.raises(WrongState, match=f"trial 0 was measured by job {result.job.id}, trial 0"):
        other.export(0, tmp_path / "a.onnx")
    order = Order(other.job, other.study, [taken], seeds={result.job.id: 1})
    (card,) = export(order, {0: tmp_path / "a.onnx"}).values()
    assert not isinstance(card, str), card
    assert card.training.seed == 1


def test_files_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):  # which is no folder
        put_together({tmp_path / "a": b"1", tmp_path / "file" / "b": b"2"})
    assert files(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_does_not_keep_the_others_from_it(
    result: SearchResult, kept: Path, tmp_path: Path
) -> None:
    artifacts = shutil.copytree(kept / "artifacts", tmp_path / "artifacts")
    (tmp_path / "file").write_bytes(b"")
    targets = {0: tmp_path / "a.onnx", 1: tmp_path / "file" / "b.onnx"}
    order = Order(result.job, result.study, [result.all_trials[n] for n in targets])
    found = export(order, targets, artifacts=Artifacts(str(artifacts)))
    assert not isinstance(found[0], str)
    assert str(found[1]).startswith(f"{targets[1]} cannot be written: ")
    assert targets[0].exists()
    left = Artifacts(str(artifacts)).list(result.job.id)
    assert left == [trial_checkpoint(0), trial_checkpoint(1)]


def test_a_set_of_files_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"before")
    (tmp_path / "c").mkdir()  # no file can take its place
    with pytest.raises(OSError, match="c"):
        put_together({tmp_path / name: b"after" for name in "abc"} | {tmp_path / "new": b"after"})
    assert files(tmp_path) == ["a", "b", "c"]
    assert {(tmp_path / name).read_bytes() for name in "ab"} == {b"before"}


def test_retrained_from_several_seeds(result: SearchResult, tmp_path: Path) -> None:
    found = result.retrain(0, seeds=2, epochs=1, executor="inline", artifacts=str(tmp_path))
    again = result.retrain(0, seeds=1, epochs=1, executor="inline")
    splits = datasets.load("digits")
    assert (found.epochs, found.examples) == (1, len(splits.train) + len(splits.validation))
    assert found.runs[0].seed == 1
    assert found.runs[1].seed != 1
    accuracies = [run.test_accuracy for run in found.runs]
    assert found.test_accuracy == pytest.approx(np.mean(accuracies))
    assert found.test_accuracy_std == pytest.approx(np.std(accuracies, ddof=1))
    assert again.runs[0].test_accuracy == accuracies[0]
    assert again.test_accuracy_std is None
    names = [final_checkpoint(0, run) for run in (0, 1)]
    assert Artifacts(str(tmp_path)).list(result.job.id) == names
    card = result.export(0, tmp_path / "final.onnx", weights="final", artifacts=str(tmp_path))
    assert card.training.parts == ("train", "validation")
    assert card.metric("test_accuracy") == accuracies[0]
    assert card.metric("accuracy") == result.all_trials[0].metrics["accuracy"]


def test_training_for_an_export_is_the_training_of_the_trial(result: SearchResult) -> None:
    evaluator, trial = result.study.evaluator, result.all_trials[0]
    assert isinstance(evaluator, TrainingEvaluator)
    trained = evaluator.train(Proposal(trial.architecture))
    accuracy, loss = evaluator.measured(trained.network, "validation")
    assert (accuracy, loss) == (trial.metrics["accuracy"], trial.metrics["loss"])
    assert isinstance(trial, Trial)
