"""Tables that come with the package: a Parquet file each, and a document that tells its columns."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from search_spaces.load import parse_text


@cache
def names() -> tuple[str, ...]:
    """Their names. None ends like a file's, so no file can be meant by one."""
    folder = resources.files("nas.evaluators.tables")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def document(name: str) -> dict[str, Any]:
    """What the `tabular` evaluator needs to know of one of `names()`; `table` is the name of its file."""
    found = parse_text((resources.files("nas.evaluators.tables") / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def path(name: str) -> Path:
    """The file of one of `names()`."""
    return Path(str(resources.files("nas.evaluators.tables") / document(name)["table"]))
