"""A search space as JSON values, as the command line and the HTTP API show it."""

from __future__ import annotations

from typing import Any

from search_spaces.declared import DeclaredSpace
from search_spaces.space import Space


def space_dict(space: Space) -> dict[str, Any]:
    """Name, size, choices with their conditions, and the document of a declared space.

    The size is text: it is exact, and beyond what a JSON number holds.
    """
    described: dict[str, Any] = {
        "name": space.name,
        "size": str(space.size),
        "choices": [
            {
                "name": c.name,
                "values": list(c.values),
                "when": [{"name": w.name, "values": list(w.values)} for w in c.when],
            }
            for c in space.choices
        ],
    }
    if isinstance(space, DeclaredSpace):
        described["document"] = space.document.model_dump(mode="json", exclude_none=True)
    return described
