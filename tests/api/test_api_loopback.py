from __future__ import annotations

from typing import Any

import pytest

from api import create_app
from api.guard import Guard
from nas.settings import Settings
from nas.storage.memory import MemoryStore


@pytest.fixture
def client(new_client: Any) -> Any:
    return new_client(create_app(MemoryStore(), Guard.of(Settings(), None)))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"]
)
def test_loopback_names_are_answered(client: Any, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200
    page = {"Host": host, "Origin": f"http://{host}"}
    assert client.get("/v1/jobs", headers=page).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.nip.io"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.7:8000"},
        {"Host": "0.0.0.0:8000"},
        {"Host": ""},
        {"Host": "localhost:x"},
        {"Host": "localhost:8000", "Origin": "https://evil.example"},
        {"Host": "localhost:8000", "Origin": "http://localhost:3000"},
        {"Host": "localhost:8000", "Origin": "null"},
        {"Host": "localhost:8000", "Origin": "http://["},
        {"Host": "localhost:8000", "X-Forwarded-For": "203.0.113.9"},
        {"Host": "localhost:8000", "Forwarded": "for=203.0.113.9"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/openapi.json")])
def test_other_sites_names_pages_and_proxies_are_refused(
    client: Any, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 421
    assert "NAS_AUTH=keys" in answer.json()["detail"]


def test_with_keys_any_name_and_proxy_will_do(new_client: Any) -> None:
    store = MemoryStore()
    client = new_client(create_app(store, Guard.of(Settings(), store.keys)))
    headers = {"Host": "nas.example.org", "X-Forwarded-For": "203.0.113.9"}
    assert client.get("/healthz", headers=headers).status_code == 200
    assert client.get("/v1/jobs", headers=headers).status_code == 401
