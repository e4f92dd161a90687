"""Weights in the bytes of their schemes, the operators that read them, and activations on their grids.

All that happens to a weight here, ONNX Runtime does when it loads the file (it folds constants), so a network
computes at the speed of floating point, or of whole numbers:

- A weight of up to 8 bits whose input has 8 ends in `DequantizeLinear`, and so does its input, which the runtime
  merges with the layer into a kernel on whole numbers. Those for signed weights saturate in 16 bits on processors
  without VNNI, where the sum of two products ``255 * 127`` does not fit; those for unsigned ones never do, so
  codes become unsigned, around 128. Codes of fewer than 8 bits are multiplied to fill the byte: the runtime rounds
  biases to multiples of both scales, and the finer the weight's, the less that changes. Where it changes more than
  next to nothing all the same, the layer stays in floating point.
- All others end in ``(code - zero) * scale`` in floating point: the runtime never folds a `DequantizeLinear`, so
  it would be done again for every example. Their inputs end in a product, too: after a `DequantizeLinear`, the
  runtime takes the liberty of rounding weights in floating point to 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from nas.deploy.sheet import Page, Part
from nas.evaluators.quantize import Grid, by_channel
from search_spaces.digits import Digits, of_bits, of_kind
from search_spaces.quantization import FLOAT_BITS, Bits
from search_spaces.schemes import Blocks, Floats, Packed, Scheme, Whole

SIGNED = {4: TensorProto.INT4, 8: TensorProto.INT8, 16: TensorProto.INT16}
UNSIGNED = {4: TensorProto.UINT4, 8: TensorProto.UINT8, 16: TensorProto.UINT16}
FLOAT = Bits(FLOAT_BITS, FLOAT_BITS)
MIDDLE = 128
"""Of unsigned bytes."""
FINELY = 1 / 64
"""Of the finest step of activations in the network: so far may a kernel on whole numbers move a bias."""


@dataclass(frozen=True)
class PackedWeights:
    """The weights of a network by its policy, and the grids of its activations."""

    model: nn.Module
    policy: Mapping[str, Bits]
    grids: Mapping[str, Grid]

    def read(self, page: Page, name: str, x: str) -> str:
        """The input on its grid, where it has one."""
        grid = self.grids.get(name)
        if grid is None:
            return x
        part = Part(page)
        value, scale = part.given(x), part.scalar(grid.scale)
        zero = part.tensor(np.array(grid.zero, np.uint16 if grid.bits > 8 else np.uint8))
        codes = part.node("QuantizeLinear", value, scale, zero)
        if self._in_integers(name):
            return part.done(part.node("DequantizeLinear", codes, scale, zero))
        if grid.bits < 8:  # as 4-bit tensors, the runtime drops a ReLU before them that it must not
            codes = part.node("Clip", codes, "", part.tensor(np.array(2**grid.bits - 1, np.uint8)))
        steps = part.node("DequantizeLinear", codes, part.scalar(1), zero)
        return part.done(part.node("Mul", steps, scale))

    def weight(self, page: Page, name: str, turned: bool) -> str:
        """A layer's weight, its output channels on the first axis; `turned`: on the second of two."""
        weight = by_channel(self.model.get_submodule(name)).detach().cpu().numpy()
        bits = self.policy.get(name, FLOAT)
        if bits.weight == FLOAT_BITS:
            return page.tensor(weight.T if turned else weight)
        part = Part(page)
        stored = Stored(part, bits.stored, bits.stored.pack(bits.stored.encode(weight)), weight.shape)
        return part.done(stored.in_integers(turned) if self._in_integers(name) else stored.in_floats(turned))

    def _in_integers(self, name: str) -> bool:
        """Whether the layer can be a kernel on whole numbers: 8 bits, one scale an output channel at most."""
        grid, scheme = self.grids.get(name), self.policy.get(name, FLOAT).stored
        small = not isinstance(scheme.kind, Floats) and not (
            isinstance(scheme.kind, Whole) and scheme.kind.bits > 8
        )
        weight = by_channel(self.model.get_submodule(name)).detach().cpu().numpy()
        fits = grid is not None and grid.bits == 8 and small and per_row(scheme.blocks, weight.shape) <= 1
        return fits and self._rounds_biases_finely(name, scheme, weight)

    def _rounds_biases_finely(self, name: str, scheme: Scheme, weight: NDArray[np.float32]) -> bool:
        """Whether the kernel's own rounding of biases is next to nothing beside that of activations.

        It is not where some channel's weights are huge, as they are after the folding of a batch norm that saw
        almost no variance.
        """
        bias: Tensor | None = getattr(self.model.get_submodule(name), "bias", None)
        if bias is None:
            return True
        scales = np.frombuffer(scheme.pack(scheme.encode(weight)).scales, "<f4")
        steps = self.grids[name].scale * scales.astype(np.float64) / _wider(scheme)
        moved = np.abs(np.remainder(bias.detach().cpu().numpy() / steps + 0.5, 1) - 0.5) * steps
        return bool(moved.max() <= FINELY * min(grid.scale for grid in self.grids.values()))


@dataclass(frozen=True)
class Stored:
    """One packed weight in a graph."""

    part: Part
    scheme: Scheme
    packed: Packed
    shape: tuple[int, ...]
    """Output channels first."""

    def in_integers(self, turned: bool) -> str:
        """For kernels on integers."""
        part, kind = self.part, self.scheme.kind
        blocks = self.shape[: per_row(self.scheme.blocks, self.shape)]
        wider = _wider(self.scheme)
        scales = part.tensor((np.frombuffer(self.packed.scales, "<f4") / np.float32(wider)).reshape(blocks))
        if kind.zero_bits:
            codes, *zeros = (self._bytes(x, wider, 0) for x in (self._codes(self.shape), *self._zeros(blocks)))
        else:
            codes = self._bytes(self._codes(self.shape), wider, MIDDLE)
            middle = part.fixed_tensor(np.array(MIDDLE, np.uint8))
            zeros = [part.node("Expand", middle, part.node("Shape", scales))]
        if turned:
            codes = part.node("Transpose", codes)
        return part.node("DequantizeLinear", codes, scales, *zeros, axis=0 if blocks and not turned else None)

    def _bytes(self, codes: str, wider: int, zero: int) -> str:
        """Codes as unsigned bytes ``code * wider + zero``."""
        part = self.part
        found = part.node("Mul", part.node("Cast", codes, to=TensorProto.INT64), part.fixed(wider))
        return part.node("Cast", part.node("Add", found, part.fixed(zero)), to=TensorProto.UINT8)

    def in_floats(self, turned: bool) -> str:
        """For kernels in floating point."""
        part, count = self.part, per_row(self.scheme.blocks, self.shape)
        outputs, row = self.shape[0], math.prod(self.shape[1:])
        several = count > 1
        shape = (outputs, row) if several else self.shape
        blocks = (outputs, count) if several else (*self.shape[:count], *[1] * (len(shape) - 1))
        found = part.node("Cast", self._codes(shape), to=TensorProto.FLOAT)
        for zero in self._zeros(blocks):
            zeros = part.node("Cast", zero, to=TensorProto.FLOAT)
            found = part.node("Sub", found, self._of_entries(zeros) if several else zeros)
        scales = self._scales(blocks)
        found = part.node("Mul", found, self._of_entries(scales) if several else scales)
        if shape != self.shape:
            found = part.node("Reshape", found, part.ints(*self.shape))
        return part.node("Transpose", found) if turned else found

    def _codes(self, shape: tuple[int, ...]) -> str:
        """The codes as some integers."""
        kind, data = self.scheme.kind, self.packed.codes
        if isinstance(kind, Whole) and kind.bits in SIGNED:
            return self.part.packed(data, (SIGNED if kind.symmetric else UNSIGNED)[kind.bits], shape)
        digits = of_kind(kind)
        assert digits is not None, f"{kind} has no form in ONNX here"
        filled = digits.filled(self.shape)
        codes, part = self._unpacked(data, digits, filled if digits.by_row else shape), self.part
        if not digits.by_row:
            return codes
        row = part.node("Slice", codes, part.fixed(0), part.ints(math.prod(self.shape[1:])), part.fixed(1))
        return part.node("Reshape", row, part.ints(*shape))

    def _zeros(self, shape: tuple[int, ...]) -> list[str]:
        """The zero points, where there are any."""
        bits, data = self.scheme.kind.zero_bits, self.packed.zeros
        if not bits:
            return []
        if bits in UNSIGNED:
            return [self.part.packed(data, UNSIGNED[bits], shape)]
        return [self._unpacked(data, of_bits(bits, signed=False), shape)]

    def _scales(self, shape: tuple[int, ...]) -> str:
        return self.part.packed(self.packed.scales, TensorProto.FLOAT, shape)

    def _unpacked(self, data: bytes, digits: Digits, shape: tuple[int, ...]) -> str:
        """Bytes -> words -> digits -> codes of a shape: `search_spaces.digits` in operators."""
        part, data = Part(self.part), digits.words(data)
        packed, sizes = part.packed(data, TensorProto.UINT8, (len(data),)), part.ints(*shape)
        worth = part.fixed(*(256**i for i in range(digits.word)))
        places = part.fixed(*(digits.base**i for i in range(digits.count)))
        table = part.fixed_tensor(np.array(digits.codes, np.int8))
        zero, one, rest = part.fixed(0), part.fixed(1), part.fixed(-1)
        by_word = part.fixed(-1, digits.word)
        parts = part.node("Reshape", part.node("Cast", packed, to=TensorProto.INT64), by_word)
        words = part.node("ReduceSum", part.node("Mul", parts, worth), one)
        each = part.node("Mod", part.node("Div", words, places), part.fixed(digits.base))
        codes = part.node("Reshape", part.node("Gather", table, each), rest)
        codes = part.node("Slice", codes, zero, part.node("ReduceProd", sizes))
        return part.done(part.node("Reshape", codes, sizes))

    def _of_entries(self, values: str) -> str:
        """Values of blocks (outputs, blocks), one for each entry of a row."""
        part, row = self.part, math.prod(self.shape[1:])
        first, last, step, size = (part.tensor(np.array(n)) for n in (0, row, 1, self.scheme.blocks.size))
        block = part.node("Div", part.node("Range", first, last, step), size)
        return part.node("Gather", values, block, axis=1)


def _wider(scheme: Scheme) -> int:
    """By how much codes are multiplied to fill a byte."""
    return int(2 ** (8 - scheme.kind.bits)) if isinstance(scheme.kind, Whole) else 64


def per_row(blocks: Blocks, shape: Sequence[int]) -> int:
    """Blocks of a row of a weight (outputs, ...); 0 where one block is the whole weight."""
    return 0 if blocks.granularity == "tensor" else int(blocks.count(1, math.prod(shape[1:])))
