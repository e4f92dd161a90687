"""The Pareto front of a job, or of several, under `/v1/jobs/{id}/pareto-front`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api import kept_fronts, models, queries
from api.access import JobId, Store, Viewer, own_job, while_there
from api.openapi import PROBLEM, refusals
from api.paths import JOB
from api.problems import faulty
from nas.entrants import best
from nas.job import Job
from nas.objectives import Constraint, Objective, Problem
from nas.wire import history_dict, joint_front_dict
from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean

router = APIRouter(prefix="/v1/jobs", tags=["trials"], responses={"default": PROBLEM})


def _fronts(request: Request) -> kept_fronts.Fronts:
    return cast(kept_fronts.Fronts, request.app.state.fronts)


Fronts: TypeAlias = Annotated[kept_fronts.Fronts, Depends(_fronts)]


@router.get(
    JOB + "/pareto-front",
    response_model=models.ParetoFront,
    responses=refusals(404, 422),
)
def get_pareto_front(
    store: Store, who: Viewer, fronts: Fronts, job_id: JobId, query: Annotated[queries.FrontQuery, Query()]
) -> Response:
    """The best trade-offs found by now, for the document's objectives and constraints or for others.

    With `job`, those of further jobs together with this one's, as if they had run one after the other.
    """
    jobs = [own_job(store, who, name) for name in dict.fromkeys([job_id, *query.job])]
    asked = _Asked.of(query, jobs[0].spec.problem)
    with while_there(store, who, *(job.id for job in jobs)):
        front, names = fronts.of(jobs, asked.problem)
    asked.must_be_measured(names)
    reference = query.reference or None
    figures = joint_front_dict(front, (), fronts.hypervolume(front, reference), reference)
    answer = {name: _json(value) for name, value in figures.items()}
    answer["trials"] = b"[" + b",".join(fronts.trials(jobs, front.members)) + b"]"
    if asked.pick is not None:
        answer["picked"] = next(iter(fronts.trials(jobs, _best(fronts, jobs, asked.pick))), b"null")
    if query.history:
        answer["history"] = _json(history_dict(fronts.history(front, reference)))
    members = (_json(name) + b":" + text for name, text in answer.items())
    return Response(b"{" + b",".join(members) + b"}", media_type="application/json")


@dataclass(frozen=True)
class _Asked:
    """The query, read."""

    problem: Problem
    pick: Problem | None
    """One objective, and the bounds to keep."""
    places: Sequence[tuple[str, str]]
    """Each metric that the query names, and where."""

    @classmethod
    def of(cls, query: queries.FrontQuery, documents: Problem) -> _Asked:
        """What is asked; what the query leaves out is as in the document. Raises `Refused`, 422."""
        faults: list[Fault] = []
        objectives = _parsed("objective", query.objective, Objective.parse, faults)
        constraints = _parsed("constraint", query.constraint, Constraint.parse, faults)
        wanted = _parsed("pick", query.pick[:1], Objective.parse, faults)
        bounds = _parsed("pick", query.pick[1:], Constraint.parse, faults, first=1)
        named = [(f"objective.{i}", o.metric) for i, o in enumerate(objectives)]
        places = [
            *named,
            *((f"constraint.{i}", c.metric) for i, c in enumerate(constraints)),
            *(("pick.0", o.metric) for o in wanted),
            *((f"pick.{i}", c.metric) for i, c in enumerate(bounds, start=1)),
        ]
        faults += _twice(named)
        problem = Problem(tuple(objectives) or documents.objectives, tuple(constraints) or documents.constraints)
        count = len(query.objective) or len(documents.objectives)
        if len(query.reference) not in (0, count):
            said = f"has {len(query.reference)} values; allowed: {count}, one an objective"
            faults.append(Fault("reference", said))
        if faults:
            raise faulty("query", faults)
        pick = Problem(tuple(wanted), (*problem.constraints, *bounds)) if wanted else None
        return cls(problem, pick, places)

    def must_be_measured(self, names: frozenset[str]) -> None:
        """Raises `Refused`, 422, for metrics that no trial has, once there are trials that have any."""
        known = sorted(names)
        faults = [
            Fault(path, f"no trial has {metric}; measured were {', '.join(known)}{did_you_mean(metric, known)}")
            for path, metric in self.places
            if known and metric not in names
        ]
        if faults:
            raise faulty("query", faults)


T = TypeVar("T", Objective, Constraint)


def _parsed(
    name: str, texts: Sequence[str], parse: Callable[[object], T], faults: list[Fault], first: int = 0
) -> list[T]:
    """The values of a parameter that may stand several times; faults are added."""
    found: list[T] = []
    for i, text in enumerate(texts, start=first):
        try:
            found.append(parse(text))
        except SpecError as error:
            faults += [Fault(f"{name}.{i}", fault.message) for fault in error.faults]
    return found


def _twice(named: Sequence[tuple[str, str]]) -> list[Fault]:
    metrics = [metric for _, metric in named]
    return [
        Fault(path, f"{metric} stands twice; allowed: each metric once")
        for i, (path, metric) in enumerate(named)
        if metric in metrics[:i]
    ]


def _best(fronts: kept_fronts.Fronts, jobs: Sequence[Job], pick: Problem) -> list[tuple[int, int]]:
    """The best trial of all jobs, or none; of equal ones that of the job named first, and its first by number."""
    (wanted,) = pick.objectives
    found = [(best(fronts.measured(job), wanted, pick.constraints), place) for place, job in enumerate(jobs)]
    ranked = sorted((row[0], place, row[1]) for row, place in found if row is not None)
    return [(place, number) for _, place, number in ranked[:1]]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
