"""The functions that the operator lets documents name (``NAS_ALLOWED_FUNCTIONS``), for routes."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request


async def functions_of(request: Request) -> tuple[str, ...]:
    """Their import paths; nothing else is ever imported for a client, and these by runners only."""
    return cast(tuple[str, ...], request.app.state.functions)


Functions: TypeAlias = Annotated[tuple[str, ...], Depends(functions_of)]
