"""Jobs, under `/v1/jobs`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, Response

from api import models, pages, queries
from api.access import Admin, Files, JobId, Store, Submitter, Viewer, own_job, while_there
from api.allowed import Functions
from api.body import PATCH_TYPES, Document, OptionalPatch, Patch
from api.openapi import ETAG, LOCATION, PROBLEM, body_of, refusals
from api.paths import JOB
from api.problems import faulty
from api.tokens import IdempotencyKey, digest
from api.warm_starts import Taking, Turns
from nas import contracts
from nas.access import Principal
from nas.check import check
from nas.contracts import JobFilter
from nas.edits import cloned, edited
from nas.job import Job, JobSpec, JobState
from nas.warm_start import first_trials, taken_over
from nas.wire import job_dict
from search_spaces import SpecError

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses={"default": PROBLEM})

IfMatch: TypeAlias = Annotated[
    str | None,
    Header(
        alias="If-Match",
        pattern=r'^(\*|"[0-9]{1,9}")$',
        description="the ETag that the job came with; an edit in between is then answered with 412",
    ),
]
NoQuery: TypeAlias = Annotated[queries.Query, Query()]
Submission: TypeAlias = Annotated[queries.Submission, Query()]

_SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Validated, "description": "The document is valid (validate_only)"},
    202: {"description": "The job waits for a runner; Location names it", "headers": {**LOCATION, **ETAG}},
}
_ONE: dict[int | str, dict[str, Any]] = {200: {"headers": ETAG}}
_CHANGE: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Job, "description": "The job is in the state asked for", "headers": ETAG},
    202: {
        "model": models.Job,
        "description": "Its runner has been asked to; look again in a second",
        "headers": ETAG,
    },
    **refusals(404, 409, 422),
}


@router.post(
    "",
    status_code=202,
    response_model=models.Job,
    responses={**_SUBMITTED, **refusals(400, 413, 415, 422)},
    openapi_extra=body_of("JobSpec"),
)
def submit_job(
    who: Submitter,
    store: Store,
    functions: Functions,
    turns: Taking,
    document: Document,
    query: Submission,
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Start a search."""
    by = who.submitter(key, digest("submit", document))
    return _submitted(store, by, query) or _submit(who, store, functions, turns, document, query, by)


@router.get("", response_model=models.JobList, responses=refusals(400, 422))
def list_jobs(who: Viewer, store: Store, query: Annotated[queries.JobPage, Query()]) -> JSONResponse:
    """Jobs, the newest first unless `order_by` says otherwise."""
    states = tuple(sorted(set(query.state)))
    which = JobFilter(states, project=who.project, owner=query.owner, name=query.name)
    asked = ("jobs", which, query.order_by)
    after = pages.position(query.page_token, asked) if query.page_token else None
    oldest_first = query.order_by == "created_at"
    try:
        found = store.jobs(which, after=after, limit=query.page_size + 1, oldest_first=oldest_first)
    except KeyError:
        raise pages.bad_token() from None
    page, more = pages.cut(found, query.page_size, asked, lambda item: item.id)
    return JSONResponse({"jobs": [job_dict(j) for j in page], "next_page_token": more})


@router.get(JOB, response_model=models.Job, responses={**_ONE, **refusals(404, 422)})
def get_job(who: Viewer, store: Store, job_id: JobId, query: NoQuery) -> JSONResponse:
    """One job."""
    return _answer(own_job(store, who, job_id))


@router.patch(
    JOB,
    response_model=models.Job,
    responses={**_ONE, **refusals(400, 404, 409, 412, 413, 415, 422)},
    openapi_extra=body_of("JobPatch", *PATCH_TYPES),
)
def edit_job(
    who: Submitter, store: Store, job_id: JobId, patch: Patch, query: NoQuery, if_match: IfMatch = None
) -> JSONResponse:
    """Change the name or the budget of a job that is not over; its runner takes notice within a second or two."""
    revision = None if if_match in (None, "*") else int(if_match.strip('"'))
    try:
        with while_there(store, who, job_id):
            known = taken_over(store, own_job(store, who, job_id))

            def change(job: Job) -> JobSpec:
                return edited(job, patch, taken_over=known, now=time.time())

            return _answer(store.edit(job_id, change, revision))
    except SpecError as error:
        raise faulty("patch", error.faults) from None


@router.delete(JOB, status_code=204, response_class=Response, responses=refusals(404, 409, 422))
def delete_job(who: Admin, store: Store, files: Files, job_id: JobId, query: NoQuery) -> Response:
    """Forget a job with its trials, predictors, exports and files."""
    own_job(store, who, job_id)
    with while_there(store, who, job_id):
        store.delete(job_id)
    files.delete(job_id)
    return Response(status_code=204)


@router.post(JOB + ":cancel", responses=_CHANGE)
def cancel_job(who: Submitter, store: Store, job_id: JobId, query: NoQuery) -> JSONResponse:
    """End a search. What was measured is kept."""
    return _request(store, who, job_id, "cancel")


@router.post(JOB + ":pause", responses=_CHANGE)
def pause_job(who: Submitter, store: Store, job_id: JobId, query: NoQuery) -> JSONResponse:
    """Stop a search for the time being."""
    return _request(store, who, job_id, "pause")


@router.post(JOB + ":resume", responses=_CHANGE)
def resume_job(who: Submitter, store: Store, job_id: JobId, query: NoQuery) -> JSONResponse:
    """Go on with a search that was paused."""
    return _request(store, who, job_id, "resume")


@router.post(
    JOB + ":clone",
    status_code=202,
    response_model=models.Job,
    responses={**_SUBMITTED, **refusals(400, 404, 413, 415, 422)},
    openapi_extra=body_of("JobClone", *PATCH_TYPES, required=False),
)
def clone_job(
    who: Submitter,
    store: Store,
    functions: Functions,
    turns: Taking,
    job_id: JobId,
    patch: OptionalPatch,
    query: Submission,
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Start a search by the document of another job, with changes; its trials come along by `warm_start` only."""
    by = who.submitter(key, digest("clone", job_id, patch))
    if known := _submitted(store, by, query):
        return known
    document = cloned(own_job(store, who, job_id), patch)
    return _submit(who, store, functions, turns, document, query, by)


def _submitted(store: contracts.Store, by: contracts.Submitter, query: queries.Submission) -> JSONResponse | None:
    """The answer to a repeated submission, whatever has become since of all that it depended on."""
    job = None if query.validate_only else store.submitted(by)
    return None if job is None else _accepted(job)


def _submit(
    who: Principal,
    store: contracts.Store,
    functions: tuple[str, ...],
    turns: Turns,
    document: Mapping[str, Any],
    query: queries.Submission,
    by: contracts.Submitter,
) -> JSONResponse:
    try:
        spec = JobSpec.parse(document)
        space = check(spec, remote=True, functions=functions)
        with turns.take() if spec.warm_start else nullcontext():
            trials = first_trials(store, spec, space, project=who.project, remote=True)
            if query.validate_only:
                return JSONResponse({"spec": spec.dump(), "size": space.size})
            return _accepted(store.submit(spec, trials=trials, by=by))
    except SpecError as error:
        raise faulty("document", error.faults) from None


def _accepted(job: Job) -> JSONResponse:
    return _answer(job, 202, Location=f"/v1/jobs/{job.id}")


def _request(store: contracts.Store, who: Principal, job_id: str, request: contracts.Request) -> JSONResponse:
    own_job(store, who, job_id)
    with while_there(store, who, job_id):
        job = store.request(job_id, request)
    return _answer(job, 202 if job.state in (JobState.CANCELLING, JobState.PAUSING) else 200)


def _answer(job: Job, status: int = 200, **headers: str) -> JSONResponse:
    return JSONResponse(job_dict(job), status, {"ETag": f'"{job.revision}"', **headers})
