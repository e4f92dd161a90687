"""Sizes of feature maps, for one network or for a whole population at once.

Everything that describes a network (`Network` and the operations) calculates with a `Count`: a plain integer
where all networks agree, an array of shape (n,) where they differ. The same description therefore counts
100,000 networks in a few array operations and builds a single one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Count: TypeAlias = Any
"""An int, or int64 of shape (n,): one number a network of the population."""
Mask: TypeAlias = Any
"""A bool, or bools of shape (n,): in which networks of the population something is so."""


@dataclass(frozen=True, eq=False)
class Feature:
    """What flows between operations: a map (channels, height, width), tokens (height of them) or a vector."""

    channels: Count
    height: Count = 1
    width: Count = 1
    node: Any = None
    """What the network that recorded it knows it by."""

    @property
    def positions(self) -> Count:
        """Height x width, or the number of tokens."""
        return self.height * self.width

    @property
    def numel(self) -> Count:
        """Number of entries for one example."""
        return self.channels * self.height * self.width


def where(mask: Mask, yes: Count, no: Count) -> Count:
    """`yes` where the mask holds, else `no`."""
    if isinstance(mask, bool):
        return yes if mask else no
    same = yes is no or (isinstance(yes, int) and isinstance(no, int) and yes == no)
    return yes if same else np.where(mask, yes, no)


def both(a: Mask, b: Mask) -> Mask:
    """Where both masks hold."""
    if a is True or b is False:
        return b
    if b is True or a is False:
        return a
    return a & b


def simplified(mask: Mask) -> Mask:
    """True or False where the whole population agrees."""
    if isinstance(mask, bool):
        return mask
    mask = np.asarray(mask)
    if not mask.any():
        return False
    return True if mask.all() else mask


def negated(mask: Mask) -> Mask:
    """Where the mask does not hold."""
    return not mask if isinstance(mask, bool) else ~mask


def at_least(a: Count, b: Count) -> Count:
    """The greater of the two."""
    return max(a, b) if isinstance(a, int | float) and isinstance(b, int | float) else np.maximum(a, b)


def whole(x: Any) -> Count:
    """A number without its fraction."""
    return int(x) if isinstance(x, int | float) else x.astype(np.int64)


def divisible(channels: Any, by: int = 8, floor: float = 0.9) -> Count:
    """Channels rounded to a multiple of `by`, but never below the share `floor` of them.

    The default is the rule of MobileNetV2's code.
    """
    rounded = at_least(by, whole(channels + by / 2) // by * by)
    return where(rounded < floor * channels, rounded + by, rounded)


def common_divisor(a: Count, b: Count) -> Count:
    """The greatest number that divides both."""
    if isinstance(b, int) and b == 1:
        return 1
    return math.gcd(a, b) if isinstance(a, int) and isinstance(b, int) else np.gcd(a, b)
