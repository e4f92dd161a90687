"""docs/searchers.md has every searcher, with every option as the settings have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from nas.config import SearcherSettings
from nas.searchers import SearcherConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "searchers.md").read_text()
SEARCHERS: dict[str, type[SearcherSettings]] = {
    settings.model_fields["kind"].default: settings for settings in get_args(get_args(SearcherConfig)[0])
}
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}


def rows(settings: type[SearcherSettings]) -> list[str]:
    """The lines of the table of a searcher's options, in the order of its settings."""
    schema = settings.model_json_schema()
    described = {name: given for name, given in schema["properties"].items() if name != "kind"}
    return [row(name, given, schema) for name, given in described.items()]


def row(name: str, given: dict[str, Any], schema: dict[str, Any]) -> str:
    needed = name in schema.get("required", ())
    default = "**needed**" if needed else f"`{shown(given['default'])}`"
    return f"| `{name}` | {allowed(given, schema)} | {default} | {given['description']} |"


def allowed(given: dict[str, Any], schema: dict[str, Any]) -> str:
    """What values an option takes, in words."""
    if given["type"] == "array":
        return f"a list of {allowed(schema['$defs'][given['items']['$ref'].split('/')[-1]], schema)}"
    if "enum" in given:
        return ", ".join(f"`{word}`" for word in given["enum"])
    bounds = [f"{sign} {shown(given[key])}" for key, sign in LIMITS.items() if key in given]
    return ", ".join([given["type"], *bounds])


def shown(value: object) -> str:
    """A value as a page for people has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def test_every_searcher_has_a_section() -> None:
    assert set(SECTIONS) == set(SEARCHERS)


@pytest.mark.parametrize("kind", SEARCHERS)
def test_options_are_those_of_the_settings(kind: str) -> None:
    assert re.findall(r"^\| `.*$", SECTIONS[kind], re.MULTILINE) == rows(SEARCHERS[kind])
