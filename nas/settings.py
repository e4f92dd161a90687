"""Settings of the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nas.access import Auth, key_id, masked
from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean

if TYPE_CHECKING:
    from nas.artifacts import Artifacts
    from nas.storage.memory import MemoryStore
    from nas.storage.sql import SqlStore

PREFIX = "NAS_"


class Settings(BaseSettings):
    """Read from environment variables: ``NAS_`` and the name of the field; an empty one counts as not set.

    `read_settings` says what is wrong with a variable in the service's own words.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        default="sqlite:///.nas/nas.db", repr=False, description="where jobs and trials are kept (SQLAlchemy URL)"
    )
    artifacts_url: str = Field(
        default="file:.nas/artifacts", repr=False, description="where files of jobs are kept (fsspec URL)"
    )
    data_dir: Path | None = Field(default=None, description="the data registry: data sets and tables by name")
    devices: Path | None = Field(
        default=None, description="a YAML or JSON file of the devices that latency can be measured on, by name"
    )
    lease_seconds: float = Field(
        default=30.0, ge=3, description="after so long without a sign of life a runner has lost its job"
    )
    runner_concurrent_jobs: int = Field(default=4, ge=1, le=1000, description="jobs that one runner has in hand")
    runner_drain_seconds: float = Field(
        default=20.0, ge=0, allow_inf_nan=False, description="what runs gets to finish when a runner is stopped"
    )
    export_seconds: float = Field(
        default=3600.0, gt=0, allow_inf_nan=False, description="an export over HTTP that takes longer ends FAILED"
    )
    auth: Auth = Field(
        default="auto",
        description="keys: the API takes API keys; off; auto: off on a loopback address only",
    )
    rate_limit: float = Field(
        default=100.0,
        ge=0,
        allow_inf_nan=False,
        description="requests a second of one API key, or address; 0: no limit",
    )
    rate_burst: int = Field(default=400, ge=1, description="requests that may come at once before the rate counts")
    event_streams: int = Field(
        default=256, ge=1, description="event streams that one API key, or address, may hold at once"
    )
    allowed_functions: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="import paths, with commas between, that documents over HTTP may name"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="how log lines are written")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="where a runner answers /metrics, /healthz and /readyz"
    )
    metrics_host: str = Field(default="127.0.0.1", description="the address of that port; it asks for no key")
    url: str | None = Field(default=None, repr=False, description="the server that commands and clients speak to")
    api_key: str | None = Field(default=None, repr=False, description="the key that commands and clients show it")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1", "::1"),
        validation_alias="FORWARDED_ALLOW_IPS",
        description="addresses or networks of proxies, with commas between, whose X-Forwarded-For counts",
    )
    ray_address: str | None = Field(
        default=None,
        validation_alias="RAY_ADDRESS",
        description="of a Ray cluster; else one is started",
    )

    @field_validator("allowed_functions", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        return [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw

    @field_validator("allowed_functions")
    @classmethod
    def _import_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", path):
                raise ValueError(f"{path!r} is no import path; allowed: package.module:function")
        return paths

    @field_validator("devices")
    @classmethod
    def _described(cls, path: Path | None) -> Path | None:
        from nas.latency.devices import read

        if path is not None:
            try:
                read(path)
            except SpecError as error:
                raise ValueError("; ".join(map(str, error.faults))) from None
        return path


@dataclass(frozen=True)
class Shown:
    """One setting as it may be shown: secrets in it are masked."""

    name: str
    """The environment variable."""
    value: str | int | float | list[str] | None
    source: Literal["environment", "default"]
    description: str


def read_settings() -> Settings:
    """The settings of the environment. Raises `SpecError` for variables with values that they cannot have."""
    try:
        return Settings()
    except ValidationError as error:
        raise SpecError(_fault(e) for e in error.errors(include_input=False)) from None


def shown(settings: Settings) -> list[Shown]:
    """All settings, with where each comes from."""
    return [
        Shown(
            variable(name),
            _masked_key(settings.api_key) if name == "api_key" else _showable(getattr(settings, name)),
            "environment" if name in settings.model_fields_set else "default",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias) if alias else f"{PREFIX}{name.upper()}"


def unknown_variables() -> list[str]:
    """Remarks on variables of the environment that look like settings and are none."""
    allowed = [variable(name) for name in Settings.model_fields]
    return [
        f"{name} is not a setting{did_you_mean(name, allowed)}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in allowed
    ]


def open_configured_store() -> MemoryStore | SqlStore:
    """The store that the environment names.

    Raises:
        SpecError: for a variable with a value that it cannot have.
        DatabaseError: where the database cannot be used.
    """
    from nas.storage import open_store

    settings = read_settings()
    return open_store(settings.database_url, lease_seconds=settings.lease_seconds)


def open_configured_artifacts() -> Artifacts:
    """The files of jobs that the environment names. Raises `SpecError` for an address that cannot be."""
    from nas.artifacts import Artifacts

    try:
        return Artifacts(read_settings().artifacts_url)
    except ValueError as error:
        raise SpecError.at(variable("artifacts_url"), str(error)) from None


def _fault(error: Any) -> Fault:
    name = str(error["loc"][0])
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else str(error["msg"])
    where = variable(name) if name in Settings.model_fields else name
    value = f"{masked(os.environ[where])!r}: " if where in os.environ else ""
    return Fault(where, f"{value}{message[0].lower()}{message[1:]}")


def _masked_key(key: str | None) -> str | None:
    if key is None:
        return None
    return f"nas_{key_id(key)}_***" if key_id(key) else "***"


def _showable(value: Any) -> str | int | float | list[str] | None:
    if isinstance(value, str | Path):
        return masked(str(value))
    return list(value) if isinstance(value, tuple) else value
