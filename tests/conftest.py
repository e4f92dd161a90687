"""What tests share: where benchmark data lies, and which databases there are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "contracts"))  # classes that several test files share

settings.register_profile(
    "nas",
    deadline=None,  # a timing never decides a test
    max_examples=60,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nas")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public benchmark tables; a test that needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"benchmark tables are not at {SHARED}")
    return SHARED
