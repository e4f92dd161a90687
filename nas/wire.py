"""Jobs, trials, fronts and spaces as JSON values: what the HTTP API answers and what `--json` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nas.job import Job, JobState
from nas.pareto import ParetoFront
from nas.trial import Trace, Trial, TrialState
from search_spaces import Architecture, Choice
from search_spaces.declared import DeclaredSpace
from search_spaces.domains import Value

if TYPE_CHECKING:
    from nas.entrants import JointFront
    from nas.exports import Export
    from nas.fitted import FittedPredictor
    from nas.predictor_quality import PredictorQuality
    from predictors.contract import Prediction


def job_dict(job: Job) -> dict[str, Any]:
    """A job. What ended it is `error` where it is FAILED or CANCELLED, and else `reason`."""
    said = "error" if job.state in (JobState.FAILED, JobState.CANCELLED) else "reason"
    return {
        "id": job.id,
        "name": job.spec.name,
        "state": job.state.value,
        said: job.reason,
        "counts": {state.value: job.counts.get(state, 0) for state in TrialState},
        "spec": job.spec.dump(),
        "created_at": time(job.created_at),
        "started_at": time(job.started_at),
        "finished_at": time(job.finished_at),
        "project": job.project,
        "owner": job.owner,
        "revision": job.revision,
    }


def trial_dict(trial: Trial, job_id: str) -> dict[str, Any]:
    """A trial of a job. Why it has no metrics is `infeasible_reason` where it is INFEASIBLE, and else `reason`."""
    said = "infeasible_reason" if trial.state is TrialState.INFEASIBLE else "reason"
    return {
        "job": job_id,
        "number": trial.number,
        "state": trial.state.value,
        said: trial.reason,
        "architecture": readable(trial.architecture),
        "key": trial.architecture.key,
        "metrics": dict(trial.metrics),
        "feasible": trial.feasible,
        "order": trial.order,
        "attempt": trial.attempt,
        "fidelity": trial.proposal.fidelity,
        "origin": None if trial.origin is None else asdict(trial.origin),
        "created_at": time(trial.created_at),
        "finished_at": time(trial.finished_at),
    }


def trace_dict(trace: Trace | None) -> dict[str, Any]:
    """How an evaluation went: what one trial has beside `trial_dict`."""
    if trace is None:
        return {"worker": None, "started_at": None, "curve": [], "log": ""}
    return {
        "worker": trace.worker,
        "started_at": time(trace.started_at),
        "curve": [{"step": step, "metrics": dict(metrics)} for step, metrics in trace.curve],
        "log": trace.log,
    }


def front_dict(front: ParetoFront, job_id: str, reference: Sequence[float] | None = None) -> dict[str, Any]:
    """A front of a job, with its hypervolume up to `reference` (None: the worst value seen of each objective).

    Raises:
        ValueError: for a reference that has not one value an objective.
    """
    trials = [trial_dict(t, job_id) for t in front.trials]
    return joint_front_dict(front, trials, front.hypervolume(reference), reference)


def joint_front_dict(
    front: ParetoFront | JointFront,
    trials: Sequence[Mapping[str, Any]],
    hypervolume: float,
    reference: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A front whose trials, as `trial_dict` gives them, and whose hypervolume are known."""
    point = reference if reference is not None else front.reference
    return {
        "trials": list(trials),
        "hypervolume": _volume(hypervolume),
        "hypervolume_exact": front.exact,
        "reference": None if point is None else list(point),
        "objectives": [str(o) for o in front.problem.objectives],
        "constraints": [str(c) for c in front.problem.constraints],
    }


def history_dict(history: Iterable[tuple[int, float]]) -> list[dict[str, Any]]:
    """How the hypervolume grew: after so many finished trials it was this."""
    return [{"trials": trials, "hypervolume": _volume(volume)} for trials, volume in history]


def _volume(volume: float) -> float | None:
    return volume if math.isfinite(volume) else None  # metrics near the largest double


def quality_dict(found: PredictorQuality) -> dict[str, Any]:
    """How well predictors did: of each figure its `value`, and `low` and `high`, the ends of its 90% interval."""
    rows = [
        {
            "metric": j.metric,
            "trials": j.trials,
            "judged_on": j.judged_on,
            "count": j.quality.count,
            **{name: asdict(figure) for name, figure in j.figures.items()},
        }
        for j in found.judgements
    ]
    return {"predictor_quality": rows, "remarks": list(found.remarks)}


def predictor_dict(predictor: FittedPredictor) -> dict[str, Any]:
    """A predictor of a job, with its quality as `quality_dict` gives it, once it is READY."""
    return {
        "id": predictor.id,
        "job": predictor.job_id,
        "metrics": list(predictor.metrics),
        "trials": predictor.trials,
        "state": predictor.state.value,
        "reason": predictor.reason,
        "quality": predictor.quality,
        "created_at": time(predictor.created_at),
    }


def export_dict(export: Export) -> dict[str, Any]:
    """A trial's network as a file, or on the way to be one."""
    return {
        "id": export.id,
        **export.spec.model_dump(mode="json"),
        "state": export.state.value,
        "reason": export.reason,
        "attempt": export.attempt,
        "file": export.file_name,
        "created_at": time(export.created_at),
        "finished_at": time(export.finished_at),
    }


def predictions(found: Prediction, metrics: Sequence[str]) -> list[dict[str, dict[str, float]]]:
    """What is expected of each architecture: of every metric its `mean` and `std`."""
    return [
        {metric: {"mean": m, "std": s} for metric, m, s in zip(metrics, means, stds, strict=True)}
        for means, stds in zip(found.mean.tolist(), found.std.tolist(), strict=True)
    ]


def space_summary(space: DeclaredSpace) -> dict[str, Any]:
    """A space in one line: its name, its family, and the number of its gene tuples (exact, however large)."""
    return {"name": space.name, "family": _document(space)["family"], "size": space.size}


def space_dict(space: DeclaredSpace) -> dict[str, Any]:
    """A space with its document, defaults filled in, and its choices with their conditions."""
    return {
        **space_summary(space),
        "document": _document(space),
        "choices": [choice_dict(c) for c in space.choices],
    }


def readable(architecture: Architecture) -> dict[str, Value]:
    """The choices that have an effect, by name."""
    genes = zip(architecture.choices, architecture.genes, strict=True)
    values = {choice.name: choice.values[gene] for choice, gene in genes}
    return {name: values[name] for name in architecture}


def time(seconds: float | None) -> str | None:
    """Unix time as RFC 3339 in UTC, with milliseconds: ``2026-11-20T21:17:05.250Z``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def choice_dict(choice: Choice) -> dict[str, Any]:
    """A choice with its values and the conditions under which it has an effect."""
    return {
        "name": choice.name,
        "values": list(choice.values),
        "when": [{"name": w.name, "values": list(w.values)} for w in choice.when],
    }


def _document(space: DeclaredSpace) -> dict[str, Any]:
    return space.document.model_dump(mode="json", exclude_none=True)
