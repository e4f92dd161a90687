"""What an architecture is: the declarative language, genes, operators, encodings, exact costs and builders."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from search_spaces.architecture import Architecture, Choice, Condition
from search_spaces.faults import Fault, SpecError
from search_spaces.space import BuildError, Space

if TYPE_CHECKING:
    from search_spaces.load import load_reference, load_space, presets, references
    from search_spaces.recipe import Recipe

# The language of all families is read when a document is first loaded.
_HOME = {
    "Recipe": "search_spaces.recipe",
    "load_reference": "search_spaces.load",
    "load_space": "search_spaces.load",
    "presets": "search_spaces.load",
    "references": "search_spaces.load",
}

__all__ = [
    "Architecture",
    "BuildError",
    "Choice",
    "Condition",
    "Fault",
    "Recipe",
    "Space",
    "SpecError",
    "load_reference",
    "load_space",
    "presets",
    "references",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
