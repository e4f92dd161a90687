"""`nas space draw`: one architecture as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.show import BAD_INPUT, fail, faults_told, say
from nas.commands.spaces import Output, Source, load, put

if TYPE_CHECKING:
    from search_spaces import Architecture, Space

Named = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="FILE|NAME=VALUE", help="what is fixed (* matches anything); repeatable"),
]


def draw(
    space: Source,
    values: Named = None,
    seed: Annotated[int, typer.Option(min=0, help="draws what the values leave open")] = 0,
    output: Output = None,
) -> None:
    """Draw one architecture as SVG: its blocks with sizes, costs and bits, its cells as graphs."""
    from search_spaces.declared import DeclaredSpace

    with faults_told():
        found = load(space)
        if not isinstance(found, DeclaredSpace):
            fail(f"{found.name} is a Python space; what is drawn are spaces of documents", BAD_INPUT)
        arch = architecture(found, values or [], seed)

    from search_spaces.drawing import svg

    say(f"key: {arch.key}")
    put(svg(found, arch), output)


def architecture(space: Space, named: Sequence[str], seed: int, number: int = 0) -> Architecture:
    """The architecture with the named values; the rest is drawn by the seed and a number.

    Raises:
        SpecError: for names and values that the space does not have.
    """
    from nas import initial
    from search_spaces import SpecError

    fixed: dict[str, Any] = {}
    for text in named:
        fixed |= _read(text)
    if faults := initial.faults(space, fixed):
        raise SpecError(faults)
    return initial.proposal(space, fixed, seed, number).architecture


def _read(text: str) -> dict[str, Any]:
    """``NAME=VALUE``, or the mapping in a file (also as the `values` or `architecture` of a larger one)."""
    import yaml

    from search_spaces import SpecError
    from search_spaces.load import parse_text, read_document

    if Path(text).is_file():
        document = read_document(Path(text))
        inside = document.get("values", document.get("architecture"))
        return inside if isinstance(inside, dict) else document
    name, equals, value = text.partition("=")
    if not equals:
        raise SpecError.at("--values", f"{text!r} is neither a file nor NAME=VALUE")
    try:
        return {name: parse_text(value)}
    except yaml.YAMLError:
        return {name: value}
