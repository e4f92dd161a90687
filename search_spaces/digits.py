"""How packed codes are read back by arithmetic on whole numbers alone, for runtimes that do not know the packing.

Every packing of fewer than 8 bits is this: bytes make words, least byte first; a word is a number whose digits of
some base, the least first, say each which codes follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces import packing
from search_spaces.schemes import Kind, SparseTernary, Ternary, Whole


@dataclass(frozen=True)
class Digits:
    """Words of bytes, and their digits."""

    word: int
    """Bytes of a word. The last one may be short; what is missing counts as zeros."""
    base: int
    count: int
    """Digits of a word."""
    codes: tuple[tuple[int, ...], ...]
    """What each digit from 0 to ``base - 1`` stands for: one code, or several in a row."""
    by_row: bool = False
    """Whether every row is filled up to whole digits."""

    def words(self, data: bytes) -> bytes:
        """The bytes, filled up to whole words."""
        return data + bytes(-len(data) % self.word)

    def filled(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of codes as they are packed, of a weight of this shape (outputs, ...)."""
        several = len(self.codes[0])
        return (shape[0], -(-math.prod(shape[1:]) // several) * several) if self.by_row else shape

    def read(self, data: bytes, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The codes of a weight of this shape; `Kind.unpack` gives the same, faster."""
        parts = np.frombuffer(self.words(data), np.uint8).astype(np.int64).reshape(-1, self.word)
        words = (parts * 256 ** np.arange(self.word)).sum(1, keepdims=True)
        digits = words // self.base ** np.arange(self.count) % self.base
        filled = self.filled(shape)
        codes = np.array(self.codes)[digits].ravel()[: math.prod(filled)].reshape(filled)
        found: NDArray[np.int64] = codes[:, : math.prod(shape[1:])].reshape(shape) if self.by_row else codes
        return found


def of_bits(bits: int, signed: bool) -> Digits:
    """Of what `packing.pack_bits` packs, fewer than 8 bits each."""
    values, half = np.arange(2**bits), 2 ** (bits - 1)
    codes = (values ^ half) - half if signed else values
    together = math.gcd(bits, 8)
    return Digits(bits // together, 2**bits, 8 // together, tuple((int(code),) for code in codes))


def of_kind(kind: Kind) -> Digits | None:
    """Of packed codes; None where each has bytes of its own."""
    if isinstance(kind, SparseTernary):
        states = packing.unpack_fours(packing.pack_bits(np.arange(32), 5), 32, 4)
        return Digits(5, 32, 8, tuple(map(tuple, states.tolist())), by_row=True)
    if isinstance(kind, Ternary):
        return Digits(1, 3, 5, ((-1,), (0,), (1,))) if kind.fives else of_bits(2, signed=True)
    return of_bits(kind.bits, kind.symmetric) if isinstance(kind, Whole) and kind.bits < 8 else None
