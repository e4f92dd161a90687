"""The JSON Schema of space documents: what editors complete by is what the parser reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import all_documents
import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from search_spaces import presets
from search_spaces.load import json_schema, preset

with warnings.catch_warnings():
    warnings.simplefilter("error")  # pydantic warns of defaults that it cannot write
    SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for section, schema in SCHEMA["$defs"].items():
        for name, own in schema.get("properties", {}).items():
            yield f"{section}.{name}", own


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", presets())
def test_presets_are_valid_by_it(name: str) -> None:
    VALIDATOR.validate(preset(name))


@given(document=all_documents.ANY)
def test_what_the_parser_reads_is_valid_by_it(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


@pytest.mark.parametrize(("name", "schema"), list(properties()))
def test_every_default_is_written_as_a_document_would(name: str, schema: dict[str, Any]) -> None:
    if "default" in schema:
        Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]}).validate(schema["default"])


@pytest.mark.parametrize(("name", "schema"), list(properties()))
def test_every_key_is_described(name: str, schema: dict[str, Any]) -> None:
    assert schema.get("description"), name


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 1},
        {"colour": "red"},
        {"family": "stages"},
        {"recipe": {"optimizer": "adam"}},
        {"input": [1, 8]},
    ],
)
def test_it_refuses_what_the_parser_refuses(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**preset("digits-tiny"), **change})
