"""Small integers as bytes without a gap, and back; NumPy only.

Integers of fewer than 8 bits follow each other from the lowest bit of the first byte up (two of 4 bits make a
byte, the first in its low half, as ONNX stores INT4); negative ones are two's complement. Ternary codes are packed
five to a byte, as digits of base 3, or four to 5 bits where one of each four is 0 (Sherry's 3:4 form).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
FIVE = np.array([1, 3, 9, 27, 81], dtype=np.uint8)
"""What each of five digits of base 3 is worth in a byte; 243 of its values are used."""


def pack_bits(codes: NDArray[np.integer], bits: int) -> bytes:
    """Integers of 1 to 8 or of 16 bits, ``ceil(n * bits / 8)`` bytes."""
    if bits == 16:
        return codes.astype("<u2").tobytes()
    values = codes.ravel().astype(np.uint8)
    if bits == 8:
        return values.tobytes()
    words = _padded(values & (2**bits - 1), 8).view("<u8")
    for width in (8, 16, 32):  # neighbours move together: pairs of codes, then fours, then eights
        taken = bits * width // 8
        first = _lowest(taken, 2 * width)
        words = (words & first) | ((words >> np.uint64(width - taken)) & (first << np.uint64(taken)))
    packed = words.view(np.uint8).reshape(-1, 8)[:, :bits].tobytes()
    return packed[: -(-len(values) * bits // 8)]


def unpack_bits(data: bytes, bits: int, count: int, *, signed: bool = False) -> NDArray[np.int32]:
    """The first `count` integers of what `pack_bits` gave."""
    if bits == 16:
        return np.frombuffer(data, "<i2" if signed else "<u2", count).astype(np.int32)
    if bits == 8:
        return np.frombuffer(data, np.int8 if signed else np.uint8, count).astype(np.int32)
    packed = _padded(np.frombuffer(data, np.uint8), bits).reshape(-1, bits)
    words = np.pad(packed, ((0, 0), (0, 8 - bits))).view("<u8").ravel()
    for width in (32, 16, 8):
        taken = bits * width // 8
        first = _lowest(taken, 2 * width)
        words = (words & first) | ((words & (first << np.uint64(taken))) << np.uint64(width - taken))
    codes = words.view(np.uint8)[:count].astype(np.int32)
    half = 2 ** (bits - 1)
    return (codes ^ half) - half if signed else codes


def pack_fives(codes: NDArray[np.integer]) -> bytes:
    """Codes -1, 0, 1, five to a byte: 1.6 bits each."""
    digits = (codes.ravel().astype(np.int8) + np.int8(1)).view(np.uint8)
    return _base3(_padded(digits, 5).reshape(-1, 5)).tobytes()


def unpack_fives(data: bytes, count: int) -> NDArray[np.int32]:
    """The first `count` codes of what `pack_fives` gave."""
    return _FIVES[np.frombuffer(data, np.uint8)].ravel()[:count].astype(np.int32)


def pack_fours(codes: NDArray[np.integer]) -> bytes:
    """Codes -1, 0, 1 with exactly one 0 in each four of a row (rows, length): 1.25 bits each.

    A state of 5 bits is the place of the 0, and the signs of the others in their order. The last four of a row
    may be short: it is filled up with ones, and with a 0 where it has none.

    Raises:
        ValueError: where a four has another number of zeros.
    """
    rows, length = codes.shape
    fours = np.ones((rows, -(-length // 4) * 4), dtype=np.int8)
    fours[:, :length] = codes
    if length % 4:
        fours[~(fours[:, -4:] == 0).any(axis=1), -1] = 0
    states = _STATES[_base3((fours + np.int8(1)).view(np.uint8).reshape(-1, 4))]
    if (states == _NONE).any():
        raise ValueError("each four weights of a row must have exactly one 0")
    return pack_bits(states, 5)


def unpack_fours(data: bytes, rows: int, length: int) -> NDArray[np.int32]:
    """The codes (rows, length) of what `pack_fours` gave."""
    fours = _FOURS[unpack_bits(data, 5, rows * -(-length // 4))]
    return fours.reshape(rows, -1)[:, :length].astype(np.int32)


def _padded(values: Bytes, by: int) -> Bytes:
    """A contiguous copy whose length is a multiple of `by`; zeros are added."""
    return np.pad(values, (0, -len(values) % by))


def _lowest(bits: int, of: int) -> np.uint64:
    """A mask of the lowest bits of every word of so many bits."""
    return np.uint64(sum((2**bits - 1) << at for at in range(0, 64, of)))


def _base3(digits: Bytes) -> Bytes:
    """One byte for each row of up to five digits."""
    found: Bytes = digits[:, 0].copy()
    for place in range(1, digits.shape[1]):
        found += digits[:, place] * FIVE[place]
    return found


_FIVES = (np.arange(243)[:, None] // FIVE % 3).astype(np.int8) - np.int8(1)
"""The codes of each byte, (243, 5)."""
_FOURS = np.array(
    [np.insert(signs, place, 0) for place in range(4) for signs in product((1, -1), repeat=3)], dtype=np.int8
)
"""The codes of each of the 32 states, (32, 4)."""
_NONE = 255
_STATES = np.full(81, _NONE, dtype=np.uint8)
"""The state of each four by its number in base 3; most fours have none."""
_STATES[_base3((_FOURS + np.int8(1)).view(np.uint8))] = np.arange(32)
