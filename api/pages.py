"""Pages of a list: tokens that say where the next page begins, and for which query."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from api.problems import Refused

_DIGEST = 8
Item = TypeVar("Item")


def token(position: str, query: object) -> str:
    """The token of the page that follows `position`; `query` is what else chooses the list (its `repr`)."""
    data = _digest(query) + position.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def position(token: str, query: object) -> str:
    """The position that a token of the same query holds. Raises `Refused`, 400, for any other token."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found = data[_DIGEST:].decode("ascii")
    except ValueError:
        raise bad_token() from None
    if data[:_DIGEST] != _digest(query):
        raise bad_token()
    return found


def number(token: str, query: object) -> int:
    """The position as a number. Raises `Refused`."""
    found = position(token, query)
    if not found.isdecimal() or len(found) > 9:
        raise bad_token()
    return int(found)


def cut(
    found: Sequence[Item], size: int, query: object, position: Callable[[Item], object]
) -> tuple[Sequence[Item], str | None]:
    """The page of what was read, which is one item longer where there are more; and the token of the next one."""
    page = found[:size]
    return page, token(str(position(page[-1])), query) if len(found) > len(page) else None


def bad_token() -> Refused:
    """The answer to a token that this list did not give."""
    return Refused(400, "page_token does not belong to this query; allowed: the next_page_token that it gave")


def _digest(query: object) -> bytes:
    return hashlib.blake2b(repr(query).encode(), digest_size=_DIGEST).digest()
