"""What is read by the description of a packing is what unpacking gives, for every packing and shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from search_spaces.digits import of_bits, of_kind
from search_spaces.packing import pack_bits
from search_spaces.schemes import Floats, Kind, Scheme, SparseTernary, Ternary, Whole

KINDS: list[Kind] = [
    *(Whole(bits, symmetric) for bits in (2, 3, 4) for symmetric in (True, False)),
    *(Ternary(fives=True), Ternary(fives=False), SparseTernary()),
]
WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=7), elements=st.floats(-8, 8, width=16)
)


@pytest.mark.law
@given(WEIGHTS, st.sampled_from(KINDS))
def test_words_and_digits_read_what_was_packed(weight: NDArray[np.float32], kind: Kind) -> None:
    encoded = Scheme(kind).encode(weight)
    packed, digits = Scheme(kind).pack(encoded).codes, of_kind(kind)
    assert digits is not None
    assert np.array_equal(digits.read(packed, weight.shape), encoded.codes)
    assert 0 <= len(digits.words(packed)) - len(packed) < digits.word


@given(hnp.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 127)), st.integers(1, 7), st.booleans())
def test_integers_of_any_few_bits_are_digits(values: NDArray[np.int64], bits: int, signed: bool) -> None:
    codes = values % 2**bits - (2 ** (bits - 1) if signed else 0)
    assert np.array_equal(of_bits(bits, signed).read(pack_bits(codes, bits), codes.shape), codes)


def test_codes_with_bytes_of_their_own_need_no_digits() -> None:
    assert of_kind(Whole(8)) is of_kind(Whole(16)) is of_kind(Floats()) is None
