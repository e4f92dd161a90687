"""The server's process: it refuses to start unprotected, and says how to make the first key."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.__main__ import configured, without_secrets
from api.limits import WRONG_KEYS
from nas.access import Role, new_key
from nas.settings import Settings, variable
from nas.storage import open_store
from search_spaces import SpecError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    return tmp_path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "nas.example.org", ""])
def test_unprotected_on_other_addresses_it_does_not_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("NAS_AUTH", "off")
    with pytest.raises(SpecError, match="NAS_AUTH: off is not allowed on the address"):
        configured(host)
    assert not list(folder.iterdir()), "nothing is written before"


@pytest.mark.parametrize(
    ("auth", "host", "status"),
    [
        (None, "127.0.0.1", 200),
        ("off", "::1", 200),
        ("off", "localhost", 200),
        ("keys", "127.0.0.1", 401),
        (None, "0.0.0.0", 401),
        ("auto", "192.0.2.7", 401),
        ("keys", "::", 401),
    ],
)
def test_what_the_settings_mean(
    monkeypatch: pytest.MonkeyPatch, new_client: Any, auth: str | None, host: str, status: int
) -> None:
    if auth:
        monkeypatch.setenv("NAS_AUTH", auth)
    client = new_client(configured(host))
    assert client.get("/v1/jobs", headers={"Host": "localhost:8000"}).status_code == status
    strange = client.get("/v1/jobs", headers={"Host": "evil.example"}).status_code
    assert strange == (421 if status == 200 else 401)


def test_the_rate_of_the_settings_holds(monkeypatch: pytest.MonkeyPatch, new_client: Any) -> None:
    monkeypatch.setenv("NAS_RATE_LIMIT", "0.001")
    monkeypatch.setenv("NAS_RATE_BURST", "2")
    client = new_client(configured("127.0.0.1"))
    answers = [client.get("/healthz", headers={"Host": "localhost"}).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    monkeypatch.setenv("NAS_RATE_LIMIT", "0")
    client = new_client(configured("127.0.0.1"))
    assert {client.get("/healthz", headers={"Host": "localhost"}).status_code for _ in range(9)} == {200}


@pytest.mark.parametrize("command", [["-m", "api"], ["-m", "nas", "serve"]], ids=" ".join)
def test_the_command_ends_with_code_2_and_one_clear_line(folder: Path, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--host", "0.0.0.0"],
        env={**os.environ, "NAS_AUTH": "off", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: NAS_AUTH: off is not allowed on the address 0.0.0.0")
    assert not list(folder.iterdir())


def until(ready: Callable[[], Any]) -> Any:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            found = ready()
        except httpx.TransportError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture
def trusted() -> str:
    """The proxies that the server trusts; as it is by default."""
    return ""


@pytest.fixture
def server(folder: Path, trusted: str) -> Iterator[tuple[httpx.Client, Path]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = folder / "out.log"
    settings = {"NAS_AUTH": "keys", "FORWARDED_ALLOW_IPS": trusted}
    with out.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port)],
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            until(lambda: client.get("/healthz").status_code == 200)
            yield client, out
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_the_first_key(server: tuple[httpx.Client, Path], folder: Path) -> None:
    client, out = server
    assert "nas keys create" in out.read_text()
    assert client.get("/v1/jobs").status_code == 401
    store = open_store("sqlite:///.nas/nas.db")
    key, text = new_key("al", Role.VIEWER, "default", time.time())
    store.keys.add(key)
    headers = {"Authorization": f"Bearer {text}"}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    assert client.get("/v1/jobs", params={"key": text}, headers=headers).status_code == 422
    store.keys.revoke("al", time.time())
    store.close()
    until(lambda: client.get("/v1/jobs", headers=headers).status_code == 401)
    until(lambda: f"nas_{key.id}_***" in out.read_text())
    assert text.split("_", 2)[2] not in out.read_text()


@pytest.mark.parametrize(
    ("trusted", "told_apart"),
    [("", True), ("127.0.0.0/8", True), ("192.0.2.7", False)],
    ids=["by default a proxy on this machine", "a network", "another host"],
)
def test_clients_of_a_trusted_proxy_are_told_apart(
    server: tuple[httpx.Client, Path], trusted: str, told_apart: bool
) -> None:
    client, _ = server

    def guess(address: str) -> int:
        shown = {"Authorization": "Bearer nas_wrong", "X-Forwarded-For": f"203.0.113.9, {address}"}
        return client.get("/v1/jobs", headers=shown).status_code

    answers = [guess("198.51.100.1") for _ in range(WRONG_KEYS.burst + 20)]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert guess("198.51.100.2") == (401 if told_apart else 429)


@pytest.mark.parametrize("proxies", ["nginx", "10.0.0.0/33", "10.0.0.1,*", "*"])
def test_proxies_that_are_no_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, proxies: str) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxies)
    with pytest.raises(SpecError, match=r"FORWARDED_ALLOW_IPS: .* is no IP address or network"):
        configured("127.0.0.1")


def test_a_key_in_a_url_is_masked_in_the_access_log() -> None:
    text = new_key("al", Role.VIEWER, "default", 1.0)[1]
    line = '%s - "%s %s HTTP/%s" %d'
    args = ("127.0.0.1:9", "GET", f"/v1/jobs?key={text}", "1.1", 401)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, line, args, None)
    assert without_secrets(record)
    assert text.split("_", 2)[2] not in record.getMessage()
    assert record.getMessage().endswith("401")
