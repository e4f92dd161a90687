"""What a search found, as tables and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nas.executors import ExecutorKind
from nas.job import Job, JobState
from nas.objectives import Constraint, Goal, Objective
from nas.pareto import ParetoFront
from nas.runner import Study
from nas.trial import Trial
from search_spaces.faults import did_you_mean

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from nas.artifacts import Artifacts
    from nas.deploy.card import ModelCard
    from nas.deploy.retrain import Retrained
    from nas.exports import Weights


_COLUMNS = (
    *("number", "state", "architecture"),  # the metrics stand after these
    *("feasible", "attempt", "fidelity", "reason", "seconds", "origin"),
)


class SearchFailed(Exception):
    """A search that ended FAILED; `result` holds what was measured before."""

    def __init__(self, reason: str, result: SearchResult) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The trials of a job, and the best of them."""

    job: Job
    study: Study
    all_trials: tuple[Trial, ...]
    """Every trial, by number."""
    tested: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Metrics on the test split by trial number, for the trials that `test` measured."""

    def __repr__(self) -> str:
        counts = Counter(t.state.value for t in self.all_trials)
        best = [self._best(o) for o in self.job.spec.objectives]
        said = [self.state.value, "trials: " + ", ".join(f"{n} {s}" for s, n in counts.items()) if counts else ""]
        return f"SearchResult({self.job.id!r}, {', '.join(filter(None, [*said, *best]))})"

    @property
    def state(self) -> JobState:
        """SUCCEEDED, or PAUSED where the search was interrupted, or CANCELLED."""
        return self.job.state

    @cached_property
    def front(self) -> ParetoFront:
        """The Pareto front as trials."""
        return ParetoFront.of(self.all_trials, self.job.spec.problem)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order in which they finished; open ones at the end."""
        last = len(self.all_trials)
        ordered = sorted(self.all_trials, key=lambda t: (last if t.order is None else t.order, t.number))
        return self._frame(ordered)

    @property
    def pareto_front(self) -> pd.DataFrame:
        """One row a network of the front, the best of the first objective first."""
        return self._frame(self.front.trials)

    @property
    def recommended(self) -> pd.DataFrame:
        """One row a network to take where measurements are noisy, the best of the first objective first.

        The front of what a model of all trials expects apart from luck (columns ``expected_<metric>``), not of
        what was observed; see `nas.recommended`.
        """
        from nas.recommended import recommended

        found = recommended(self.study.space, self.job.spec.problem, self.all_trials)
        frame = self._frame(found.trials)
        for i, metric in enumerate(self.job.spec.problem.metrics):
            frame[f"expected_{metric}"] = found.expected[:, i]
        return frame

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Volume between the front and `reference` (a value an objective; default: the worst seen of each)."""
        return self.front.hypervolume(reference)

    def best(self, metric: str) -> pd.Series[Any]:
        """The feasible trial with the best value of a metric. Raises `ValueError` if there is none."""
        goals = {o.metric: o.goal for o in self.job.spec.objectives}
        higher = goals.get(metric, Goal.MAXIMIZE if metric == "accuracy" else Goal.MINIMIZE)
        return self.pick(Objective(metric=metric, goal=higher))

    def pick(self, objective: str | Objective, *constraints: str | Constraint) -> pd.Series[Any]:
        """The feasible trial that is best for `objective` among those that meet `constraints` as well.

        ``result.pick("max accuracy", "latency_ms <= 5")``. Raises `ValueError` if there is none.
        """
        wanted, bounds = Objective.parse(objective), [Constraint.parse(c) for c in constraints]
        fitting = [
            t
            for t in self.all_trials
            if t.feasible
            and wanted.metric in t.metrics
            and all(c.metric in t.metrics and c.excess(t.metrics[c.metric]) == 0 for c in bounds)
        ]
        if not fitting:
            measured = sorted({m for t in self.all_trials for m in t.metrics})
            for metric in (wanted.metric, *(c.metric for c in bounds)):
                if measured and metric not in measured:
                    hint = did_you_mean(metric, measured)
                    raise ValueError(f"no trial has {metric}; measured were {', '.join(measured)}{hint}")
            also = " and ".join(map(str, bounds))
            raise ValueError(f"no feasible trial has {wanted.metric}" + (f" and meets {also}" if also else ""))
        chosen = min(fitting, key=lambda t: (wanted.loss(t.metrics[wanted.metric]), t.number))
        return self._frame([chosen]).iloc[0]

    def family(self, objective: str | Objective, *constraints: str | Constraint, seed: int = 0) -> pd.DataFrame:
        """The best network under each constraint, from a predictor fitted on the trials; nothing is measured.

        ``result.family("max accuracy", "macs <= 5e7", "macs <= 1e8")``: one row a constraint, with each metric as
        expected and its standard deviation (0 from a formula), and the best trial that keeps the constraint. The
        job's own constraints hold too. Takes seconds. Raises `SpecError` for a metric that is not known.
        """
        from nas.family import frame, predictor_evolution

        wanted, bounds = Objective.parse(objective), [Constraint.parse(c) for c in constraints]
        always = self.job.spec.constraints
        return frame(predictor_evolution(self.study.space, self.all_trials, wanted, bounds, always, seed), wanted)

    def predictor_quality(self) -> pd.DataFrame:
        """How far predictors can be trusted here: one row a metric, a number of trials, and a way to judge.

        After 10, 20, 50, 100, ... measured trials the predictor `auto` learns from them; ``judged_on`` is
        ``held_out`` (each of them, expected from the others) or ``later`` (the trials up to the next number,
        which the searcher chose, so their ranks are harder to tell). Kendall's tau, Spearman's correlation,
        precision among the best tenth, and coverage of intervals, each with the ends of its 90% interval. Empty
        below 10 measured trials; what is missing and why stands in ``attrs["remarks"]``. Takes seconds, and
        minutes for 10,000 trials. See `nas.predictor_quality`.
        """
        from nas.predictor_quality import frame, predictor_quality

        return frame(predictor_quality(self.study.space, self.job.spec.problem, self.all_trials))

    def test(
        self, numbers: Sequence[int] | None = None, executor: ExecutorKind = "ray", progress: bool = False
    ) -> SearchResult:
        """The result with test metrics of these trials (default: the front's), measured once and now.

        Each network is trained again by its recipe and seed; `progress` shows a bar. Raises `ValueError` where
        there is no test split.
        """
        from nas.held_out import measure
        from nas.progress import counted

        chosen = self.front.trials if numbers is None else [self.all_trials[n] for n in numbers]
        fresh = [t for t in chosen if t.number not in self.tested]
        with counted("testing", len(fresh), progress) as observe:
            return replace(self, tested={**self.tested, **measure(self.study, fresh, executor, observe)})

    def retrain(
        self,
        number: int,
        seeds: int = 3,
        epochs: int | None = None,
        executor: ExecutorKind = "ray",
        artifacts: str | None = None,
        progress: bool = False,
    ) -> Retrained:
        """Train a trial's network by its recipe on the training and the validation part, and test it.

        This happens on this machine, also where a server has searched; for its files see `RemoteJob.export_model`.

        Args:
            number: of the trial.
            seeds: trainings; the result has the mean and the spread of their accuracies on test data.
            epochs: instead of those of the recipe.
            executor: where they run.
            artifacts: folder or URL where the weights are kept, for `export`; None: nowhere.
            progress: show a bar.

        Raises `WrongState` where there is nothing to train, and `Infeasible` where no training comes to its end.
        """
        from nas.deploy.deliver import measured_trial
        from nas.deploy.retrain import retrain
        from nas.progress import counted

        trial = measured_trial(self.all_trials, number)
        with counted(f"retraining trial {number}", seeds, progress) as observe:
            return retrain(
                *(self.job, self.study, trial, seeds, epochs),
                executor=executor,
                artifacts=_artifacts(artifacts),
                observe=observe,
            )

    def export(
        self,
        number: int,
        path: str | Path,
        weights: Weights = "auto",
        executor: ExecutorKind = "inline",
        artifacts: str | None = None,
        data_licence: str = "unknown",
    ) -> ModelCard:
        """Write a trial's network to a file, in the form of its ending, with its card beside it.

        The network is trained again by the trial's recipe and seed, unless `artifacts` (a folder or a URL) has its
        weights, and the file is checked against the trial before it is there: its accuracy through ONNX Runtime,
        its agreement with the network in torch, its bytes. See `nas.exports` for `weights`.

        Raises:
            SpecError: for an ending that is not known.
            WrongState: there is nothing to train, or there are no such weights.
            ExportFailed: a check failed, or the training; no file was written.
        """
        return self._export([number], {number: Path(path)}, weights, executor, artifacts, data_licence)[number]

    def export_front(
        self,
        folder: str | Path,
        weights: Weights = "auto",
        executor: ExecutorKind = "ray",
        artifacts: str | None = None,
        data_licence: str = "unknown",
        progress: bool = False,
    ) -> dict[int, ModelCard]:
        """Write each network of the front to ``folder/trial-<number>.onnx``; see `export`.

        Raises `ExportFailed` where some failed; the others are there.
        """
        numbers = [t.number for t in self.front.trials]
        targets = {n: Path(folder) / f"trial-{n}.onnx" for n in numbers}
        return self._export(numbers, targets, weights, executor, artifacts, data_licence, progress)

    def plot(self) -> Figure:
        """Every measured trial and the front, as an interactive plotly figure."""
        from nas.report import pareto_figure

        return pareto_figure(self)

    def report(self, path: str | Path) -> Path:
        """Write one HTML file that needs no network: the plot, the front, the document."""
        from nas.report import write_report

        return write_report(self, Path(path))

    def _export(
        self,
        numbers: Sequence[int],
        targets: Mapping[int, Path],
        weights: Weights,
        executor: ExecutorKind,
        artifacts: str | None,
        data_licence: str,
        progress: bool = False,
    ) -> dict[int, ModelCard]:
        from nas.deploy.deliver import ExportFailed, Order, export, measured_trial, split
        from nas.progress import counted

        trials = [measured_trial(self.all_trials, n) for n in numbers]
        order = Order(self.job, self.study, trials, weights=weights, data_licence=data_licence)
        with counted("exporting", len(trials), progress) as observe:
            cards, reasons = split(export(order, targets, executor, _artifacts(artifacts), observe))
        if reasons:
            raise ExportFailed(reasons, cards)
        return cards

    def _best(self, objective: Objective) -> str:
        """The best value of an objective and its trial, in words; empty where there is none."""
        fitting = [t for t in self.all_trials if t.feasible and objective.metric in t.metrics]
        if not fitting:
            return ""
        best = min(fitting, key=lambda t: (objective.loss(t.metrics[objective.metric]), t.number))
        return f"{objective}: {best.metrics[objective.metric]:.6g} by trial {best.number}"

    def _frame(self, trials: Sequence[Trial]) -> pd.DataFrame:
        return frame_of(trials, self.job.spec.problem.metrics, self.tested)


def frame_of(
    trials: Sequence[Trial], metrics: Sequence[str], tested: Mapping[int, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """One row a trial, `metrics` before all others; `tested` has test metrics by trial number."""
    tested = tested or {}
    first, last = _COLUMNS[:3], _COLUMNS[3:]
    measured = dict.fromkeys([*metrics, *(m for t in trials for m in t.metrics)])
    tests = dict.fromkeys(m for t in trials for m in tested.get(t.number, {}))
    rows = [_row(t, tested.get(t.number, {})) for t in trials]
    return pd.DataFrame(rows, columns=[*first, *measured, *tests, *last])


def _artifacts(url: str | None) -> Artifacts | None:
    from nas.artifacts import Artifacts

    return None if url is None else Artifacts(url)


def _row(trial: Trial, tested: Mapping[str, float]) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.value,
        "architecture": dict(trial.architecture),
        **trial.metrics,
        **tested,
        "feasible": trial.feasible,
        "attempt": trial.attempt,
        "fidelity": trial.proposal.fidelity,
        "reason": trial.reason,
        "seconds": None if trial.finished_at is None else trial.finished_at - trial.created_at,
        "origin": None if trial.origin is None else str(trial.origin),
    }
