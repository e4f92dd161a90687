"""Predictors of a job's metrics, under `/v1/predictors`. They are fitted and asked in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from api import models, pages, queries
from api.access import Admin, Store, Submitter, Viewer, own_job
from api.body import Document
from api.openapi import PROBLEM, SECONDS, body_of, refusals
from api.paths import PREDICTOR
from api.problems import Refused, faulty
from nas import contracts
from nas.access import Principal
from nas.fit_line import Busy
from nas.fitted import FittedPredictor
from nas.job import ID
from nas.predictor_desk import PredictorDesk, Unavailable
from nas.predictor_documents import Candidates, PredictorSpec
from nas.wire import predictions, predictor_dict
from search_spaces import SpecError

router = APIRouter(prefix="/v1/predictors", tags=["predictors"], responses={"default": PROBLEM})

PredictorId: TypeAlias = Annotated[str, Path(pattern=f"^{ID}$")]
FIT_SECONDS, ANSWER_SECONDS = 10, 5
"""When it is worth trying again: to have one more fitted, and to ask one that gave no answer."""


async def _desk(request: Request) -> PredictorDesk:
    return cast(PredictorDesk, request.app.state.desk)


Desk: TypeAlias = Annotated[PredictorDesk, Depends(_desk)]


@router.post(
    "",
    status_code=202,
    response_model=models.Predictor,
    responses={
        202: {
            "description": "It is being fitted; Location names it",
            "headers": {"Location": {"description": "its path", "schema": {"type": "string"}}},
        },
        **refusals(400, 404, 413, 415, 422),
    },
    openapi_extra=body_of("PredictorSpec"),
)
def fit_predictor(
    store: Store, who: Submitter, desk: Desk, document: Document, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """Have a predictor fitted on a job's trials; look at it until it is READY or FAILED."""
    with _refusals():
        spec = PredictorSpec.parse(document)
        made = desk.fit(own_job(store, who, spec.job), spec)
    return JSONResponse(predictor_dict(made), 202, {"Location": f"/v1/predictors/{made.id}"})


@router.get("", response_model=models.PredictorList, responses=refusals(400, 404, 422))
def list_predictors(store: Store, who: Viewer, query: Annotated[queries.OfJob, Query()]) -> JSONResponse:
    """The predictors of a job, the newest first."""
    job = own_job(store, who, query.job)
    which = ("predictors", job.id)
    after = pages.position(query.page_token, which) if query.page_token else None
    found = store.shelf.of_job(job.id, after, query.page_size + 1)
    page, more = pages.cut(found, query.page_size, which, lambda item: item.id)
    return JSONResponse({"predictors": [predictor_dict(p) for p in page], "next_page_token": more})


@router.get(PREDICTOR, response_model=models.Predictor, responses=refusals(404, 422))
def get_predictor(
    store: Store, who: Viewer, desk: Desk, predictor_id: PredictorId, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """One predictor, with its quality once it is READY."""
    return JSONResponse(predictor_dict(desk.look(_own(store, who, predictor_id))))


@router.delete(PREDICTOR, status_code=204, response_class=Response, responses=refusals(404, 422))
def delete_predictor(
    store: Store, who: Admin, predictor_id: PredictorId, query: Annotated[queries.Query, Query()]
) -> Response:
    """Forget a predictor."""
    _own(store, who, predictor_id)
    with _refusals():
        store.shelf.remove(predictor_id)
    return Response(status_code=204)


@router.post(
    PREDICTOR + ":predict",
    response_model=models.Predictions,
    responses={
        **refusals(400, 404, 409, 413, 415, 422),
        409: {**PROBLEM, "description": "The predictor is not READY"},
        503: {
            **PROBLEM,
            "description": "The predictor is not at hand within the time limit, or the database does not answer; "
            "see Retry-After",
            "headers": SECONDS,
        },
    },
    openapi_extra=body_of("Candidates"),
)
def predict(
    store: Store,
    who: Viewer,
    desk: Desk,
    predictor_id: PredictorId,
    document: Document,
    query: Annotated[queries.Query, Query()],
) -> JSONResponse:
    """What is expected of architectures, in the order given."""
    predictor = desk.look(_own(store, who, predictor_id))
    with _refusals():
        found = desk.predict(predictor, Candidates.parse(document))
    return JSONResponse({"predictions": predictions(found, predictor.metrics)})


def _own(store: contracts.Store, who: Principal, predictor_id: str) -> FittedPredictor:
    """A predictor of a job that exists for this principal. Raises `Refused`, 404."""
    try:
        predictor = store.shelf.predictor(predictor_id)
        own_job(store, who, predictor.job_id)
    except (KeyError, Refused):  # which job it is of is nobody else's business
        raise Refused(404, f"there is no predictor {predictor_id}") from None
    return predictor


@contextmanager
def _refusals() -> Iterator[None]:
    """Has what the desk raises answered with problems."""
    try:
        yield
    except SpecError as error:
        raise faulty("document", error.faults) from None
    except KeyError:  # deleted by somebody else a moment ago
        raise Refused(404, "the job or the predictor is not there any more") from None
    except Busy as error:
        raise Refused(429, f"{error}; try again", headers={"Retry-After": str(FIT_SECONDS)}) from None
    except Unavailable as error:
        raise Refused(503, f"{error}; try again", headers={"Retry-After": str(ANSWER_SECONDS)}) from None
