"""Search spaces, under `/v1/spaces`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api import models, queries
from api.access import Viewer
from api.body import Content, Document
from api.openapi import PROBLEM, body_of, refusals
from api.problems import Refused, faulty
from nas.check import REMOTE_FAMILIES
from nas.wire import readable, space_dict, space_summary
from search_spaces import Architecture, Fault, Space, SpecError, load_space, presets
from search_spaces.declared import DeclaredSpace
from search_spaces.faults import did_you_mean, show
from search_spaces.load import document_of, named, preset

MAX_GENES = 1_000_000
"""Choices of all architectures of one answer together."""
_REFUSALS = refusals(400, 413, 415, 422)
"""Of a question with a document."""

router = APIRouter(prefix="/v1/spaces", tags=["spaces"], responses={"default": PROBLEM})


@router.get("", response_model=models.SpaceList, responses=refusals(422))
def list_spaces(who: Viewer, query: Annotated[queries.Query, Query()]) -> JSONResponse:
    """The presets."""
    return JSONResponse({"spaces": [space_summary(_declared(preset(name))) for name in presets()]})


@router.post(
    ":validate",
    response_model=models.Space,
    responses=_REFUSALS,
    openapi_extra=body_of("SpaceOrName"),
)
def validate_space(who: Viewer, source: Content, query: Annotated[queries.Query, Query()]) -> JSONResponse:
    """Check a space document and count its points; nothing is written."""
    with _faults_told():
        return JSONResponse(space_dict(_meant(source)))


@router.post(
    ":sample",
    response_model=models.SampledArchitectures,
    responses=_REFUSALS,
    openapi_extra=body_of("SpaceOrName"),
)
def sample_space(who: Viewer, source: Content, query: Annotated[queries.Draw, Query()]) -> JSONResponse:
    """Draw architectures, uniformly over choices; equal networks may come more than once."""
    with _faults_told():
        space = _meant(source)
        most = MAX_GENES // max(1, len(space.choices))
        if query.count > most:
            raise SpecError.at("", f"has {len(space.choices)} choices; allowed: count up to {most}")
    drawn = [{"architecture": readable(a), "key": a.key} for a in space.sample(query.count, query.seed)]
    return JSONResponse({"architectures": drawn})


@router.post(
    ":cost",
    response_model=models.Costs,
    responses=_REFUSALS,
    openapi_extra=body_of("SpaceCostQuery"),
)
def cost_of_architectures(
    who: Viewer, document: Document, query: Annotated[queries.Query, Query()]
) -> JSONResponse:
    """What formulas say of architectures; nothing is built or trained."""
    with _faults_told():
        space, architectures = _asked(document)
    costs = space.costs(space.canonical_genes(space.genes(architectures)))
    rows = zip(*(column.tolist() for column in costs.values()), strict=True)
    return JSONResponse({"costs": [dict(zip(costs, row, strict=True)) for row in rows]})


@router.get("/{name}", response_model=models.Space, responses=refusals(404, 422))
def get_space(who: Viewer, name: str, query: Annotated[queries.Query, Query()]) -> JSONResponse:
    """A preset or, where no preset is called so, a reference network: a space of one point."""
    try:
        document = named(name)
    except FileNotFoundError as error:
        raise Refused(404, str(error)) from None
    return JSONResponse(space_dict(_declared(document)))


@contextmanager
def _faults_told() -> Iterator[None]:
    """Has what is wrong with the document answered with 422."""
    try:
        yield
    except SpecError as error:
        raise faulty("document", error.faults) from None


def _asked(document: Mapping[str, Any]) -> tuple[Space, list[Architecture]]:
    """The space and the architectures of a question about costs. Raises `SpecError`."""
    allowed = ("space", "architectures")
    unknown = f"unknown key; allowed: {', '.join(allowed)}"
    faults = [Fault(key, f"{unknown}{did_you_mean(key, allowed)}") for key in document if key not in allowed]
    faults += [Fault(key, "is required") for key in allowed if key not in document]
    if faults:
        raise SpecError(faults)
    wanted = document["architectures"]
    try:
        space = _meant(document["space"])
    except SpecError as error:
        raise error.under("space") from None
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= queries.MAX_ARCHITECTURES:
        message = (
            f"{show(wanted)} is not allowed; allowed: a list of 1 to {queries.MAX_ARCHITECTURES} architectures"
        )
        raise SpecError.at("architectures", message)
    return space, [_architecture(space, values, f"architectures.{i}") for i, values in enumerate(wanted)]


def _architecture(space: Space, values: object, path: str) -> Architecture:
    if not isinstance(values, Mapping):
        raise SpecError.at(path, f"{show(values)} is not allowed; allowed: values by the names of choices")
    if len(values) > len(space.choices):
        raise SpecError.at(path, f"has {len(values)} values; {space.name} has {len(space.choices)} choices")
    try:
        return space.architecture(values)
    except SpecError as error:
        raise error.under(path) from None


def _meant(source: object) -> DeclaredSpace:
    """The space that a client names or writes down. Raises `SpecError`."""
    try:
        document = document_of(source)
    except FileNotFoundError as error:
        raise SpecError.at("", str(error)) from None
    if not isinstance(document, Mapping):
        raise SpecError.at("", f"{show(source)} is not a space; allowed: its name, or its document")
    return _declared(document)


def _declared(document: Mapping[str, Any]) -> DeclaredSpace:
    """The space of a document, which may name no code."""
    if document.get("family") == "python":
        raise SpecError.at("family", f"'python' is not allowed over HTTP; allowed: {', '.join(REMOTE_FAMILIES)}")
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    return space
