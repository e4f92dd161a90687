"""Whether the process lives, and whether it can do its work.

Query parameters are not looked at here: load balancers and probes add some of their own.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api import models
from api.access import Store
from api.openapi import OPEN_TO_ALL, PROBLEM, refusals
from api.problems import RETRY_AFTER, Refused
from nas.storage import DatabaseOutOfDate, DatabaseTooNew
from nas.storage.migrate import check_schema
from nas.storage.sql import SqlStore

router = APIRouter(tags=["health"], responses={"default": PROBLEM})


@router.get("/healthz", response_model=models.Health, responses=refusals(always=OPEN_TO_ALL))
def healthz() -> JSONResponse:
    """The process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=models.Health, responses=refusals(503, always=OPEN_TO_ALL))
def readyz(store: Store) -> JSONResponse:
    """The database answers, and its schema is the one that this version needs."""
    if isinstance(store, SqlStore):
        try:
            check_schema(store.database)
        except (DatabaseOutOfDate, DatabaseTooNew) as error:
            age = "older" if isinstance(error, DatabaseOutOfDate) else "newer"
            detail = f"the schema of the database is {age} than this version of the service"
            raise Refused(503, detail, headers={"Retry-After": str(RETRY_AFTER)}) from None
    return JSONResponse({"status": "ok"})
