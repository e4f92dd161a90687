"""The operators of every function of `search_spaces.modules`: each writer takes the function's own arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows

from nas.deploy.sheet import Page, Part
from search_spaces.modules import functions

END = 2**63 - 1
"""Of a slice that goes on to the last."""


@dataclass(frozen=True)
class Value:
    """What flows between nodes: its name in the graph, and its shape for the example."""

    name: str
    shape: tuple[int, ...]


def _simple(operator: str, **attributes: Any) -> Callable[..., str]:
    """An operator that takes what the function takes."""

    def write(page: Page, *x: Value) -> str:
        return page.node(operator, *(v.name for v in x), **attributes)

    return write


def _relu6(page: Page, x: Value) -> str:
    return page.node("Clip", x.name, page.scalar(0), page.scalar(6))


def _silu(page: Page, x: Value) -> str:
    return page.node("Mul", x.name, page.node("Sigmoid", x.name))


def _pool(operator: str) -> Callable[..., str]:
    """Padding counts in neither kind, and is no part of the last windows of an average."""

    def write(
        page: Page,
        x: Value,
        kernel_size: int,
        stride: int | tuple[int, int],
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> str:
        assert not count_include_pad
        strides = (stride, stride) if isinstance(stride, int) else stride
        return page.node(
            operator,
            x.name,
            kernel_shape=[kernel_size] * 2,
            strides=None if strides == (1, 1) else strides,
            pads=[padding] * 4 if padding else None,
            ceil_mode=1 if ceil_mode else None,
        )

    return write


def _reduced(operator: str) -> Callable[..., str]:
    def write(page: Page, x: Value, dim: int | Sequence[int], keepdim: bool = False) -> str:
        axes = [dim] if isinstance(dim, int) else dim
        return page.node(operator, x.name, page.ints(*axes), keepdims=None if keepdim else 0)

    return write


def _joined(page: Page, x: Sequence[Value], dim: int) -> str:
    return page.node("Concat", *(v.name for v in x), axis=dim)


def _flatten(page: Page, x: Value, start: int) -> str:
    assert start == 1
    return page.node("Flatten", x.name)


def _resize(page: Page, x: Value, height: int, width: int) -> str:
    if x.shape[2:] == (height, width):
        return x.name
    sizes = page.ints(height, width)
    return page.node("Resize", x.name, "", "", sizes, mode="linear", antialias=1, exclude_outside=1, axes=[2, 3])


def _padded(page: Page, x: Value, *more: int) -> str:
    """Zeros after the last entries of the last axes; with `axes` ONNX Runtime gets pads of turned values wrong."""
    return page.node("Pad", x.name, page.ints(*[0] * (2 * len(x.shape) - len(more)), *more))


def _pad_channels(page: Page, x: Value, out: int) -> str:
    more = out - x.shape[-1]
    return _padded(page, x, more) if more else x.name


def _slice(page: Page, x: str, start: int, stop: int, axes: Sequence[int], step: int = 1) -> str:
    count = len(axes)
    bounds = [page.ints(*[start] * count), page.ints(*[stop] * count), page.ints(*axes)]
    return page.node("Slice", x, *bounds, *[] if step == 1 else [page.ints(*[step] * count)])


def _zeros(page: Page, x: Value, stride: int) -> str:
    kept = x.name if stride == 1 else _slice(page, x.name, 0, END, (2, 3), stride)
    return page.node("Mul", kept, page.scalar(0))


def _subsample(page: Page, x: Value, shifted: bool) -> str:
    if not shifted:
        return _slice(page, x.name, 0, END, (2, 3), 2)
    return _slice(page, _padded(page, x, 1, 1), 1, END, (2, 3), 2)


def _to_tokens(page: Page, x: Value) -> str:
    return page.node("Transpose", page.node("Reshape", x.name, page.ints(0, 0, -1)), perm=[0, 2, 1])


def _to_map(page: Page, x: Value, height: int, width: int) -> str:
    turned = page.node("Transpose", x.name, perm=[0, 2, 1])
    return page.node("Reshape", turned, page.ints(0, 0, height, width))


def _tokens(page: Page, x: Value, start: int, stop: int | None, alone: bool) -> str:
    if alone:
        return page.node("Flatten", _slice(page, x.name, start, start + 1, [1]))
    return _slice(page, x.name, start, END if stop is None else stop, [1])


def _attention(page: Page, q: Value, k: Value, v: Value, heads: int) -> str:
    part = Part(page)
    by_head, scale = part.ints(0, 0, heads, -1), part.scalar((q.shape[2] // heads) ** -0.5)

    def apart(x: Value, perm: Sequence[int]) -> str:
        return part.node("Transpose", part.node("Reshape", part.given(x.name), by_head), perm=perm)

    scores = part.node("MatMul", part.node("Mul", apart(q, [0, 2, 1, 3]), scale), apart(k, [0, 2, 3, 1]))
    mixed = part.node("MatMul", part.node("Softmax", scores), apart(v, [0, 2, 1, 3]))
    return part.done(part.node("Reshape", part.node("Transpose", mixed, perm=[0, 2, 1, 3]), part.fixed(0, 0, -1)))


FUNCTIONS: dict[Any, Callable[..., str]] = {
    F.relu: _simple("Relu"),
    F.relu6: _relu6,
    F.hardswish: _simple("HardSwish"),
    F.silu: _silu,
    F.gelu: _simple("Gelu"),
    torch.tanh: _simple("Tanh"),
    torch.sigmoid: _simple("Sigmoid"),
    F.hardsigmoid: _simple("HardSigmoid", alpha=1 / 6),
    F.max_pool2d: _pool("MaxPool"),
    F.avg_pool2d: _pool("AveragePool"),
    torch.add: _simple("Add"),
    torch.sub: _simple("Sub"),
    torch.mul: _simple("Mul"),
    torch.cat: _joined,
    "mean": _reduced("ReduceMean"),
    "amax": _reduced("ReduceMax"),
    "flatten": _flatten,
    functions.resize: _resize,
    functions.pad_channels: _pad_channels,
    functions.zeros: _zeros,
    functions.subsample: _subsample,
    functions.to_tokens: _to_tokens,
    functions.to_map: _to_map,
    functions.tokens: _tokens,
    functions.attention: _attention,
}
"""By the function, or by the name of a method of tensors."""
