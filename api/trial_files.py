"""The trials of a job as a file, under `/v1/jobs/{id}/trials:export`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api import queries
from api.access import JobId, Store, Viewer, own_job, while_there
from api.openapi import PROBLEM, refusals
from api.paths import JOB
from api.problems import Refused
from nas import contracts
from nas.job import Job
from nas.trial import Trial
from nas.trial_files import Format, TrialTable, csv_text, json_text, parquet_bytes
from search_spaces import SpecError
from search_spaces.load import space_of

PAGE = 1000
"""Trials that are held at a time."""
ROWS = 5000
"""Trials of a row group of Parquet."""
_NONE_LATER = 2**31 - 1
MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_TEXT = {
    "schema": {"type": "string"},
    "example": "number,state,architecture.edge_0_1,metrics.macs\r\n0,SUCCEEDED,nor_conv_3x3,7783042.0\r\n",
}
_ROWS = {
    "schema": {"type": "array", "items": {"type": "object"}},
    "example": [
        {
            "number": 0,
            "state": "SUCCEEDED",
            "architecture.edge_0_1": "nor_conv_3x3",
            "metrics.macs": 7783042.0,
        }
    ],
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One row a trial, by number: every choice as `architecture.<choice>`, every metric as "
        "`metrics.<name>`",
        "content": {
            "text/csv": _TEXT,
            "application/json": _ROWS,
            "application/vnd.apache.parquet": _FILE,
        },
    },
    **refusals(404, 409, 422),
}


class Cut(Exception):
    """What is missing of a file cannot be sent; the server cuts the connection, so it does not look complete."""


router = APIRouter(prefix="/v1/jobs", tags=["trials"], responses={"default": PROBLEM})


@router.get(JOB + "/trials:export", response_class=StreamingResponse, responses=_RESPONSES)
def export_trials(
    store: Store, who: Viewer, job_id: JobId, query: Annotated[queries.TrialFile, Query()]
) -> StreamingResponse:
    """All trials of a job as one file: CSV, JSON (an array of flat objects), or Parquet."""
    job = own_job(store, who, job_id)
    with while_there(store, who, job_id):
        table = _table(store, job)
    name = f"trials-{job.id}.{query.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(
        _content(store, table, query.format), headers=headers, media_type=MEDIA_TYPES[query.format]
    )


def _table(store: contracts.Store, job: Job) -> TrialTable:
    """The columns. Raises `Refused`, 409, where the job's space is Python code that is not here."""
    try:
        space = space_of(job.spec.space, job.spec.name)
    except SpecError as error:
        raise Refused(409, f"the space of job {job.id} cannot be read here: {error}") from None
    metrics = store.measurements(job.id, after=_NONE_LATER).names
    return TrialTable(job.id, space.choices, metrics)


def _content(store: contracts.Store, table: TrialTable, format: Format) -> Iterable[str | bytes]:
    if format is Format.CSV:
        return csv_text(table, _pages(store, table.job, PAGE))
    if format is Format.JSON:
        return json_text(table, _pages(store, table.job, PAGE))
    return parquet_bytes(table, _pages(store, table.job, ROWS))


def _pages(store: contracts.Store, job_id: str, size: int) -> Iterator[Sequence[Trial]]:
    """All trials by number. Raises `Cut` where the job is deleted meanwhile."""
    last = -1
    while True:
        try:
            page = store.trials(job_id, last, size)
        except KeyError:
            raise Cut(f"job {job_id} was deleted while its trials were sent") from None
        yield page
        if len(page) < size:
            return
        last = page[-1].number
