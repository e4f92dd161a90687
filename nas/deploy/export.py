"""One trial's network as a file, with its card: trained, written, and checked, in a worker.

Whoever asks gets a file whose checks have all passed, or the reason why there is none.
"""

from __future__ import annotations

import hashlib
import math
import time as clock
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nas.artifacts import Artifacts
from nas.deploy.card import Check, Data, FileFacts, Metric, ModelCard, Training, card_json, points
from nas.deploy.checkpoint import Checkpoint, final_checkpoint, read, trial_checkpoint, written
from nas.deploy.surroundings import Surroundings, software_licence
from nas.evaluators import datasets
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.training import TrainingConfig, TrainingEvaluator
from nas.exports import UNKNOWN, Format, Weights
from nas.job import JobSpec
from nas.trial import Proposal, Trial
from nas.wire import readable, time
from search_spaces import Architecture
from search_spaces.declared import DeclaredSpace

if TYPE_CHECKING:
    from torch import Tensor

    from nas.contracts import Report
    from nas.deploy.verification import Verification
    from nas.evaluators.quantize import Quantized

NEEDS: Mapping[Weights, str] = {"checkpoint": "nas export", "final": "nas retrain"}
"""The command that makes what these need."""
AGAIN = "trained again"
"""Where weights come from that were not kept."""
MODEL, CARD = "model", "card.json"
"""Artifacts of an export, in its folder."""


@dataclass(frozen=True, kw_only=True)
class OfTrial(Proposal):
    """The network of a trial once more, for something else than a search."""

    trial: Trial
    seed: int
    """Of the job that measured the trial."""
    run: int = 0
    """Which of several trainings from different seeds."""

    @classmethod
    def again(cls, trial: Trial, seed: int, run: int = 0) -> OfTrial:
        """What the trial proposed, for its `run`-th training."""
        asked = trial.proposal
        return cls(asked.architecture, asked.fidelity, asked.resume_from, trial=trial, seed=seed, run=run)


@dataclass(frozen=True)
class Exporter:
    """An evaluator that leaves a model and its card among the artifacts of a job."""

    evaluator: TrainingEvaluator
    spec: JobSpec
    job: str
    files: Artifacts
    folder: str
    """Of the artifacts: ``<folder>/<trial's number>/`` and the names above."""
    forms: Mapping[int, Format]
    """By the trial's number."""
    weights: Weights = "auto"
    data_licence: str = UNKNOWN

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """The size of the file in bytes.

        Raises:
            Infeasible: there is no checkpoint where one is asked for, training broke, or the file is not what the
                trial promises.
        """
        assert isinstance(proposal, OfTrial)
        trial = proposal.trial
        checkpoint, origin = self._checkpoint(proposal, report)
        content, verification = self._verified(checkpoint, self._promised(trial, checkpoint), trial)
        card = self._card(trial, checkpoint, origin, content, verification)
        if origin == AGAIN and self._as_accurate(trial, checkpoint):
            self.files.put(self.job, trial_checkpoint(trial.number), written(checkpoint, trial.architecture))
        self.files.put(self.job, f"{self.folder}/{trial.number}/{MODEL}", content)
        self.files.put(self.job, f"{self.folder}/{trial.number}/{CARD}", card_json(card).encode())
        return {"bytes": len(content)}

    def _checkpoint(self, asked: OfTrial, report: Report) -> tuple[Checkpoint, str]:
        """The trained network and where it comes from."""
        arch, space = asked.architecture, self.evaluator.space
        name = kept_as(self.weights, asked.trial.number)
        if self.weights != "retrained":
            try:
                with self.files.open(self.job, name) as stream:
                    return read(stream.read(), space, arch), "final" if self.weights == "final" else "checkpoint"
            except (FileNotFoundError, ValueError) as error:  # a damaged one is as good as none, and is replaced
                if self.weights != "auto":
                    raise Infeasible(f"the weights of trial {asked.trial.number}: {error}") from None
        evaluator = replace(self.evaluator, seed=asked.seed)
        trained = evaluator.train(asked, report)
        accuracy, _ = evaluator.measured(trained.network, "validation")
        made_with = Surroundings.here(trained.device)
        content = written(Checkpoint(trained, asked.seed, "validation", accuracy, made_with), arch)
        return read(content, space, arch), AGAIN  # on this machine's processor, wherever it was trained

    def _promised(self, trial: Trial, checkpoint: Checkpoint) -> float:
        """The accuracy that the file must have: the trial's, unless that is not one of this very network.

        Trained again on another kind of machine a network may come out as another one. It is exported as the
        trial's only if it is as accurate, and as itself where ``retrained`` weights are asked for.
        """
        own = checkpoint.part == "test" or self.weights == "retrained" or self.spec.budget.repeats > 1
        return checkpoint.accuracy if own else trial.metrics["accuracy"]

    def _as_accurate(self, trial: Trial, checkpoint: Checkpoint) -> bool:
        """Whether a network that was trained again may stand for the trial's from now on."""
        if self.spec.budget.repeats > 1:
            return True
        allowed = points(len(self.evaluator.splits().validation))
        return abs(checkpoint.accuracy - trial.metrics["accuracy"]) <= allowed

    def _verified(self, checkpoint: Checkpoint, accuracy: float, trial: Trial) -> tuple[bytes, Verification]:
        """The content of the file, and its checks, which have all passed."""
        import torch

        from nas.deploy.verification import VerificationFailed
        from predictors.threads import one_torch_thread

        unseen: datasets.Examples = getattr(self.evaluator.splits(), checkpoint.part)
        inputs, labels = torch.from_numpy(unseen.x), torch.from_numpy(unseen.y)
        network, form, space = checkpoint.trained.network, self.forms[trial.number], self.evaluator.space
        with one_torch_thread():
            content, found = written_as(form, network, space, trial.architecture, inputs, labels, accuracy)
        try:
            found.require()
        except VerificationFailed as error:
            told = f"the network in torch has an accuracy of {checkpoint.accuracy:.4f}"
            if abs(checkpoint.accuracy - accuracy) > points(len(labels)):
                told += "; weights 'retrained' exports what was trained here, whatever the trial reached"
            raise Infeasible(f"the file of trial {trial.number} fails its checks: {error}; {told}") from None
        return content, found

    def _card(
        self, trial: Trial, checkpoint: Checkpoint, origin: str, content: bytes, verification: Verification
    ) -> ModelCard:
        evaluator, arch, trained = self.evaluator, trial.architecture, checkpoint.trained
        space, splits = evaluator.space, evaluator.splits()
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        name = f"{self.spec.name}, trial {trial.number}"
        return ModelCard(
            name=name,
            file=FileFacts(MODEL, self.forms[trial.number], len(content), hashlib.sha256(content).hexdigest()),
            job=self.job,
            trial=trial.number,
            key=arch.key,
            created_at=str(time(clock.time())),
            architecture=readable(arch),
            policy=policy(trained.network),
            training=Training(
                weights=origin,
                examples=trained.examples,
                parts=("train", "validation") if checkpoint.part == "test" else ("train",),
                epochs=trained.epochs,
                seed=checkpoint.seed,
                seconds=trained.seconds,
                device=trained.device,
                recipe=asdict(space.recipe(arch)),
                made_with=checkpoint.made_with,
            ),
            metrics=self._metrics(trial, checkpoint),
            verification=checks(verification),
            data=Data(
                dataset=evaluator.config.dataset,
                sha256=datasets.fingerprint(evaluator.source),
                shape=splits.train.x.shape[1:],
                classes=datasets.describe(evaluator.source).classes,
                examples={part: len(examples) for part, examples in parts.items()},
                licence=self.data_licence,
            ),
            spec=self.spec.dump(),
            written_with=Surroundings.here(),
            software_licence=software_licence(),
        )

    def _metrics(self, trial: Trial, checkpoint: Checkpoint) -> tuple[Metric, ...]:
        """The trial's, and what the network itself reached."""
        formulas = {*self.evaluator.space.cost(trial.architecture), *self.evaluator.space.asked_costs}
        told = {
            m: protocol(m, m in formulas, self.spec.budget.repeats, self.evaluator.config) for m in trial.metrics
        }
        if checkpoint.part == "test":
            before = "of the trial's weights, not of this file's: "
            told = {m: how if m in formulas else before + how for m, how in told.items()}
        found = tuple(Metric(m, v, told[m]) for m, v in trial.metrics.items())
        if checkpoint.part == "test":
            how = "on the test part, of this file's weights, which were trained on all other examples"
            return (*found, Metric("test_accuracy", checkpoint.accuracy, how))
        if self.weights == "retrained":
            how = "on the validation part, of this file's weights, which were trained again"
            return (*found, Metric("retrained_accuracy", checkpoint.accuracy, how))
        return found


def kept_as(weights: Weights, number: int) -> str:
    """The artifact that has these weights of a trial."""
    return final_checkpoint(number, 0) if weights == "final" else trial_checkpoint(number)


def protocol(metric: str, formula: bool, repeats: int, config: TrainingConfig) -> str:
    """How a metric of a trial was come by."""
    said = {
        "accuracy": "share of the validation part that is classified as labelled, quantized as the policy says; "
        "searches choose by it, so it flatters those chosen",
        "loss": "mean cross entropy on the validation part, quantized as the policy says",
        "train_seconds": "duration of the trial's training on one thread, or on a GPU",
        "energy_mj": "analytic model of one example on a 45 nm process (Horowitz 2014); nothing was measured",
    }
    if config.latency is not None:
        settings = ", ".join(f"{name} {value}" for name, value in config.latency.model_dump().items() if value)
        said["latency_ms"] = (
            f"measured with random weights before the training ({settings}); the trial's log has more"
        )
        said["latency_interval_ms"] = "half of the 95 % confidence interval of latency_ms"
    how = said.get(metric, "exact formula" if formula else "as the evaluator measured it")
    if repeats == 1 or formula:
        return how
    return f"{how}; mean of {repeats} trainings from different seeds, or their standard deviation (_std)"


def policy(network: Quantized) -> dict[str, dict[str, Any]]:
    """Bits by module, how little of its weight they lose, and the grid of what it reads."""
    from nas.evaluators.quantize import sqnr

    grids, decibels = network.grids, sqnr(network.model, network.policy)
    return {
        module: {
            **asdict(bits),
            "weight_sqnr_db": round(decibels[module], 2) if math.isfinite(decibels[module]) else None,
            "input_scale": grids[module].scale if module in grids else None,
            "input_zero_point": grids[module].zero if module in grids else None,
        }
        for module, bits in network.policy.items()
    }


def written_as(
    form: Format,
    network: Quantized,
    space: DeclaredSpace,
    arch: Architecture,
    inputs: Tensor,
    labels: Tensor,
    accuracy: float,
) -> tuple[bytes, Verification]:
    """A network's file in a format, and what was found of it, read again, on examples of a known accuracy."""
    from nas.deploy import formats
    from nas.deploy.onnx_file import onnx_file
    from nas.deploy.verification import verify, verify_in_torch

    if form == "onnx":
        content = onnx_file(network, inputs[:1])
        size = space.cost(arch)["model_size_bytes"]
        return content, verify(content, network, inputs, labels, accuracy, size)
    if form == "pt2":
        content = formats.program(network, inputs[:1])
        loaded = formats.read_program(content)
    else:
        content = formats.state(network)
        loaded = replace(network, model=formats.read_state(content, space, arch)).simulated()
    return content, verify_in_torch(content, loaded, network, inputs, labels, accuracy)


def checks(verification: Verification) -> tuple[Check, ...]:
    """The checks of a verification, for a card."""
    return tuple(Check(c.name, float(c.measured), c.allowed, c.passed) for c in verification.checks)
