"""Search spaces, under `/v1/spaces`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api import models
from api.body import Document
from api.openapi import PROBLEM, body_of
from api.problems import Refused, faulty
from nas.wire import space_dict, space_summary
from search_spaces import SpecError, load_space, presets
from search_spaces.declared import DeclaredSpace
from search_spaces.load import named, preset

router = APIRouter(prefix="/v1/spaces", tags=["spaces"], responses={"default": PROBLEM})


@router.get("", response_model=models.SpaceList)
def list_spaces() -> JSONResponse:
    """The presets."""
    return JSONResponse({"spaces": [space_summary(_declared(preset(name))) for name in presets()]})


@router.post(
    ":validate",
    response_model=models.Space,
    responses={413: PROBLEM, 415: PROBLEM, 422: PROBLEM},
    openapi_extra=body_of("SpaceDocument"),
)
def validate_space(document: Document) -> JSONResponse:
    """Check a space document and count its points; nothing is written."""
    try:
        space = _declared(document)
    except SpecError as error:
        raise faulty("document", error.faults) from None
    return JSONResponse(space_dict(space))


@router.get("/{name}", response_model=models.Space, responses={404: PROBLEM})
def get_space(name: str) -> JSONResponse:
    """A preset or, where no preset is called so, a reference network: a space of one point."""
    try:
        document = named(name)
    except FileNotFoundError as error:
        raise Refused(404, str(error)) from None
    return JSONResponse(space_dict(_declared(document)))


def _declared(document: Mapping[str, Any]) -> DeclaredSpace:
    """The space of a document, which may name no code."""
    if document.get("family") == "python":
        raise SpecError.at("family", "'python' is not allowed over HTTP; allowed: staged, cell, transformer, mlp")
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    return space
