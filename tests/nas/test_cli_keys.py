"""`nas keys` and `nas config`: who may use the service, and how it is set up."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nas.access import Role, key_id, new_key, opens
from nas.cli import app
from nas.settings import Settings, read_settings, variable
from nas.storage import open_store
from search_spaces import SpecError


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{tmp_path}/nas.db")
    return f"sqlite:///{tmp_path}/nas.db"


@pytest.fixture
def run(url: str) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def listed(run: Any) -> dict[str, Any]:
    return {key["name"]: key for key in json.loads(run("keys", "list", "--json").stdout)["keys"]}


def test_a_key_is_shown_once(run: Any, url: str) -> None:
    made = run("keys", "create", "al", "--role", "admin", "--project", "vision")
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    store = open_store(url)
    (key,) = store.keys.all()
    store.close()
    assert opens(text, key)
    assert (key.name, key.role.value, key.project) == ("al", "admin", "vision")
    assert key.expires_at is not None
    assert abs(key.expires_at - time.time() - 90 * 86400) < 3600
    secret = text.split("_", 2)[2]
    for command in (["keys", "list"], ["keys", "list", "--json"], ["keys", "revoke", "al"], ["config"]):
        output = run(*command).output
        assert secret not in output
        assert key.digest not in output


def test_keys_as_json(run: Any) -> None:
    made = json.loads(run("keys", "create", "al", "--expires", "never", "--json").stdout)
    assert key_id(made.pop("key")) == made["id"]
    assert made == listed(run)["al"]
    assert (made["state"], made["role"], made["project"], made["expires_at"]) == (
        "VALID",
        "submitter",
        "default",
        None,
    )


@pytest.mark.parametrize("by", ["name", "id"])
def test_revoking(run: Any, by: str) -> None:
    run("keys", "create", "al")
    run("keys", "create", "bo")
    assert run("keys", "revoke", listed(run)["al"][by]).exit_code == 0
    found = listed(run)
    assert (found["al"]["state"], found["bo"]["state"]) == ("REVOKED", "VALID")
    assert found["al"]["revoked_at"] is not None
    assert run("keys", "revoke", "al").exit_code == 0
    unknown = run("keys", "revoke", "nobody")
    assert (unknown.exit_code, unknown.stderr) == (3, "error: there is no API key nobody\n")


def test_a_key_that_expired_is_listed_so(run: Any, url: str) -> None:
    store = open_store(url)
    store.keys.add(new_key("al", Role.VIEWER, "default", 1.0, 2.0)[0])
    store.close()
    assert listed(run)["al"]["state"] == "EXPIRED"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "name: 'a b' is not allowed"),
        (["al", "--project", "../x"], "project: '../x' is not allowed"),
        (["al", "--expires", "90"], "--expires: '90' is not allowed"),
        (["al", "--expires", "0d"], "--expires: '0d' is not allowed"),
        (["taken"], "there is, or was, an API key with the name taken"),
        (["al", "--role", "root"], "Invalid value"),
    ],
)
def test_keys_that_cannot_be(run: Any, arguments: list[str], said: str) -> None:
    run("keys", "create", "taken")
    refused = run("keys", "create", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stdout == ""
    assert set(listed(run)) == {"taken"}


def test_config_tells_every_setting_and_where_it_comes_from(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_LEASE_SECONDS", "12")
    monkeypatch.setenv("NAS_ALLOWED_FUNCTIONS", "mine.measure:latency, mine.measure:energy")
    monkeypatch.setenv("NAS_RATE_BURST", "")
    found = {s["name"]: s for s in json.loads(run("config", "--json").stdout)["settings"]}
    assert set(found) == {variable(name) for name in Settings.model_fields}
    assert all(s["description"] for s in found.values())
    assert (found["NAS_LEASE_SECONDS"]["value"], found["NAS_LEASE_SECONDS"]["source"]) == (12.0, "environment")
    assert (found["NAS_RATE_BURST"]["value"], found["NAS_RATE_BURST"]["source"]) == (400, "default")
    assert found["NAS_ALLOWED_FUNCTIONS"]["value"] == ["mine.measure:latency", "mine.measure:energy"]
    assert found["NAS_AUTH"]["value"] == "auto"
    assert "NAS_LEASE_SECONDS" in run("config").stdout


def test_config_and_errors_show_no_secret(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = new_key("al", Role.VIEWER, "default", 1.0)[1]
    monkeypatch.setenv("NAS_DATABASE_URL", "postgresql://nas:hunter2@db/nas?sslpassword=hunter2")
    monkeypatch.setenv("NAS_ARTIFACTS_URL", "sftp://nas:hunter2@files/nas")
    monkeypatch.setenv("NAS_URL", "https://nas:hunter2@example.org")
    for key in (text, "hunter2"):
        monkeypatch.setenv("NAS_API_KEY", key)
        assert "hunter2" not in repr(read_settings())
        assert text not in repr(read_settings())
        for command in (["config"], ["config", "--json"]):
            output = run(*command).output
            assert "hunter2" not in output
            assert text.split("_", 2)[2] not in output


def test_a_variable_that_means_nothing_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATBASE_URL", "sqlite:///x.db")
    remark = 'warning: NAS_DATBASE_URL is not a setting; did you mean "NAS_DATABASE_URL"?'
    assert remark in run("config").stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAS_AUTH", "maybe"),
        ("NAS_LEASE_SECONDS", "soon"),
        ("NAS_LEASE_SECONDS", "1"),
        ("NAS_RATE_LIMIT", "-1"),
        ("NAS_RATE_LIMIT", "inf"),
        ("NAS_RATE_BURST", "0"),
        ("NAS_METRICS_PORT", "70000"),
        ("NAS_LOG_FORMAT", "xml"),
        ("NAS_ALLOWED_FUNCTIONS", "os.system"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_variable(
    run: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=name):
        read_settings()
    refused = run("config")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: {name}: {value!r}: ")
