"""Settings of the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.storage.sql import SqlStore
from search_spaces import Fault, SpecError


class Settings(BaseSettings):
    """Read from environment variables that begin with ``NAS_``."""

    model_config = SettingsConfigDict(env_prefix="NAS_", frozen=True)

    database_url: str = Field(
        default="sqlite:///.nas/nas.db", description="where jobs and trials are kept (SQLAlchemy URL)"
    )
    lease_seconds: float = Field(
        default=30.0, ge=3, description="after so long without a sign of life a runner has lost its job"
    )
    data_dir: Path | None = Field(default=None, description="the data registry: data sets and tables by name")


def open_configured_store() -> MemoryStore | SqlStore:
    """The store that the environment names.

    Raises:
        SpecError: for a variable with a value that it cannot have.
        DatabaseError: where the database cannot be used.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise SpecError(
            Fault(f"NAS_{'_'.join(map(str, e['loc']))}".upper(), f"{e['input']!r}: {e['msg']}")
            for e in error.errors()
        ) from None
    return open_store(settings.database_url, lease_seconds=settings.lease_seconds)
