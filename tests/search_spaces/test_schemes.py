"""Schemes of stored weights: what is packed comes back, near to what it was, in the bytes of the formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from family_contract import declared
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from search_spaces import SpecError, load_space, packing, presets
from search_spaces.quantization import TERNARY, Bits
from search_spaces.schemes import Encoded, Scheme

DEPTHS = [2, 3, 4, 8, 16]
FORMATS = [("symmetric", b) for b in (*DEPTHS, 32, *TERNARY)] + [("asymmetric", b) for b in DEPTHS]
BLOCKS = st.sampled_from([("tensor", 0), ("channel", 0), ("group", 2), ("group", 3), ("group", 4), ("group", 32)])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=7)
NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
WEIGHTS = hnp.arrays(np.float32, SHAPES, elements=NUMBERS)
Weight = NDArray[np.float32]


@st.composite
def schemes(draw: st.DrawFn, *allowed: int | str) -> Bits:
    scheme, weight = draw(st.sampled_from([f for f in FORMATS if not allowed or f[1] in allowed]))
    granularity, size = draw(BLOCKS)
    return Bits(weight, 32, scheme, granularity, size)


def each(scheme: Scheme, encoded: Encoded) -> Weight:
    """The scale of every entry, by repeating that of its block."""
    rows = encoded.codes.reshape(len(encoded.codes), -1)
    granularity, scales = scheme.blocks.granularity, encoded.scales.ravel()
    if granularity == "group":
        found = np.repeat(scales.reshape(len(rows), -1), scheme.blocks.size, axis=1)[:, : rows.shape[1]]
    else:
        found = np.broadcast_to(scales[:, None], rows.shape)
    return found.reshape(encoded.codes.shape)


@pytest.mark.law
@given(WEIGHTS, schemes())
def test_what_is_packed_comes_back_in_the_bytes_of_the_formula(weight: Weight, bits: Bits) -> None:
    scheme = bits.stored
    encoded = scheme.encode(weight)
    packed = scheme.pack(encoded)
    found = scheme.unpack(packed, weight.shape)
    for name in ("codes", "scales", "zeros"):
        before, after = getattr(encoded, name), getattr(found, name)
        assert after.dtype == before.dtype
        assert np.array_equal(after, before), name
    assert len(packed) == scheme.bytes(weight.size, len(weight))
    assert np.array_equal(scheme.decode(found), scheme.decode(encoded))


@given(WEIGHTS, schemes())
def test_fake_is_what_decoding_gives_in_numpy_and_in_torch(weight: Weight, bits: Bits) -> None:
    scheme = bits.stored
    told = scheme.fake(weight)
    assert told.dtype == np.float32
    assert np.array_equal(told, scheme.decode(scheme.encode(weight)))
    tensor = scheme.fake(torch.from_numpy(weight))
    assert tensor.dtype == torch.float32
    if bits.weight not in TERNARY:  # a mean that is added up in another order may be on another side of an entry
        np.testing.assert_allclose(tensor.numpy(), told, rtol=1e-6)


@given(WEIGHTS, schemes(*DEPTHS))
def test_whole_numbers_are_near_and_zero_is_exact(weight: Weight, bits: Bits) -> None:
    scheme = bits.stored
    encoded = scheme.encode(weight)
    told, step, top = scheme.decode(encoded), each(scheme, encoded), 2 ** int(bits.weight) - 1
    assert (told[weight == 0] == 0).all()
    # an asymmetric zero point is rounded too, so the ends of its range may move by half a step
    bound = 0.5 if bits.scheme == "symmetric" else 1
    assert (np.abs(told - weight) <= step * (bound + top * 1e-6)).all()


@given(WEIGHTS, schemes("ternary_3of4"))
def test_exactly_one_of_each_four_is_zero_and_it_is_a_smallest(weight: Weight, bits: Bits) -> None:
    scheme = bits.stored
    encoded = scheme.encode(weight)
    assert set(np.unique(encoded.codes)) <= {-1, 0, 1}
    for row, codes in zip(weight.reshape(len(weight), -1), encoded.codes.reshape(len(weight), -1), strict=True):
        for at in range(0, len(row), 4):
            four, magnitude = codes[at : at + 4], np.abs(row[at : at + 4])
            assert (four == 0).sum() == 1 if len(four) == 4 else (four == 0).sum() <= 1
            assert (magnitude[four == 0] == magnitude.min()).all()
            assert (four * row[at : at + 4] >= 0).all()
    told, scale = scheme.decode(encoded), each(scheme, encoded)

    def error(scales: Weight) -> float:
        return float(np.square((weight - encoded.codes * scales).astype(np.float64)).sum())

    np.testing.assert_allclose(told, encoded.codes * scale)
    assert error(scale) <= min(error(scale * np.float32(f)) for f in (0.9, 1.1)) * (1 + 1e-5)  # least squares


@given(WEIGHTS, schemes())
def test_one_channel_of_a_group_as_long_as_its_row_is_a_channel(weight: Weight, bits: Bits) -> None:
    row = max(2, math.prod(weight.shape[1:]))
    one = Bits(bits.weight, 32, bits.scheme, "group", row).stored.fake(weight)
    np.testing.assert_allclose(one, Bits(bits.weight, 32, bits.scheme).stored.fake(weight), rtol=1e-5)


@given(WEIGHTS, schemes(2, 3, 4, 8, 16))
def test_smaller_blocks_have_no_larger_steps(weight: Weight, bits: Bits) -> None:
    def step(granularity: str) -> Weight:
        scheme = Bits(bits.weight, 32, "symmetric", granularity, 3).stored
        return each(scheme, scheme.encode(np.where(weight == 0, np.float32(1), weight)))

    assert (step("group") <= step("channel")).all()
    assert (step("channel") <= step("tensor")).all()


@given(st.integers(1, 60), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16]), st.booleans())
def test_packed_integers_are_a_stream_from_the_lowest_bit_up(count: int, bits: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    codes = np.random.default_rng(count * bits).integers(low, high, count)
    data = packing.pack_bits(codes, bits)
    stream = ((codes[:, None] >> np.arange(bits)) & 1).astype(np.uint8).ravel()
    assert data == np.packbits(stream, bitorder="little").tobytes()
    assert packing.unpack_bits(data, bits, count, signed=signed).tolist() == codes.tolist()


def test_packing_by_closed_form() -> None:
    assert packing.pack_bits(np.array([1, -2, 7]), 4) == bytes([0xE1, 0x07])  # as ONNX stores INT4
    assert packing.pack_fives(np.array([1, 0, -1, -1, -1, 1])) == bytes([2 + 3, 2])
    states = packing.pack_fours(np.array([[0, 1, 1, 1, -1, -1, -1, 0]]))
    assert states == bytes([0b11100000, 0b11])  # place 0 without signs, place 3 with all
    with pytest.raises(ValueError, match="exactly one 0"):
        packing.pack_fours(np.array([[1, 1, 1, 1]]))
    with pytest.raises(ValueError, match="exactly one 0"):
        packing.pack_fours(np.array([[1, 1, 0, 0, 1]]))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (Bits(3, 32), 64 * 3 // 8 + 4 * 4),
        (Bits(3, 32, "asymmetric"), 64 * 3 // 8 + 4 * 4 + 2),
        (Bits(4, 32, granularity="tensor"), 32 + 4),
        (Bits(4, 32, "asymmetric", "group", 8), 32 + 4 * 8 + 4),  # zero points without a gap, too
        (Bits(4, 32, granularity="group", group_size=5), 32 + 4 * 4 * 4),  # the last group of each row holds 1
        (Bits(16, 32, "asymmetric", "tensor"), 128 + 6),
        (Bits("ternary", 32), 13 + 16),
        (Bits("ternary_2bit", 32), 16 + 16),
        (Bits("ternary_3of4", 32), 10 + 16),
        (Bits(32, 32), 256),
    ],
)
def test_bytes_by_closed_form(bits: Bits, expected: int) -> None:
    assert bits.stored.bytes(64, 4) == expected
    assert bits.stored.bytes(np.array([64, 0]), np.array([4, 0])).tolist() == [expected, bits.stored.bytes(0, 0)]


def test_short_fours_take_five_bits() -> None:
    """A depthwise 3 x 3 kernel is two fours and one weight."""
    assert Bits("ternary_3of4", 32).stored.bytes(9 * 8, 8) == 8 * 3 * 5 // 8 + 4 * 8


DOCUMENT = {
    "family": "mlp",
    "input": [1, 4, 4],
    "classes": 3,
    "architecture": {"latent": 8, "stages": [{"hidden": 8, "depth": 1}]},
}


def test_keys_that_came_later_are_left_out_where_they_say_nothing() -> None:
    """So that spaces keep the keys that they had before."""
    plain = declared(DOCUMENT)
    said = {"weight_granularity": "channel", "group_size": 32, "activation_observer": "min_max"}
    assert declared({**DOCUMENT, "quantization": said}).identity == plain.identity
    other = declared({**DOCUMENT, "quantization": {"weight_granularity": ["tensor", "group"], "group_size": 16}})
    assert other.identity != plain.identity
    assert declared(other.document.model_dump(mode="json", exclude_none=True)).identity == other.identity


@pytest.mark.parametrize("name", presets())
def test_presets_keep_their_keys(name: str) -> None:
    written = json.loads(declared(name).identity)["quantization"]
    assert list(written) == ["per", "weight_bits", "weight_scheme", "activation_bits"]
    assert not [k for k in json.loads(declared(name).identity)["recipe"] if k.startswith("qat")]


def test_a_key_is_what_it_was_before_later_keys_came() -> None:
    space = declared("digits-tiny")
    assert space.sample(1, 0)[0].key == "01dbd3effbc0840036cf937e15d081cc"


def test_genes_of_granularity_and_observers_have_an_effect_where_something_is_quantized() -> None:
    section = {
        "per": "network",
        "weight_bits": [4, 32],
        "activation_bits": [8, 32],
        "weight_granularity": ["tensor", "group"],
        "group_size": [2, 16],
        "activation_observer": ["min_max", "mse"],
    }
    space = declared({**DOCUMENT, "quantization": section})
    found = {a.key: a for a in space.sample(500, 0)}
    # floats; 4 bits with floating-point activations or 8 bits by one of two observers, and three granularities
    assert len(found) == 1 + 3 * 3
    assert len({frozenset(space.policy(a).items()) for a in found.values()}) == len(found)
    sizes = {
        (b.granularity, b.group_size): space.cost(a)["model_size_bytes"]
        for a in found.values()
        for b in [space.policy(a)["classifier"]]
        if b.weight == 4
    }
    assert sizes["tensor", 0] < sizes["group", 16] < sizes["group", 2]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weight_bits", 5, "5 is not allowed; allowed: 2, 3, 4, 8, 16, 32, ternary, ternary_2bit, ternary_3of4"),
        ("weight_granularity", "row", "'row' is not allowed; allowed: tensor, channel, group"),
        ("group_size", 1, "1 is not allowed; allowed: integers >= 2 and <= 65536"),
        ("activation_observer", "max", "'max' is not allowed; allowed: min_max, ema, percentile, mse"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_path(key: str, value: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_space({**DOCUMENT, "quantization": {key: value}})
    (fault,) = caught.value.faults
    assert fault.path == f"quantization.{key}"
    assert message in fault.message
