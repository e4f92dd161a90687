"""`Idempotency-Key`: what makes a repeated request the same one."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, TypeAlias

from fastapi import Header

IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[ -~]{1,128}$",
        description="makes a repeated request the same one; printable ASCII",
    ),
]


def digest(*asked: object) -> str:
    """Equal for equal requests, whatever the order of keys and the format that they were written in."""
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()
