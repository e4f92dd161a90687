"""The model card: one value, as JSON by its schema, and as Markdown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.deploy.card import Check, Metric, ModelCard, card_json, card_markdown, card_schema, read_card
from tests.documents import A_CARD

CARD = A_CARD

TEXT = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CARDS = st.builds(
    replace,
    st.just(CARD),
    name=TEXT,
    architecture=st.dictionaries(TEXT, TEXT | st.integers() | NUMBERS | st.booleans(), max_size=3),
    metrics=st.lists(st.builds(Metric, TEXT, NUMBERS, TEXT), max_size=3).map(tuple),
    verification=st.lists(st.builds(Check, TEXT, NUMBERS, TEXT, st.booleans()), max_size=3).map(tuple),
    data=st.builds(replace, st.just(CARD.data), licence=TEXT),
)


@settings(max_examples=25)
@given(CARDS)
def test_json_keeps_to_its_schema_and_is_read_again(card: ModelCard) -> None:
    text = card_json(card)
    jsonschema.validate(json.loads(text), card_schema())
    assert read_card(text) == card


@pytest.mark.parametrize("change", [{"trial": "seven"}, {"file": {}}, {"metrics": [{"name": "a"}]}])
def test_the_schema_refuses_other_documents(change: dict[str, Any]) -> None:
    document = {**json.loads(card_json(CARD)), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, card_schema())
    with pytest.raises(ValueError, match="validation error"):
        read_card(json.dumps(document))


def test_people_read_the_same() -> None:
    text = card_markdown(CARD)
    for said in (
        "# digits, trial 7",
        "12,345 bytes",
        "| accuracy | 0.975 | on the validation part |",
        "| accuracy | 0.975 | 0.97 to 0.98 | yes |",
        "Licence: unknown.",
        "15 epochs of 1,077 examples (train), seed 0",
        "| stages.0.block | conv |",
        "| classifier | ternary | 32 |",
        '"name": "digits"',
    ):
        assert said in text


@settings(max_examples=25)
@given(CARDS)
def test_no_text_breaks_a_table(card: ModelCard) -> None:
    lines = [line for line in card_markdown(card).splitlines() if line.startswith("|")]
    before = [line for line in card_markdown(CARD).splitlines() if line.startswith("|")]
    grown = sum(map(len, (card.architecture, card.metrics, card.verification)))
    assert len(lines) - grown == len(before) - sum(map(len, (CARD.architecture, CARD.metrics, CARD.verification)))
