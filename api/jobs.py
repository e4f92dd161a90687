"""Jobs, their trials and their fronts, under `/v1/jobs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias, cast

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.convertors import Convertor, register_url_convertor

from api import models, pages
from api.body import Document
from api.fronts import Fronts
from api.openapi import PROBLEM, body_of
from api.problems import Refused, faulty
from nas import contracts
from nas.check import check
from nas.job import ID, Job, JobSpec, JobState
from nas.warm_start import first_trials
from nas.wire import front_dict, job_dict, trial_dict
from search_spaces import Fault, SpecError


class _Id(Convertor[str]):
    """What a job's id can be in a path: no colon, which a verb stands behind."""

    regex = ID

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job", _Id())
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses={"default": PROBLEM})


def _store(request: Request) -> contracts.Store:
    return cast(contracts.Store, request.app.state.store)


def _fronts(request: Request) -> Fronts:
    return cast(Fronts, request.app.state.fronts)


Store: TypeAlias = Annotated[contracts.Store, Depends(_store)]
JobId: TypeAlias = Annotated[str, Path(pattern=f"^{_Id.regex}$")]
Number: TypeAlias = Annotated[int, Path(ge=0, lt=2**31)]


@router.post(
    "",
    status_code=202,
    response_model=models.Job,
    responses={
        200: {"model": models.Validated, "description": "The document is valid (validate_only)"},
        202: {"description": "The job waits for a runner; Location names it"},
        413: PROBLEM,
        415: PROBLEM,
        422: PROBLEM,
    },
    openapi_extra=body_of("JobSpec"),
)
def submit_job(store: Store, document: Document, query: Annotated[models.Submission, Query()]) -> JSONResponse:
    """Start a search."""
    try:
        spec = JobSpec.parse(document)
        space = check(spec, remote=True)
        trials = first_trials(store, spec, space)
    except SpecError as error:
        raise faulty("document", error.faults) from None
    if query.validate_only:
        return JSONResponse({"spec": spec.dump(), "size": space.size})
    job = store.submit(spec, trials=trials)
    return JSONResponse(job_dict(job), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get("", response_model=models.JobList, responses={400: PROBLEM, 422: PROBLEM})
def list_jobs(store: Store, query: Annotated[models.JobPage, Query()]) -> JSONResponse:
    """Jobs, the newest first."""
    which = ("jobs", sorted(query.state))
    after = pages.position(query.page_token, which) if query.page_token else None
    try:
        found = store.jobs(query.state, after=after, limit=query.page_size + 1)
    except KeyError:
        raise pages.bad_token() from None
    page = found[: query.page_size]
    more = pages.token(page[-1].id, which) if len(found) > len(page) else None
    return JSONResponse({"jobs": [job_dict(j) for j in page], "next_page_token": more})


@router.get("/{job_id:job}", response_model=models.Job, responses={404: PROBLEM})
def get_job(store: Store, job_id: JobId) -> JSONResponse:
    """One job."""
    with _known(job_id):
        return JSONResponse(job_dict(store.job(job_id)))


_CHANGE: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Job, "description": "The job is in the state asked for"},
    202: {
        "model": models.Job,
        "description": "Its runner has been asked to; look again in a second",
    },
    404: PROBLEM,
    409: PROBLEM,
}


@router.post("/{job_id:job}:cancel", responses=_CHANGE)
def cancel_job(store: Store, job_id: JobId) -> JSONResponse:
    """End a search. What was measured is kept."""
    return _request(store, job_id, "cancel")


@router.post("/{job_id:job}:pause", responses=_CHANGE)
def pause_job(store: Store, job_id: JobId) -> JSONResponse:
    """Stop a search for the time being."""
    return _request(store, job_id, "pause")


@router.post("/{job_id:job}:resume", responses=_CHANGE)
def resume_job(store: Store, job_id: JobId) -> JSONResponse:
    """Go on with a search that was paused."""
    return _request(store, job_id, "resume")


@router.get(
    "/{job_id:job}/trials",
    response_model=models.TrialList,
    responses={400: PROBLEM, 404: PROBLEM, 422: PROBLEM},
)
def list_trials(store: Store, job_id: JobId, query: Annotated[models.Page, Query()]) -> JSONResponse:
    """Trials of a job, by number."""
    which = ("trials", job_id)
    after = pages.number(query.page_token, which) if query.page_token else -1
    with _known(job_id):
        found = store.trials(job_id, after=after, limit=query.page_size + 1)
    page = found[: query.page_size]
    more = pages.token(str(page[-1].number), which) if len(found) > len(page) else None
    return JSONResponse({"trials": [trial_dict(t) for t in page], "next_page_token": more})


@router.get("/{job_id:job}/trials/{number}", response_model=models.Trial, responses={404: PROBLEM})
def get_trial(store: Store, job_id: JobId, number: Number) -> JSONResponse:
    """One trial of a job."""
    with _known(job_id):
        found = store.trials(job_id, after=number - 1, limit=1)
    if not found or found[0].number != number:
        raise Refused(404, f"job {job_id} has no trial {number}")
    return JSONResponse(trial_dict(found[0]))


@router.get(
    "/{job_id:job}/pareto-front",
    response_model=models.ParetoFront,
    responses={404: PROBLEM, 422: PROBLEM},
)
def get_pareto_front(
    store: Store,
    fronts: Annotated[Fronts, Depends(_fronts)],
    job_id: JobId,
    query: Annotated[models.FrontQuery, Query()],
) -> JSONResponse:
    """The best trade-offs found by now."""
    with _known(job_id):
        front = fronts.of(store.job(job_id))
    wanted, given = len(front.problem.objectives), len(query.reference)
    if given not in (0, wanted):
        raise faulty("query", [Fault("reference", f"has {given} values; allowed: {wanted}, one an objective")])
    return JSONResponse(front_dict(front, query.reference or None))


def _request(store: contracts.Store, job_id: str, request: contracts.Request) -> JSONResponse:
    with _known(job_id):
        job: Job = store.request(job_id, request)
    status = 202 if job.state in (JobState.CANCELLING, JobState.PAUSING) else 200
    return JSONResponse(job_dict(job), status)


@contextmanager
def _known(job_id: str) -> Iterator[None]:
    """Has a store's `KeyError` answered with 404."""
    try:
        yield
    except KeyError:
        raise Refused(404, f"there is no job {job_id}") from None
