"""What the OpenAPI document promises, a real server keeps: a short form of `python -m tests.fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import run

pytest.importorskip("schemathesis", reason="schemathesis comes with the dev extra")


def test_generated_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    found = run(tmp_path, examples=8, seed=1, phases=["fuzzing"], predictors=False)
    assert found.sound, found.output
    assert found.operations == 28
    assert found.cases >= 200
