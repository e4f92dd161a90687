"""Reading a document from a request: JSON or YAML, of bounded size and depth, of values that JSON holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeAlias

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect
from yaml import YAMLError

from api.problems import Refused, faulty
from search_spaces import Fault
from search_spaces.faults import show
from search_spaces.load import parse_text

MAX_BYTES = 1 << 20
MAX_YAML_BYTES = 1 << 17
"""YAML takes a hundred times longer to read than JSON."""
MAX_DEPTH = 64
MAX_INTEGER = 2**63
JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/merge-patch+json", *JSON_TYPES)
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
UNSAID_TYPES = ("", "application/x-www-form-urlencoded")
"""No type, and the type that ``curl --data-binary @file`` gives to any file: JSON or YAML, as it begins."""


async def body(request: Request) -> bytes:
    """The bytes of the request; reading stops where there are too many."""
    found = bytearray()
    try:
        async for chunk in request.stream():
            found += chunk
            if len(found) > MAX_BYTES:
                raise Refused(413, f"the body is larger than {MAX_BYTES} bytes, which is the limit")
    except ClientDisconnect:
        raise Refused(400, "the body ended early") from None
    return bytes(found)


def content(request: Request, raw: Annotated[bytes, Depends(body)]) -> Any:
    """What the body holds, JSON or YAML.

    Raises:
        Refused: 415 for another content type, 413 for too much, 400 for what cannot be parsed, 422 for what
            holds values that are not text, booleans or finite numbers.
    """
    kind, unsaid = _content_type(request)
    if kind in JSON_TYPES or (unsaid and raw.lstrip().startswith(b"{")):
        return _parsed(raw, "JSON", _parse_json)
    if kind not in YAML_TYPES and not unsaid:
        raise _unread(kind, (*JSON_TYPES, *YAML_TYPES))
    if len(raw) > MAX_YAML_BYTES:
        raise Refused(413, f"YAML of more than {MAX_YAML_BYTES} bytes is not read; send JSON")
    return _parsed(raw, "YAML", parse_text)


def document(found: Annotated[Any, Depends(content)]) -> Mapping[str, Any]:
    """The document in the body. Raises `Refused`, as `content` does, and 422 for what is not a mapping."""
    if not isinstance(found, Mapping):
        raise _wrong((), f"{show(found)} is not a document; a mapping is needed")
    return found


def patch(request: Request, raw: Annotated[bytes, Depends(body)]) -> Mapping[str, Any]:
    """The JSON merge patch (RFC 7396) in the body. Raises `Refused`, as `document` does."""
    kind, unsaid = _content_type(request)
    if kind not in PATCH_TYPES and not unsaid:
        raise _unread(kind, PATCH_TYPES)
    return document(_parsed(raw, "JSON", _parse_json))


def patch_if_any(request: Request, raw: Annotated[bytes, Depends(body)]) -> Mapping[str, Any]:
    """The JSON merge patch in the body, where there is one; else an empty one, which changes nothing."""
    return patch(request, raw) if raw else {}


Content: TypeAlias = Annotated[Any, Depends(content)]
Document: TypeAlias = Annotated[Mapping[str, Any], Depends(document)]
Patch: TypeAlias = Annotated[Mapping[str, Any], Depends(patch)]
OptionalPatch: TypeAlias = Annotated[Mapping[str, Any], Depends(patch_if_any)]


def _content_type(request: Request) -> tuple[str, bool]:
    """The content type, and whether it says nothing."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind, kind in UNSAID_TYPES and "origin" not in request.headers  # no other site's form may post


def _unread(kind: str, allowed: Sequence[str]) -> Refused:
    return Refused(415, f"content type {show(kind)} is not allowed; allowed: {', '.join(allowed)}")


def _parsed(raw: bytes, name: str, parse: Callable[[str], Any]) -> Any:
    """What the bytes hold in the format of this name, of bounded depth. Raises `Refused`."""
    try:
        found = parse(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, YAMLError) as error:
        raise Refused(400, f"the body is not valid {name}: {' '.join(str(error).split())}") from None
    except (AttributeError, LookupError):  # PyYAML's, for !!timestamp and the like before other text
        raise Refused(400, f"the body is not valid {name}: a value does not fit its tag") from None
    _examine(found)
    return found


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_mapping, parse_constant=_not_json)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {show(name)} stands twice")
        found[name] = value
    return found


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _examine(found: object) -> None:
    """Refuse nesting without end, and values that cannot be kept as JSON in a database."""
    pending: list[tuple[tuple[object, ...], object]] = [((), found)]
    while pending:
        path, value = pending.pop()
        if len(path) > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str) or not _is_text(key):
                    raise _wrong(path, f"key {show(key)} is not allowed; keys are text")
                pending.append(((*path, key), inner))
        elif isinstance(value, list):
            pending += [((*path, i), inner) for i, inner in enumerate(value)]
        elif not _is_scalar(value):
            allowed = "text, booleans, finite numbers and integers of 64 bits"
            raise _wrong(path, f"{show(value)} is not allowed; allowed: {allowed}")


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int):
        return -MAX_INTEGER <= value < MAX_INTEGER
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: str) -> bool:
    """Whether the text has neither NUL, which PostgreSQL cannot keep, nor half a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def _wrong(path: tuple[object, ...], message: str) -> Refused:
    return faulty("document", [Fault(".".join(map(str, path)), message)])


def _too_deep() -> Refused:
    return Refused(400, f"the document is nested more than {MAX_DEPTH} levels deep, which is the limit")
