"""Settings of the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from environment variables that begin with ``NAS_``."""

    model_config = SettingsConfigDict(env_prefix="NAS_", frozen=True)

    database_url: str = Field(
        default="sqlite:///.nas/nas.db", description="where jobs and trials are kept (SQLAlchemy URL)"
    )
    data_dir: Path | None = Field(default=None, description="the data registry: data sets and tables by name")
