"""How a weight is stored: the one source of its scales, zero points, codes, packing and bytes.

A weight (outputs, ...) is read as rows, one an output channel. A `Kind` says which integers stand for its entries
and how they are packed, `Blocks` which entries share one scale (and one zero point). Training and measuring use
`fake`, the size formula `bytes`, files `encode` and `pack`. Krishnamoorthi 2018, "Quantizing deep convolutional
networks for efficient inference" (whole numbers); Li and Liu 2016, "Ternary weight networks"; Sherry (ternary, one
0 in each four).

What quantizes takes NumPy arrays and torch tensors alike, and torch is never imported here.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search_spaces import packing
from search_spaces.costs import FLOAT_BYTES
from search_spaces.feature import Count, at_least

THRESHOLD = 0.7
"""Ternary weights are 0 up to this part of their block's mean magnitude (Li and Liu 2016, equation 6)."""

Array: TypeAlias = Any
"""An array of NumPy's, or a torch tensor."""


@dataclass(frozen=True)
class Blocks:
    """Which entries of a weight share one scale: all, those of an output channel, or `size` in a row of one.

    The last block of a row holds what is left of it, as ONNX's blocked quantization has it, so that every size
    fits every row; a group of at least the row's length is the whole channel.
    """

    granularity: str = "channel"
    """``tensor``, ``channel`` or ``group``."""
    size: int = 0
    """Entries of a group."""

    def count(self, outputs: Count, row: Count) -> Count:
        """How many there are; of a population as of one weight."""
        if self.granularity == "group":
            return outputs * -(-row // self.size)
        return 1 if self.granularity == "tensor" else outputs

    def split(self, rows: Array) -> Array:
        """Rows (outputs, row) as blocks (count, size), with zeros where a block is short."""
        if self.granularity == "tensor":
            return rows.reshape(1, -1)
        if self.granularity == "channel":
            return rows
        return _filled(rows, -rows.shape[1] % self.size).reshape(-1, self.size)

    def join(self, blocks: Array, rows: Array) -> Array:
        """What `split` made of something of the shape of `rows`, as it was."""
        if self.granularity == "group":
            return blocks.reshape(len(rows), -1)[:, : rows.shape[1]]
        return blocks.reshape(rows.shape)


Fit: TypeAlias = tuple[Array, Array, Array]
"""Codes (outputs, row), scales and zero points (blocks, 1), all of the weight's type: an entry is
``(code - zero) * scale``."""


class Kind(Protocol):
    """Which integers stand for entries, and how they are packed."""

    dtype: ClassVar[Any]
    """Of codes."""
    scale_bytes: ClassVar[int]

    @property
    def zero_bits(self) -> int:
        """Of the zero point of one block; these follow each other without a gap, too."""

    def fit(self, rows: Array, blocks: Blocks) -> Fit:
        """The codes of rows (outputs, row)."""

    def packed_bytes(self, entries: Count, outputs: Count) -> Count:
        """Bytes of packed codes."""

    def pack(self, codes: NDArray[Any]) -> bytes:
        """Codes (outputs, row) as bytes."""

    def unpack(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        """What `pack` was given."""


@dataclass(frozen=True)
class Floats:
    """32-bit floating point."""

    dtype: ClassVar[Any] = np.float32
    scale_bytes: ClassVar[int] = 0
    zero_bits: ClassVar[int] = 0

    def fit(self, rows: Array, blocks: Blocks) -> Fit:
        """Every entry is its own code."""
        ones = _library(rows).ones_like(blocks.split(rows)[:, :1])
        return rows, ones, 0 * ones

    def packed_bytes(self, entries: Count, outputs: Count) -> Count:
        """Four bytes each."""
        return FLOAT_BYTES * entries

    def pack(self, codes: NDArray[Any]) -> bytes:
        """Little endian."""
        return codes.astype("<f4").tobytes()

    def unpack(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        """What `pack` was given."""
        return np.frombuffer(data, "<f4").reshape(shape)


@dataclass(frozen=True)
class Whole:
    """Whole numbers of some bits.

    Symmetric codes of b bits lie in ``-(2**(b-1) - 1) .. 2**(b-1) - 1``, the block's largest magnitude at the
    largest; asymmetric ones in ``0 .. 2**b - 1``, the block's range with 0 at the ends, and 0 exact. A block of
    zeros has scale 1.
    """

    dtype: ClassVar[Any] = np.int32
    scale_bytes: ClassVar[int] = FLOAT_BYTES
    bits: int
    symmetric: bool = True

    @property
    def zero_bits(self) -> int:
        """As many as of a code."""
        return 0 if self.symmetric else self.bits

    def fit(self, rows: Array, blocks: Blocks) -> Fit:
        """The nearest codes."""
        x = blocks.split(rows)
        if self.symmetric:
            low, high = 1 - 2 ** (self.bits - 1), 2 ** (self.bits - 1) - 1
            scales = _steps(_highest(abs(x)), high)
            zeros = 0 * scales
        else:
            low, high = 0, 2**self.bits - 1
            least, most = -_highest(-x).clip(min=0), _highest(x).clip(min=0)
            scales = _steps(most - least, high)
            zeros = (-least / scales).round()
        codes = ((x / scales).round() + zeros).clip(low, high)
        return blocks.join(codes, rows), scales, zeros

    def packed_bytes(self, entries: Count, outputs: Count) -> Count:
        """Codes follow each other without a gap."""
        return -(-entries * self.bits // 8)

    def pack(self, codes: NDArray[Any]) -> bytes:
        """Symmetric codes as two's complement."""
        return packing.pack_bits(codes, self.bits)

    def unpack(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        """What `pack` was given."""
        return packing.unpack_bits(data, self.bits, math.prod(shape), signed=self.symmetric).reshape(shape)


@dataclass(frozen=True)
class Ternary:
    """-1, 0, 1 times the scale that is nearest to the weights that are not 0; five to a byte, or 2 bits each."""

    dtype: ClassVar[Any] = np.int32
    scale_bytes: ClassVar[int] = FLOAT_BYTES
    zero_bits: ClassVar[int] = 0
    fives: bool = True

    def fit(self, rows: Array, blocks: Blocks) -> Fit:
        """Large entries keep their signs; a block of zeros has scale 1."""
        x = blocks.split(rows)
        ones = _library(x).ones_like
        mean = _total(abs(x)) / _total(blocks.split(ones(rows)))
        codes = _library(x).sign(x) * (abs(x) > THRESHOLD * mean)
        count = _total(abs(codes))
        scales = _total(abs(x * codes)) / count.clip(min=1)
        scales = _library(x).where(count > 0, scales, ones(scales))
        return blocks.join(codes, rows), scales, 0 * scales

    def packed_bytes(self, entries: Count, outputs: Count) -> Count:
        """1.6 or 2 bits each."""
        return -(-entries // (5 if self.fives else 4))

    def pack(self, codes: NDArray[Any]) -> bytes:
        """Digits of base 3, or two's complement."""
        return packing.pack_fives(codes) if self.fives else packing.pack_bits(codes, 2)

    def unpack(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        """What `pack` was given."""
        count = math.prod(shape)
        codes = (
            packing.unpack_fives(data, count) if self.fives else packing.unpack_bits(data, 2, count, signed=True)
        )
        return codes.reshape(shape)


@dataclass(frozen=True)
class SparseTernary:
    """Ternary with exactly one 0 in each four weights of a row: 32 states, 5 bits.

    The smallest of each four is the 0. The last four of a row may be short: it takes 5 bits all the same, and may
    then have no 0. A block of zeros has scale 0.
    """

    dtype: ClassVar[Any] = np.int32
    scale_bytes: ClassVar[int] = FLOAT_BYTES
    zero_bits: ClassVar[int] = 0

    def fit(self, rows: Array, blocks: Blocks) -> Fit:
        """Signs of all but the smallest of each four, times the mean magnitude of these."""
        fours = _filled(rows, -rows.shape[1] % 4).reshape(-1, 4)
        smallest = -abs(fours) == _highest(-abs(fours))
        smallest = smallest & (_library(rows).cumsum(smallest, -1) == 1)  # of equal ones the first
        signs = _library(rows).sign(fours) + (fours == 0)
        codes = (signs * ~smallest).reshape(len(rows), -1)[:, : rows.shape[1]]
        told, x = blocks.split(codes), blocks.split(rows)
        scales = _total(abs(x * told)) / _total(abs(told)).clip(min=1)
        return codes, scales, 0 * scales

    def packed_bytes(self, entries: Count, outputs: Count) -> Count:
        """5 bits for each four of a row."""
        return -(-5 * outputs * -(-_row(entries, outputs) // 4) // 8)

    def pack(self, codes: NDArray[Any]) -> bytes:
        """States of 5 bits without a gap."""
        return packing.pack_fours(codes)

    def unpack(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        """What `pack` was given."""
        return packing.unpack_fours(data, *shape)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A weight as integers: of each block ``(codes - zeros) * scales`` is what they stand for."""

    codes: NDArray[Any]
    """Of the weight's shape (outputs, ...)."""
    scales: NDArray[np.float32]
    """Shape (blocks, 1, ...), so many axes as the weight has."""
    zeros: NDArray[np.int32]
    """The codes of 0, in the shape of the scales; all 0 unless the weight is asymmetric."""


@dataclass(frozen=True)
class Packed:
    """A weight as a file holds it."""

    codes: bytes
    scales: bytes
    zeros: bytes

    def __len__(self) -> int:
        return len(self.codes) + len(self.scales) + len(self.zeros)


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored."""

    kind: Kind
    blocks: Blocks = Blocks()

    def encode(self, weight: NDArray[Any]) -> Encoded:
        """The integers of a weight (outputs, ...)."""
        rows = np.ascontiguousarray(weight, dtype=np.float32).reshape(len(weight), -1)
        codes, scales, zeros = self.kind.fit(rows, self.blocks)
        by_block = (len(scales), *[1] * (weight.ndim - 1))
        return Encoded(
            codes.astype(self.kind.dtype).reshape(weight.shape),
            scales.reshape(by_block),
            zeros.astype(np.int32).reshape(by_block),
        )

    def decode(self, encoded: Encoded) -> NDArray[np.float32]:
        """The weight that the integers stand for."""
        codes = encoded.codes.astype(np.float32)
        rows = codes.reshape(len(codes), -1)
        zeros, scales = encoded.zeros.reshape(-1, 1).astype(np.float32), encoded.scales.reshape(-1, 1)
        found: NDArray[np.float32] = self._values((rows, scales, zeros)).reshape(codes.shape)
        return found

    def fake(self, weight: Array) -> Array:
        """What encoding and decoding make of a weight, a tensor or an array, in its own type."""
        rows = weight.reshape(len(weight), -1)
        return self._values(self.kind.fit(rows, self.blocks)).reshape(weight.shape)

    def pack(self, encoded: Encoded) -> Packed:
        """The bytes of a weight; `bytes` says how many."""
        codes = encoded.codes.reshape(len(encoded.codes), -1)
        scales = encoded.scales.astype("<f4").tobytes() if self.kind.scale_bytes else b""
        bits = self.kind.zero_bits
        return Packed(self.kind.pack(codes), scales, packing.pack_bits(encoded.zeros, bits) if bits else b"")

    def unpack(self, packed: Packed, shape: tuple[int, ...]) -> Encoded:
        """The integers of a weight of this shape."""
        row = math.prod(shape[1:])
        by_block = (self.blocks.count(shape[0], row), *[1] * (len(shape) - 1))
        scales = np.frombuffer(packed.scales, "<f4") if packed.scales else np.ones(by_block, np.float32)
        bits = self.kind.zero_bits
        zeros = packing.unpack_bits(packed.zeros, bits, by_block[0]) if bits else np.zeros(1, np.int32)
        return Encoded(
            self.kind.unpack(packed.codes, (shape[0], row)).reshape(shape),
            scales.reshape(by_block),
            np.broadcast_to(zeros, by_block[0]).reshape(by_block),
        )

    def bytes(self, entries: Count, outputs: Count) -> Count:
        """Bytes of a packed weight of `outputs` rows with its scales and zero points, for a population."""
        blocks = self.blocks.count(outputs, _row(entries, outputs))
        scales = blocks * self.kind.scale_bytes
        return self.kind.packed_bytes(entries, outputs) + scales + -(-blocks * self.kind.zero_bits // 8)

    def _values(self, fit: Fit) -> Array:
        codes, scales, zeros = fit
        return self.blocks.join((self.blocks.split(codes) - zeros) * scales, codes)


def _row(entries: Count, outputs: Count) -> Count:
    """Entries of one output channel; of a layer that is not there, whatever."""
    return entries // at_least(outputs, 1)


def _steps(span: Array, steps: int) -> Array:
    """The size of one of `steps` equal steps through each span."""
    size = span / steps
    return _library(span).where(size > 0, size, _library(span).ones_like(span))


def _filled(rows: Array, columns: int) -> Array:
    """Rows with so many columns of zeros after them."""
    if not columns:
        return rows
    library = _library(rows)
    return library.concatenate((rows, library.tile(library.zeros_like(rows[:, :1]), (1, columns))), 1)


def _highest(blocks: Array) -> Array:
    return _library(blocks).amax(blocks, -1, keepdims=True)


def _total(blocks: Array) -> Array:
    return blocks.sum(-1, keepdims=True)


def _library(x: Array) -> Any:
    """NumPy, or torch: the functions that are used of it here, both have."""
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]
