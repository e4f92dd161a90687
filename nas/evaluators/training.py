"""Train each network by its recipe, quantize it by its policy, and measure it on examples it has not seen.

Searches see the validation part only. The test part is for `TrainingEvaluator.test`, once a search is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import EvaluatorSettings
from nas.evaluators import datasets
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.latency import Gauge, LatencySettings
from nas.trial import Proposal
from search_spaces import Fault, SpecError
from search_spaces.architecture import Genes
from search_spaces.declared import DeclaredSpace, ImageSection
from search_spaces.faults import did_you_mean, show
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.contracts import Report
    from nas.evaluators.quantize import Quantized
    from predictors.zero_cost import Proxy, ZeroCost

DEFAULT_EPOCHS = 10
CALIBRATION = 512
"""Training examples that calibrate activations."""
CALIBRATION_BATCH = 32
"""Of them at a time, so that moving averages have something to average."""
SCORED = 32
"""Training examples that zero-cost scores are calculated from."""


class TrainingConfig(EvaluatorSettings):
    """Train on a data set, measure on its validation part."""

    kind: Literal["training"] = "training"
    dataset: str = Field(default="digits", description="a name in the data registry or, locally, a path")
    epochs: int | None = Field(default=None, ge=1, description="where the recipe gives none; 10 by default")
    train_limit: int | None = Field(default=None, ge=1, description="training examples, at most")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU where the worker has one"
    )
    latency: LatencySettings | None = Field(default=None, description="measured too, before training")

    def bind(self, space: Space, seed: int) -> TrainingEvaluator:
        """The evaluator; where the data set is gets settled here, its reading is left to the worker.

        Raises:
            SpecError: for a data set that is not there, or a space that is no document.
        """
        if not isinstance(space, DeclaredSpace):
            raise SpecError(self.faults(space))
        gauge = self.latency.gauge(space) if self.latency else None
        return TrainingEvaluator(space, self, seed, self._source(), gauge)

    def metrics(self) -> frozenset[str]:
        """What every evaluation gives."""
        return frozenset({"accuracy", "loss", "train_seconds"}) | (self.latency.given() if self.latency else set())

    def scores(self, space: Space, names: Sequence[Proxy], seed: int) -> DataScores:
        """Scores by the first examples of the training part."""
        return DataScores(space, self._source(), tuple(names), seed, min(SCORED, self.train_limit or SCORED))

    def faults(self, space: Space) -> list[Fault]:
        """Whether networks of this space can be built and trained on this data set. Loads no torch."""
        if not isinstance(space, DeclaredSpace):
            return [Fault("kind", _untrainable("a space of one's own"))]
        document = space.document
        if not isinstance(document, ImageSection):
            return [Fault("kind", _untrainable("networks that read text"))]
        try:
            found = datasets.describe(self._source())
        except SpecError as error:
            return list(error.under("dataset").faults)
        faults = []
        if (found.shape, found.classes) != (document.input, document.classes):
            has = f"examples of shape {list(found.shape)} and {found.classes} classes"
            wants = f"input {list(document.input)} and {document.classes} classes"
            faults.append(Fault("dataset", f"{show(self.dataset)} has {has}; the space has {wants}"))
        if self.epochs is not None and document.recipe.epochs is not None:
            faults.append(
                Fault("epochs", f"{self.epochs} is given, and recipe.epochs in the space too; give one of them")
            )
        if self.train_limit is not None and self.train_limit < found.classes:
            faults.append(
                Fault(
                    "train_limit",
                    f"{self.train_limit} is less than one example for each of {found.classes} classes",
                )
            )
        if 1 in document.recipe.batch_size.values:
            faults.append(
                Fault("kind", "'training' needs recipe.batch_size >= 2: batch norm averages over a batch")
            )
        if self.latency:
            faults += [Fault(f"latency.{f.path}".rstrip("."), f.message) for f in self.latency.faults(space)]
        return faults

    def remote_faults(self, functions: Collection[str] = ()) -> list[Fault]:
        """A client's path is never opened."""
        if datasets.is_name(self.dataset):
            return []
        message = f"{show(self.dataset)}: only names in the data registry are allowed over HTTP"
        known = datasets.names()
        meant = did_you_mean(Path(self.dataset).stem, known)  # a name has no ending
        return [Fault("dataset", f"{message}; there are: {', '.join(known)}{meant}")]

    def _source(self) -> str:
        return datasets.locate(self.dataset)


def _untrainable(what: str) -> str:
    return f"'training' cannot train {what} yet; allowed: cost, tabular, callable"


@dataclass(frozen=True)
class DataScores:
    """Zero-cost scores by training examples, which are read when the first network is scored."""

    space: Space
    source: str
    """As `datasets.locate` gives it."""
    names: tuple[Proxy, ...]
    seed: int
    examples: int

    def __call__(self, genes: Genes) -> NDArray[np.float64]:
        """Scores of canonical genes (n, d), shape (n, names)."""
        return self._scores(genes)

    @cached_property
    def _scores(self) -> ZeroCost:
        from predictors.zero_cost import ZeroCost

        batch = datasets.load(self.source).train[: self.examples]
        return ZeroCost(self.space, batch.x, batch.y, self.names, self.seed)


@dataclass(frozen=True)
class Trained:
    """A network after its training."""

    network: Quantized
    seconds: float
    """That the training took."""
    epochs: int
    examples: int
    """That it learnt from in each epoch."""
    device: str
    """That it was trained on: ``cpu`` or ``cuda``."""


def _unheard(step: int, metrics: Mapping[str, float]) -> None:
    """Reports that nobody wants."""


def _part(epochs: int, proposal: Proposal) -> int:
    """So many epochs at the proposal's fidelity: at least one, unless there are none."""
    part = math.ceil(round(epochs * (proposal.fidelity or 1.0), 6))  # 100 x 0.07 is 7, not 7 + 1e-15
    return max(part, min(epochs, 1))


@dataclass(frozen=True)
class TrainingEvaluator:
    """Trains from scratch, the same way for the same architecture and seed, whichever trial it is."""

    space: DeclaredSpace
    config: TrainingConfig
    seed: int
    source: str
    """As `datasets.locate` gives it."""
    gauge: Gauge | None = None

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """`accuracy` (0..1) and `loss` on the validation part with the policy applied, and `train_seconds`.

        Reports the training loss after each epoch. A fidelity below 1 trains for that part of the epochs, of
        quantization-aware ones too, with the whole schedule; nothing is resumed.

        Raises:
            Infeasible: when training diverges or the network does not fit into the device's memory.
        """
        latency = self.gauge(proposal.architecture) if self.gauge else {}
        trained = self.train(proposal, report)
        accuracy, loss = self.measured(trained.network, "validation")
        return {"accuracy": accuracy, "loss": loss, "train_seconds": trained.seconds, **latency}

    def repeat(self, i: int) -> TrainingEvaluator:
        """The same training from another seed."""
        return replace(self, seed=int(np.random.SeedSequence([self.seed, i]).generate_state(1, np.uint64)[0]))

    def test(self, proposal: Proposal) -> Mapping[str, float]:
        """`test_accuracy` and `test_loss`: the very training of `evaluate`, measured on the test part."""
        trained = self.train(proposal)
        accuracy, loss = self.measured(trained.network, "test")
        return {"test_accuracy": accuracy, "test_loss": loss}

    def train(
        self,
        proposal: Proposal,
        report: Report = _unheard,
        *,
        whole: bool = False,
        epochs: int | None = None,
    ) -> Trained:
        """The proposal's network, trained and quantized: on one machine the same one each time.

        Args:
            proposal: what to train, and for how long.
            report: told the training loss after each epoch.
            whole: on all examples of the training and the validation part, whatever `train_limit` says.
            epochs: instead of those that recipe and settings give.

        Raises:
            Infeasible: when training diverges or the network does not fit into the device's memory.
        """
        import torch

        from nas.evaluators.fitting import fit, placed
        from nas.evaluators.qat import finetuned
        from nas.evaluators.quantize import quantized
        from predictors.threads import one_torch_thread, seeded_torch

        arch, splits, device = proposal.architecture, self.splits(), self._device()
        epochs, recipe = epochs or self._epochs(proposal), self.space.recipe(arch)
        rng = np.random.default_rng([self.seed, int(arch.key, 16)])
        train = splits.train.joined(splits.validation) if whole else splits.train[: self.config.train_limit]
        x, y = (torch.from_numpy(a).to(device) for a in (train.x, train.y))
        with one_torch_thread(), seeded_torch(int(rng.integers(2**63))), self._enough_memory():
            started = time.perf_counter()
            model = placed(self.space.build(arch), device)
            fit(model, x, y, recipe, epochs, rng, report)
            network = quantized(model, self.space.policy(arch), torch.split(x[:CALIBRATION], CALIBRATION_BATCH))
            more = _part(recipe.qat_epochs, proposal)
            network = finetuned(network, x, y, recipe, more, rng, lambda i, loss: report(epochs + i, loss))
            return Trained(network, time.perf_counter() - started, epochs, len(train), device)

    def measured(self, network: Quantized, part: Literal["validation", "test"]) -> tuple[float, float]:
        """Accuracy (0..1) and loss of a trained network on a part. Raises `Infeasible` as `train` does."""
        import torch

        from nas.evaluators.fitting import measure
        from predictors.threads import one_torch_thread

        unseen: datasets.Examples = getattr(self.splits(), part)
        with one_torch_thread(), self._enough_memory():
            inputs, labels = (torch.from_numpy(a).to(self._device()) for a in (unseen.x, unseen.y))
            return measure(network.simulated(), inputs, labels)

    def splits(self) -> datasets.Splits:
        """The data set; read once in a process."""
        return datasets.load(self.source)

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """Raises `Infeasible` where the device has not enough."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError:
            raise Infeasible(f"does not fit into the memory of {self._device()}") from None

    def _epochs(self, proposal: Proposal) -> int:
        given = self.space.recipe(proposal.architecture).epochs or self.config.epochs or DEFAULT_EPOCHS
        return _part(given, proposal)

    def _device(self) -> str:
        import torch

        if self.config.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.config.device
