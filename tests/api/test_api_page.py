"""docs/http-api.md names every route with its role, every error and every limit, as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from api import create_app
from api.capabilities import LIMITS
from api.guard import Guard
from api.problems import CODES
from nas.access import Role, new_key
from nas.storage.memory import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
ROUTES = re.findall(r"^\| `([A-Z]+) (/\S*)` \| (\w+) \|", PAGE, re.MULTILINE)


def test_every_route_is_there() -> None:
    paths = create_app(MemoryStore()).openapi()["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {(method, path) for method, path, _ in ROUTES} == known


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_roles_are_what_the_routes_take(new_client: Any, method: str, path: str, role: str) -> None:
    store = MemoryStore()
    client = new_client(create_app(store, Guard(store.keys)))
    url = re.sub(r"{\w+}", "1", path)
    if role == "none":
        assert client.request(method, url).status_code == 200
        return
    assert client.request(method, url).status_code == 401
    for each in Role:
        key, text = new_key(each.value, each, "default", 0.0)
        store.keys.add(key)
        answer = client.request(method, url, headers={"Authorization": f"Bearer {text}"})
        assert (answer.status_code == 403) == (not each.allows(Role(role))), answer.text


def test_every_error_is_there() -> None:
    found = re.findall(r"^\| (\d{3}) \| (\w+) \|", PAGE, re.MULTILINE)
    assert {int(status): code for status, code in found} == CODES


def test_every_limit_is_there() -> None:
    found = re.findall(r"^\| `(max_\w+)` \| ([\d,]+) \|", PAGE, re.MULTILINE)
    assert {name: int(value.replace(",", "")) for name, value in found} == LIMITS
