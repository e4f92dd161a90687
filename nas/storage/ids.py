"""Ids of jobs: short, safe in URLs, and sorted by the time at which they were made."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """18 hexadecimal digits: 13 of microseconds since 1970 (enough until 2112), then 5 at random."""
    return f"{time.time_ns() // 1000:013x}{secrets.randbits(20):05x}"
