"""Networks of trials as files, under `/v1/exports`. Runners write and check them; the API hands them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from api import models, pages, queries
from api.access import Files, Store, Submitter, Viewer, own_job
from api.body import Document
from api.openapi import PROBLEM, body_of, refusals
from api.paths import EXPORT
from api.problems import Refused, faulty
from api.tokens import IdempotencyKey, digest
from nas import contracts
from nas.access import Principal
from nas.artifacts import Artifacts
from nas.deploy.card import ModelCard, card_json, card_markdown, read_card
from nas.deploy.deliver import check_weights, measured_trial
from nas.deploy.export import CARD, MODEL
from nas.evaluators.training import TrainingConfig
from nas.exports import Export, ExportSpec, ExportState
from nas.job import ID, WrongState
from nas.wire import export_dict
from search_spaces import SpecError

router = APIRouter(prefix="/v1/exports", tags=["exports"], responses={"default": PROBLEM})

ExportId: TypeAlias = Annotated[str, Path(pattern=f"^{ID}$")]
CHUNK = 64 * 1024
"""Bytes of a file that are sent at a time."""


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It waits for a runner; Location names it",
        "headers": {"Location": {"description": "its path", "schema": {"type": "string"}}},
    },
    **refusals(400, 404, 409, 413, 415, 422),
}
_NOT_YET: dict[int | str, dict[str, Any]] = {409: {**PROBLEM, "description": "The export has not SUCCEEDED"}}
_FILE: dict[int | str, dict[str, Any]] = {
    **refusals(404, 409, 422),
    200: {
        "description": "The file; its checks have all passed",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_NOT_YET,
}
_CARD: dict[int | str, dict[str, Any]] = {
    **refusals(404, 409, 422),
    200: {
        "description": "The model card",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": {"name": "digits, trial 4", "trial": 4}},
            "text/markdown": {"schema": {"type": "string"}, "example": "# digits, trial 4\n"},
        },
    },
    **_NOT_YET,
}


@router.post(
    "",
    status_code=202,
    response_model=models.Export,
    responses=_ACCEPTED,
    openapi_extra=body_of("ExportSpec"),
)
def create_export(
    store: Store,
    who: Submitter,
    files: Files,
    document: Document,
    query: Annotated[queries.Query, Query()],
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Have a trial's network written to a file; look at it until it has SUCCEEDED or FAILED."""
    by = who.submitter(key, digest("export", document))
    if known := store.exports.asked(by):  # whatever has become since of all that it depended on
        own_job(store, who, known.spec.job)
        return _accepted(known)
    try:
        spec = ExportSpec.parse(document)
    except SpecError as error:
        raise faulty("document", error.faults) from None
    job = own_job(store, who, spec.job)
    if not isinstance(job.spec.evaluator, TrainingConfig):
        raise WrongState(f"the {job.spec.evaluator.kind} evaluator trains no networks")
    with _there(f"there is no job {spec.job}"):
        found = store.trials(job.id, after=spec.trial - 1, limit=1)
        if not any(trial.number == spec.trial for trial in found):
            raise Refused(404, f"job {job.id} has no trial {spec.trial}")
        measured_trial(found, spec.trial)
        check_weights(job.id, [spec.trial], spec.weights, files)
        return _accepted(store.exports.add(spec, by))


@router.get("", response_model=models.ExportList, responses=refusals(400, 404, 422))
def list_exports(store: Store, who: Viewer, query: Annotated[queries.OfJob, Query()]) -> JSONResponse:
    """The exports of a job, the newest first."""
    job = own_job(store, who, query.job)
    which = ("exports", job.id)
    after = pages.position(query.page_token, which) if query.page_token else None
    found = store.exports.of_job(job.id, after, query.page_size + 1)
    page, more = pages.cut(found, query.page_size, which, lambda item: item.id)
    return JSONResponse({"exports": [export_dict(e) for e in page], "next_page_token": more})


@router.get(EXPORT, response_model=models.Export, responses=refusals(404, 422))
def get_export(
    store: Store, who: Viewer, export_id: ExportId, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """One export."""
    return JSONResponse(export_dict(_own(store, who, export_id)))


@router.post(EXPORT + ":cancel", response_model=models.Export, responses=refusals(404, 409, 422))
def cancel_export(
    store: Store, who: Submitter, export_id: ExportId, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """Have no file made; a runner that is at it stops within about two seconds."""
    export = _own(store, who, export_id)
    with _there(f"there is no export {export.id}"):
        return JSONResponse(export_dict(store.exports.cancel(export.id)))


@router.get(EXPORT + "/file", response_class=StreamingResponse, responses=_FILE)
def get_exported_file(
    store: Store, who: Viewer, files: Files, export_id: ExportId, query: Annotated[queries.Query, Query()]
) -> StreamingResponse:
    """The file."""
    export = _done(store, who, export_id)
    content = _opened(files, export, MODEL)
    headers = {"Content-Disposition": f'attachment; filename="{export.file_name}"'}
    return StreamingResponse(_chunks(content), headers=headers, media_type="application/octet-stream")


@router.get(EXPORT + ":card", response_class=Response, responses=_CARD)
def get_model_card(
    store: Store, who: Viewer, files: Files, export_id: ExportId, query: Annotated[queries.Card, Query()]
) -> Response:
    """The model card of the file: what is in it, where it comes from, and what was checked."""
    export = _done(store, who, export_id)
    with _opened(files, export, CARD) as stream:
        found = read_card(stream.read())
    card: ModelCard = replace(found, file=replace(found.file, name=export.file_name))
    if query.format == "markdown":
        return Response(card_markdown(card), media_type="text/markdown; charset=utf-8")
    return Response(card_json(card), media_type="application/json")


def _accepted(export: Export) -> JSONResponse:
    return JSONResponse(export_dict(export), 202, {"Location": f"/v1/exports/{export.id}"})


def _own(store: contracts.Store, who: Principal, export_id: str) -> Export:
    """An export of a job that exists for this principal. Raises `Refused`, 404."""
    try:
        export = store.exports.export(export_id)
        own_job(store, who, export.spec.job)
    except (KeyError, Refused):  # which job it is of is nobody else's business
        raise Refused(404, f"there is no export {export_id}") from None
    return export


def _done(store: contracts.Store, who: Principal, export_id: str) -> Export:
    """The same, once it has SUCCEEDED. Raises `WrongState` before."""
    export = _own(store, who, export_id)
    if export.state is not ExportState.SUCCEEDED:
        why = f": {export.reason}" if export.reason else ""
        raise WrongState(f"export {export_id} is {export.state}{why}; only a SUCCEEDED one has a file")
    return export


def _opened(files: Artifacts, export: Export, name: str) -> IO[bytes]:
    try:
        return files.open(export.spec.job, f"{export.folder}/{export.spec.trial}/{name}")
    except FileNotFoundError:
        raise Refused(404, f"the file of export {export.id} is not there any more") from None


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK):
            yield chunk


@contextmanager
def _there(told: str) -> Iterator[None]:
    """Has a `KeyError` answered with 404: somebody deleted the job just now."""
    try:
        yield
    except KeyError:
        raise Refused(404, told) from None
