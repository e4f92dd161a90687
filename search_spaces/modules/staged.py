"""The torch modules of the `staged` family; their names are those of the family's layer table."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.staged import StagedSpace, StageGenes, divisible, expanded

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
    "silu": nn.SiLU,
}


class StagedNetwork(nn.Module):
    """Stem, stages, head; input (batch, channels, height, width), output (batch, classes) logits.

    Built from the canonical genes, so equal keys draw equal weights from equal torch seeds. A stage of depth
    0 is not there, and the stages after it keep their names.
    """

    def __init__(self, space: StagedSpace, arch: Architecture) -> None:
        super().__init__()
        genes = space.canonical(arch).genes
        channels = space.document.input[0]
        stem = {name: variable.of(genes) for name, variable in space.stem.items()}
        width = int(stem["width"])
        self.stem = conv_block(channels, width, int(stem["kernel"]), int(stem["stride"]), str(stem["activation"]))
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for index, stage in enumerate(space.stages):
            if int(stage.depth.of(genes)) > 0:
                stages[str(index)] = _stage(stage, genes, width)
                width = int(stage.width.of(genes))
        self.stages = nn.Sequential(stages)
        head = int(space.head_width.of(genes))
        self.head = conv_block(width, head, 1, 1, str(space.head_activation.of(genes))) if head else nn.Identity()
        self.classifier = nn.Linear(head or width, space.document.classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        features: Tensor = self.head(self.stages(self.stem(x)))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


class DepthwiseBlock(nn.Module):
    """Depthwise convolution between an optional expansion and a projection, both 1 x 1.

    With `linear`, an inverted residual (Sandler et al. 2018): no activation after the projection, and a
    shortcut where the shape stays. Without, a depthwise-separable convolution (Howard et al. 2017). There is
    an expansion where `hidden` gives its channels.
    """

    def __init__(
        self,
        into: int,
        width: int,
        *,
        hidden: int | None,
        kernel: int,
        stride: int,
        activation: str,
        squeeze_excite: bool,
        linear: bool,
    ) -> None:
        super().__init__()
        inner = into if hidden is None else hidden
        self.expand = None if hidden is None else _conv(into, inner, 1)
        self.expand_norm = None if hidden is None else nn.BatchNorm2d(inner)
        self.depthwise = _conv(inner, inner, kernel, stride, groups=inner)
        self.depthwise_norm = nn.BatchNorm2d(inner)
        squeezed = int(divisible(np.asarray(inner / 4)))
        self.squeeze = nn.Conv2d(inner, squeezed, 1) if squeeze_excite else None
        self.excite = nn.Conv2d(squeezed, inner, 1) if squeeze_excite else None
        self.project = _conv(inner, width, 1)
        self.project_norm = nn.BatchNorm2d(width)
        self.activation = ACTIVATIONS[activation](inplace=True)
        self.linear = linear
        self.shortcut = linear and stride == 1 and into == width

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, into, h, w) to (batch, width, ceil(h / stride), ceil(w / stride))."""
        y: Tensor = x
        if self.expand is not None and self.expand_norm is not None:
            y = self.activation(self.expand_norm(self.expand(y)))
        y = self.activation(self.depthwise_norm(self.depthwise(y)))
        if self.squeeze is not None and self.excite is not None:
            y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(y.mean(dim=(2, 3), keepdim=True)))))
        y = self.project_norm(self.project(y))
        if not self.linear:
            y = self.activation(y)
        if self.shortcut:
            y = x + y
        return y


def conv_block(into: int, width: int, kernel: int, stride: int, activation: str) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return nn.Sequential(
        OrderedDict(
            conv=_conv(into, width, kernel, stride),
            conv_norm=nn.BatchNorm2d(width),
            activation=ACTIVATIONS[activation](inplace=True),
        )
    )


def _stage(stage: StageGenes, genes: tuple[int, ...], into: int) -> nn.Sequential:
    """The blocks of a stage that is there; the first takes the stride and the change of width."""
    width, stride = int(stage.width.of(genes)), int(stage.stride.of(genes))
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for position in range(int(stage.depth.of(genes))):
        blocks[str(position)] = _block(stage, genes, width if position else into, 1 if position else stride)
    return nn.Sequential(blocks)


def _block(stage: StageGenes, genes: tuple[int, ...], into: int, stride: int) -> nn.Module:
    kind, width, kernel = stage.block.of(genes), int(stage.width.of(genes)), int(stage.kernel.of(genes))
    activation, expansion = str(stage.activation.of(genes)), float(stage.expansion.of(genes))
    if kind == "conv":
        return conv_block(into, width, kernel, stride, activation)
    expands = kind == "inverted_residual" and expansion > 1
    return DepthwiseBlock(
        into,
        width,
        hidden=int(expanded(np.asarray(into), np.asarray(expansion))) if expands else None,
        kernel=kernel,
        stride=stride,
        activation=activation,
        squeeze_excite=bool(stage.squeeze_excite.of(genes)),
        linear=kind == "inverted_residual",
    )


def _conv(into: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, width, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)


def _initialise(module: nn.Module) -> None:
    """Convolutions: normal with variance 2 / fan-out (He et al. 2015). The classifier keeps torch's own."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels / module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
