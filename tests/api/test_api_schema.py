"""What the OpenAPI document promises, a real server keeps: a short form of `python -m tests.fuzz`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.campaign import Campaign, run

pytest.importorskip("schemathesis", reason="schemathesis comes with the dev extra")


def test_generated_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    found = run(tmp_path, examples=8, seed=1, phases=["fuzzing"], fewest=200, predictors=False)
    assert found.sound, found.output
    assert found.operations == 34
    assert found.classes[2] > 20
    assert found.classes[4] > 50


GOOD = Campaign(5000, 5000, 28, {200: 2000, 422: 3000}, [], [], 1, 60.0, "")


@pytest.mark.parametrize(
    "change",
    [{"cases": 4999}, {"statuses": {200: 4999, 500: 1}}, {"failures": ["Undocumented status"]}, {"errors": ["?"]}],
)
def test_a_campaign_fails_for_too_few_cases_server_errors_failures_and_errors(change: dict[str, Any]) -> None:
    assert GOOD.sound
    assert not replace(GOOD, **change).sound


def test_a_campaign_tells_the_answers_by_class() -> None:
    assert "2xx: 2000, 3xx: 0, 4xx: 3000, 5xx: 0" in str(GOOD)
