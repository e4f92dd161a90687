"""The `staged` family: a stem, stages of repeated blocks, and a head; MobileNet-like networks.

Blocks: ``conv`` (k x k convolution), ``depthwise_separable`` (MobileNet, Howard et al. 2017) and
``inverted_residual`` (MobileNetV2, Sandler et al. 2018; with squeeze-and-excitation as in MobileNetV3,
Howard et al. 2019). Every convolution is followed by batch norm. The first block of a stage has the stage's
stride; a stage of depth 0 is not there, its stride neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from search_spaces.architecture import Architecture, Genes
from search_spaces.declared import DeclaredSpace, FamilySection
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice, integer, real, varied
from search_spaces.layers import Block, Ints, LayerTable, Modules
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.variables import Variable, Variables

if TYPE_CHECKING:
    from torch import nn

BLOCKS = ("conv", "depthwise_separable", "inverted_residual")
ACTIVATIONS = ("relu", "relu6", "hard_swish", "silu")
MAX_BLOCKS = 512
DEPTHWISE = ("depthwise_separable", "inverted_residual")

_WIDTH = {"type": "integer", "minimum": 1}
_KERNEL = {"type": "integer", "minimum": 1, "maximum": 15}


class StemSection(Section):
    """The first convolution."""

    width: varied(integer(1, 8192), _WIDTH)  # type: ignore[valid-type]
    kernel: varied(integer(1, 15, odd=True), _KERNEL) = Domain((3,))  # type: ignore[valid-type]
    stride: varied(integer(1, 4), {"type": "integer"}) = Domain((1,))  # type: ignore[valid-type]
    activation: choice(*ACTIVATIONS) = Domain(("relu",))  # type: ignore[valid-type]


class StageSection(Section):
    """A run of blocks of one kind."""

    block: choice(*BLOCKS)  # type: ignore[valid-type]
    depth: varied(integer(0, 64), {"type": "integer", "minimum": 0})  # type: ignore[valid-type]
    width: varied(integer(1, 8192), _WIDTH)  # type: ignore[valid-type]
    kernel: varied(integer(1, 15, odd=True), _KERNEL) = Domain((3,))  # type: ignore[valid-type]
    expansion: varied(real(1, 16), {"type": "number", "minimum": 1}) = Domain((4.0,))  # type: ignore[valid-type]
    squeeze_excite: choice(False, True) = Domain((False,))  # type: ignore[valid-type]
    activation: choice(*ACTIVATIONS) = Domain(("relu",))  # type: ignore[valid-type]
    stride: varied(integer(1, 4), {"type": "integer"}) = Domain((1,))  # type: ignore[valid-type]


class HeadSection(Section):
    """What stands between the last stage and the classifier: a 1 x 1 convolution, where width is not 0."""

    width: varied(integer(0, 8192), {"type": "integer", "minimum": 0}) = Domain((0,))  # type: ignore[valid-type]
    activation: choice(*ACTIVATIONS) = Domain(("relu",))  # type: ignore[valid-type]


class StagedArchitectureSection(Section):
    """Stem, stages, head."""

    stem: StemSection
    stages: Annotated[tuple[StageSection, ...], Field(min_length=1, max_length=32)]
    head: HeadSection = HeadSection()


class StagedDocument(FamilySection):
    """A staged space."""

    family: Literal["staged"]
    architecture: StagedArchitectureSection

    @field_validator("architecture")
    @classmethod
    def _bounded(cls, value: StagedArchitectureSection) -> StagedArchitectureSection:
        blocks = sum(max(int(v) for v in stage.depth.values) for stage in value.stages)
        if blocks > MAX_BLOCKS:
            raise ValueError(f"has up to {blocks} blocks in all; allowed: at most {MAX_BLOCKS}")
        return value

    @field_validator("input")
    @classmethod
    def _positive(cls, value: tuple[int, int, int], info: ValidationInfo) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError(f"{list(value)} is not allowed; allowed: [channels, height, width], each >= 1")
        return value


@dataclass(frozen=True)
class StageGenes:
    """The variables of one stage."""

    block: Variable
    depth: Variable
    width: Variable
    kernel: Variable
    expansion: Variable
    squeeze_excite: Variable
    activation: Variable
    stride: Variable

    @property
    def max_depth(self) -> int:
        """Number of block positions that the stage can fill."""
        return max(int(v) for v in self.depth.values)


class StagedSpace(DeclaredSpace):
    """Networks of a `StagedDocument`."""

    document: StagedDocument

    def __init__(self, document: StagedDocument, name: str = "staged") -> None:
        self.document = document
        self.name = document.name or name
        variables = Variables()
        section = document.architecture
        self.stem = {key: variables.add(f"stem.{key}", d) for key, d in section.stem}
        self.stages = tuple(_add_stage(variables, f"stages.{i}", s) for i, s in enumerate(section.stages))
        self.head_width = variables.add("head.width", section.head.width)
        widths = [v for v in self.head_width.values if v != 0]
        self.head_activation = variables.add(
            "head.activation", section.head.activation, {self.head_width: widths}
        )
        parts, part_of = self._parts(document.quantization.per)
        self._policy = add_policy(variables, document.quantization, parts, part_of)
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices
        self._modules = Modules(
            self._module_names(), biased=frozenset({"squeeze", "excite", "classifier"})
        )

    def build(self, arch: Architecture) -> nn.Module:
        """The network with fresh weights; input (batch, channels, height, width), output (batch, classes)."""
        from search_spaces.modules.staged import StagedNetwork

        return StagedNetwork(self, arch)

    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population: stem, six possible modules a block position, head, classifier."""
        ones = np.ones(len(genes), dtype=np.int64)
        channels, height, width = self.document.input
        before, kernel = self.stem["width"].read(genes), self.stem["kernel"].read(genes)
        stride = self.stem["stride"].read(genes)
        size = (_shrink(height * ones, stride), _shrink(width * ones, stride))
        blocks = [_block(kernel**2 * channels * before, before, size[0] * size[1])]
        for stage in self.stages:
            block, before, size = _stage_block(stage, genes, before, size)
            blocks.append(block)
        head = self.head_width.read(genes)
        blocks.append(_block(before * head, head, size[0] * size[1]))
        classes = self.document.classes * ones
        blocks.append(_block(np.where(head > 0, head, before) * classes, classes, ones))
        return self._modules.table(blocks, *self._policy.bits(genes))

    def _module_names(self) -> tuple[str, ...]:
        stages = [
            f"stages.{s}.{position}.{slot}"
            for s, stage in enumerate(self.stages)
            for position in range(stage.max_depth)
            for slot in _SLOTS
        ]
        return ("stem.conv", *stages, "head.conv", "classifier")

    def _parts(self, per: str) -> tuple[list[Part], list[int]]:
        """The parts that have a policy of their own, and the part of every column of the layer table."""
        parts, part_of = [Part("stem", {})], [0]
        for s, stage in enumerate(self.stages):
            for position in range(stage.max_depth):
                if per == "layer":
                    name, deeper = f"stages.{s}.{position}", position
                else:
                    name, deeper = f"stages.{s}", 0
                if parts[-1].name != name:
                    parts.append(Part(name, {stage.depth: [d for d in stage.depth.values if int(d) > deeper]}))
                part_of += [len(parts) - 1] * len(_SLOTS)
        parts.append(Part("head", {}))
        return parts, [*part_of, len(parts) - 1, len(parts) - 1]


_SLOTS = ("conv", "expand", "depthwise", "squeeze", "excite", "project")


def _add_stage(variables: Variables, path: str, section: StageSection) -> StageGenes:
    depth = variables.add(f"{path}.depth", section.depth)
    there: Mapping[Variable, Sequence[Value]] = {depth: [d for d in depth.values if d != 0]}
    block = variables.add(f"{path}.block", section.block, there)
    depthwise = {**there, block: DEPTHWISE}
    return StageGenes(
        block=block,
        depth=depth,
        width=variables.add(f"{path}.width", section.width, there),
        kernel=variables.add(f"{path}.kernel", section.kernel, there),
        expansion=variables.add(
            f"{path}.expansion", section.expansion, {**there, block: ["inverted_residual"]}
        ),
        squeeze_excite=variables.add(f"{path}.squeeze_excite", section.squeeze_excite, depthwise),
        activation=variables.add(f"{path}.activation", section.activation, there),
        stride=variables.add(f"{path}.stride", section.stride, there),
    )


def _stage_block(
    stage: StageGenes, genes: Genes, before: Ints, size: tuple[Ints, Ints]
) -> tuple[Block, Ints, tuple[Ints, Ints]]:
    """The modules of one stage; then the channels and the size of its output map.

    All blocks but the first are alike, so arrays of shape (n, 2) stand for the first and for the others.
    """
    depth, out, kernel = stage.depth.read(genes), stage.width.read(genes), stage.kernel.read(genes)
    stride = np.where(depth > 0, stage.stride.read(genes), 1)
    after = (_shrink(size[0], stride), _shrink(size[1], stride))
    conv = stage.block.equals(genes, "conv")[:, None]
    inverted = stage.block.equals(genes, "inverted_residual")[:, None]
    excited = stage.squeeze_excite.equals(genes, True)[:, None] & ~conv
    expansion = stage.expansion.read_real(genes)[:, None]

    into, out_ = np.stack([before, out], axis=1), out[:, None]
    area = (after[0] * after[1])[:, None]
    area_in = np.stack([size[0] * size[1], area[:, 0]], axis=1)
    taps = (kernel**2)[:, None]
    hidden = np.where(inverted, expanded(into, expansion), into)
    squeezed = divisible(hidden / 4)
    pair = (len(genes), 2)
    columns = {  # weights, outputs (0 where there is no such module), positions
        "conv": (taps * into * out_, out_ * conv, area),
        "expand": (into * hidden, hidden * (inverted & (expansion > 1)), area_in),
        "depthwise": (taps * hidden, hidden * ~conv, area),
        "squeeze": (hidden * squeezed, squeezed * excited, np.ones_like(area)),
        "excite": (hidden * squeezed, hidden * excited, np.ones_like(area)),
        "project": (hidden * out_, out_ * ~conv, area),
    }
    kinds = [0] + [1] * (stage.max_depth - 1) if stage.max_depth else []
    there = depth[:, None] > np.arange(stage.max_depth)

    def lay(values: Sequence[Ints]) -> Ints:
        slots = np.stack([np.broadcast_to(v, pair) for v in values], axis=2)
        return (slots[:, kinds] * there[:, :, None]).reshape(len(genes), -1)

    weights, outputs, positions = (lay(v) for v in zip(*(columns[slot] for slot in _SLOTS), strict=True))
    return (weights, outputs, positions), np.where(depth > 0, out, before), after


def _block(weights: Ints, outputs: Ints, positions: Ints) -> Block:
    return weights[:, None], outputs[:, None], positions[:, None]


def divisible(channels: np.ndarray, by: int = 8) -> Ints:
    """Channels rounded to a multiple of `by`, never by more than 10 % down (MobileNetV2's rule)."""
    rounded = np.maximum(by, (channels + by / 2).astype(np.int64) // by * by)
    return np.where(rounded < 0.9 * channels, rounded + by, rounded)


def expanded(channels: Ints, expansion: np.ndarray) -> Ints:
    """Hidden channels of an inverted residual: a multiple of 8, or the input's own where it does not expand."""
    return np.where(expansion > 1, divisible(channels * expansion), channels)


def _shrink(size: Ints, stride: Ints) -> Ints:
    """Output size of a convolution with odd kernel k and padding (k - 1) / 2."""
    return -(-size // stride)
