"""The `python` family: a space written as a class, named in a document by its import path. For local use."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from search_spaces.document import Section
from search_spaces.faults import SpecError
from search_spaces.space import Space


class PythonDocument(Section):
    """A `Space` object, or a class of one that needs no arguments, as ``package.module:name``."""

    family: Literal["python"]
    """A space written in Python; not over HTTP."""
    object: str
    """Import path of the space or of its class: ``package.module:name``."""
    name: str | None = None
    """What the space is called; the object has a name of its own."""


def load_python(document: PythonDocument) -> Space:
    """Import the space.

    Raises:
        SpecError: at the path `object`.
    """
    module, _, name = document.object.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        space = found() if isinstance(found, type) else found
    except Exception as error:  # importing runs the user's code
        raise SpecError.at("object", f"{document.object!r} cannot be imported: {error}") from None
    if not isinstance(space, Space):
        raise SpecError.at("object", f"{document.object!r} is not a search_spaces.Space")
    return space


def reference(space: Space) -> PythonDocument:
    """The document of a space object: the import path of its class."""
    kind = type(space)
    return PythonDocument(family="python", object=f"{kind.__module__}:{kind.__qualname__}", name=space.name)
