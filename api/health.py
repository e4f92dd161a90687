"""Whether the process lives and the database answers."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api import models
from api.jobs import Store
from api.openapi import PROBLEM

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=models.Health)
def healthz() -> JSONResponse:
    """The process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=models.Health, responses={503: PROBLEM})
def readyz(store: Store) -> JSONResponse:
    """The database answers."""
    store.jobs(limit=1)
    return JSONResponse({"status": "ok"})
