"""Where a table lies, and its reading: a table of the package, a file of the data registry, or any file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from nas.evaluators import tables
from nas.evaluators.registry import inside, registry
from search_spaces.faults import did_you_mean, show

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")


def locate(table: str) -> Path:
    """The file that is meant.

    A table of the package goes by its name alone, which a file cannot have: files end in one of `SUFFIXES`. A bare
    name means the registry's file where there is one; everything else is a path.
    """
    if table in tables.names():
        return tables.path(table)
    return _registered_file(table) or Path(table)


def _registered_file(table: str) -> Path | None:
    """The registry's file of this name, if it has one."""
    folder = registry()
    bare = PurePosixPath(table).name == table == PureWindowsPath(table).name
    if folder is None or not bare:
        return None
    return folder / table if (folder / table).is_file() and inside(folder / table) else None


def registered() -> list[str]:
    """Names of the tables in the data registry."""
    folder = registry()
    if folder is None or not folder.is_dir():
        return []
    return sorted(f.name for f in folder.iterdir() if f.suffix in SUFFIXES and f.is_file() and inside(f))


def misnamed(table: str) -> str | None:
    """Why neither a table of the package nor a file of one can be called so, if none can."""
    if table in tables.names() or Path(table).suffix in SUFFIXES:
        return None
    packaged = ", ".join(tables.names())
    files = f"files that end in {' or '.join(SUFFIXES)}, and the tables of the package: {packaged}"
    return f"{show(table)} is not allowed; allowed: {files}{did_you_mean(table, tables.names())}"


def unreadable(table: str, path: Path) -> str | None:
    """Why there is no such table, if there is none; its name is one that a table can have."""
    if path.is_file():
        return None
    names, packaged = registered(), ", ".join(tables.names())
    there = f", a file in the data registry: {', '.join(names)}" if names else ""
    return f"{show(table)} is not there; allowed: the path of a file{there}, or a table of the package: {packaged}"


def read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """The whole table, or some columns of it. Raises `ValueError` or `OSError`."""
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path, columns=columns)
    return pd.read_csv(
        path, usecols=columns, keep_default_na=False, na_values=["", "nan", "NaN"]
    )  # None is a word
