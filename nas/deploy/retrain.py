"""A chosen network trained in earnest: on all examples but the test part, from several seeds, and then tested."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.artifacts import Artifacts
from nas.deploy.checkpoint import Checkpoint, final_checkpoint, written
from nas.deploy.deliver import seed_of, trainer
from nas.deploy.export import OfTrial
from nas.deploy.surroundings import Surroundings
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.training import TrainingEvaluator
from nas.executors import ExecutorKind
from nas.executors.attempt import Task
from nas.executors.errands import outcomes
from nas.job import Job
from nas.runner import Study
from nas.trial import Measured, Proposal, Trial

if TYPE_CHECKING:
    from nas.contracts import Report


@dataclass(frozen=True)
class Run:
    """One training, and what its network reached on the test part."""

    seed: int
    test_accuracy: float
    """0..1, quantized as the policy says."""
    test_loss: float
    train_seconds: float


@dataclass(frozen=True)
class Retrained:
    """A trial's network after trainings from several seeds, on the training and the validation part."""

    trial: int
    epochs: int
    examples: int
    """Of each epoch."""
    runs: tuple[Run, ...]
    broken: tuple[str, ...] = ()
    """Why runs are missing."""

    @property
    def test_accuracy(self) -> float:
        """Mean over the runs; raises `statistics.StatisticsError` where there are none."""
        return statistics.fmean(run.test_accuracy for run in self.runs)

    @property
    def test_accuracy_std(self) -> float | None:
        """Standard deviation over the runs (n - 1 in the denominator); None for a single one."""
        return statistics.stdev(run.test_accuracy for run in self.runs) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Retrainer:
    """An evaluator that trains on all but the test part, measures there, and keeps the weights."""

    evaluator: TrainingEvaluator
    job: str
    files: Artifacts | None
    epochs: int | None

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """Figures of a `Run`, and the `epochs` and `examples` of the training."""
        assert isinstance(proposal, OfTrial)
        first = replace(self.evaluator, seed=proposal.seed)
        evaluator = first.repeat(proposal.run) if proposal.run else first
        trained = evaluator.train(replace(proposal, fidelity=None), report, whole=True, epochs=self.epochs)
        accuracy, loss = evaluator.measured(trained.network, "test")
        if self.files is not None:
            made_with = Surroundings.here(trained.device)
            checkpoint = Checkpoint(trained, evaluator.seed, "test", accuracy, made_with)
            content = written(checkpoint, proposal.architecture)
            self.files.put(self.job, final_checkpoint(proposal.trial.number, proposal.run), content)
        return {
            "test_accuracy": accuracy,
            "test_loss": loss,
            "train_seconds": trained.seconds,
            "epochs": trained.epochs,
            "examples": trained.examples,
        }


def retrain(
    job: Job,
    study: Study,
    trial: Trial,
    seeds: int,
    epochs: int | None = None,
    *,
    executor: ExecutorKind = "ray",
    artifacts: Artifacts | None = None,
    origins: Mapping[str, int] = {},
    observe: Callable[[int], None] = lambda done: None,
) -> Retrained:
    """Train a trial's network by its recipe on the training and the validation part, and test it, once a seed.

    Args:
        job: of the trial.
        study: its objects.
        trial: measured before.
        seeds: how many trainings; the first is from the seed that the trial had.
        epochs: instead of those of the recipe.
        executor: where they run.
        artifacts: where the weights are kept; None: nowhere.
        origins: seeds of the jobs, by id, that trials were taken over from.
        observe: told how many are done.

    Raises:
        WrongState: for an evaluator that trains no networks.
        Infeasible: where every training broke.
    """
    evaluator = trainer(study)
    seed = seed_of(trial, job.spec.seed, origins)
    work = {run: OfTrial.again(trial, seed, run) for run in range(seeds)}
    task = Task(Retrainer(evaluator, job.id, artifacts, epochs), study.space)
    found = outcomes(executor, task, work, min(seeds, job.spec.budget.parallel_trial_count), observe)
    done = {run: o.metrics for run, o in found.items() if isinstance(o, Measured)}
    broken = tuple(f"run {run}: {o.reason}" for run, o in found.items() if not isinstance(o, Measured))
    if not done:
        raise Infeasible(f"no training of trial {trial.number} came to its end: {'; '.join(broken)}")
    figures = next(iter(done.values()))
    runs = tuple(
        Run(_seed(evaluator, seed, run), *(m[name] for name in ("test_accuracy", "test_loss", "train_seconds")))
        for run, m in sorted(done.items())
    )
    return Retrained(trial.number, int(figures["epochs"]), int(figures["examples"]), runs, broken)


def _seed(evaluator: TrainingEvaluator, seed: int, run: int) -> int:
    """The seed of a run."""
    first = replace(evaluator, seed=seed)
    return first.repeat(run).seed if run else seed
