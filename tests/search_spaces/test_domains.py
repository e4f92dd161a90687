"""What may stand for a value, and what is told where it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import Check, integer, one_of, parse_domain, real

HINT = "(this is text; write it as a number)"


def told(raw: object, check: Check) -> str:
    with pytest.raises(ValueError, match=r"allowed|not a number") as caught:
        parse_domain(raw, check)
    return str(caught.value)


@pytest.mark.parametrize("raw", ["1e-3", "0.001", "8", [0.1, "1e-3"], {"min": "1e-3", "max": 0.1}])
@pytest.mark.parametrize("check", [integer(1), real(0, above=True)])
def test_a_number_written_as_text_is_told_to_be_text(raw: object, check: Check) -> None:
    assert told(raw, check).endswith(HINT)


@pytest.mark.parametrize("raw", ["small", "", "nan", "1e", -1, True, {"min": "low", "max": 1}])
@pytest.mark.parametrize("check", [integer(1), real(0, above=True)])
def test_what_is_no_number_at_all_gets_no_such_hint(raw: object, check: Check) -> None:
    assert "text" not in told(raw, check)


def test_where_words_are_wanted_a_number_as_text_is_a_word() -> None:
    assert "text" not in told("3", one_of("relu", "gelu"))


@given(st.integers(0, 10**9) | st.floats(0, 1e9))
def test_every_number_is_refused_as_text_with_the_hint(value: float) -> None:
    check = real(0)
    assert parse_domain(value, check).values == (float(value),)
    assert told(repr(value), check).endswith(HINT)


@pytest.mark.parametrize(
    ("spread", "values"),
    [
        ({"min": 1, "max": 6, "step": 2}, (1, 3, 5)),  # from min in steps up to max, which is left out if missed
        ({"min": 2, "max": 4}, (2, 3, 4)),
        ({"min": 1, "max": 100, "scale": "log", "levels": 3}, (1, 10, 100)),
    ],
)
def test_ranges(spread: dict[str, object], values: tuple[int, ...]) -> None:
    assert parse_domain(spread, integer(1)).values == values


def test_a_log_range_has_16_levels_unless_told() -> None:
    assert len(parse_domain({"min": 1e-3, "max": 0.1, "scale": "log"}, real(0)).values) == 16


CHECKS = (
    integer(2),
    integer(1, 31, odd=True),
    real(0, above=True),
    real(0, 1, below=True),
    one_of("relu", 3, True),
)


@given(
    st.sampled_from(CHECKS), st.integers(-2, 40) | st.floats(-1, 3) | st.booleans() | st.sampled_from(["relu", ""])
)
def test_the_schema_of_a_check_allows_what_it_allows(check: Check, value: object) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with ray")
    try:
        parse_domain(value, check)
        allowed = True
    except ValueError:
        allowed = False
    assert jsonschema.Draft202012Validator(check.schema).is_valid(value) == allowed
