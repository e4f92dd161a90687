"""Whether the process lives and the database answers."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from api import models
from api.jobs import Store
from api.openapi import PROBLEM
from api.problems import unavailable

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=models.Health)
def healthz() -> JSONResponse:
    """The process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=models.Health, responses={503: PROBLEM})
def readyz(store: Store) -> JSONResponse:
    """The database answers, with the tables that are needed."""
    try:
        store.jobs(limit=1)
    except SQLAlchemyError:
        return unavailable()
    return JSONResponse({"status": "ok"})
