"""The trials of a job, under `/v1/jobs/{id}/trials`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from api import models, pages, queries
from api.access import JobId, Store, Viewer, own_job, while_there
from api.openapi import PROBLEM, refusals
from api.paths import JOB
from api.problems import Refused
from nas import contracts
from nas.trial import Trial
from nas.wire import trace_dict, trial_dict

router = APIRouter(prefix="/v1/jobs", tags=["trials"], responses={"default": PROBLEM})

Number: TypeAlias = Annotated[int, Path(ge=0, lt=2**31)]


@router.get(
    JOB + "/trials",
    response_model=models.TrialList,
    responses=refusals(400, 404, 422),
)
def list_trials(
    store: Store, who: Viewer, job_id: JobId, query: Annotated[queries.TrialPage, Query()]
) -> JSONResponse:
    """Trials of a job: by number, or with `after` those that finished since, in the order in which they did.

    To follow a running job, ask again and again with `after` set to the greatest `order` seen.
    """
    own_job(store, who, job_id)
    with while_there(store, who, job_id):
        found, more = (_by_number if query.after is None else _by_order)(store, job_id, query)
    return JSONResponse({"trials": [trial_dict(t, job_id) for t in found], "next_page_token": more})


@router.get(JOB + "/trials/{number}", response_model=models.TrialInFull, responses=refusals(404, 422))
def get_trial(
    store: Store, who: Viewer, job_id: JobId, number: Number, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """One trial of a job: with its worker, its learning curve, and the end of what its evaluation printed."""
    own_job(store, who, job_id)
    with while_there(store, who, job_id):
        found = store.trials(job_id, after=number - 1, limit=1)
        if not found or found[0].number != number:
            raise Refused(404, f"job {job_id} has no trial {number}")
        trace = store.trace(job_id, number)
    return JSONResponse({**trial_dict(found[0], job_id), **trace_dict(trace)})


_Part: TypeAlias = tuple[Sequence[Trial], str | None]
"""Trials of a page, and the token of the next one."""


def _by_number(store: contracts.Store, job_id: str, query: queries.TrialPage) -> _Part:
    which = contracts.TrialFilter(tuple(query.state), query.feasible, query.key)
    listed = ("trials", job_id, sorted(query.state), query.feasible, query.key)
    start = pages.number(query.page_token, listed) if query.page_token else -1
    found = store.trials(job_id, start, query.page_size + 1, which)
    return pages.cut(found, query.page_size, listed, lambda trial: trial.number)


def _by_order(store: contracts.Store, job_id: str, query: queries.TrialPage) -> _Part:
    listed = ("finished", job_id, query.after)
    start = pages.number(query.page_token, listed) if query.page_token else query.after
    found = store.finished(job_id, -1 if start is None else start, query.page_size + 1)
    return pages.cut(found, query.page_size, listed, lambda trial: trial.order)
