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
from search_spaces.layers import Column, Ints, LayerTable, table
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.variables import Variable, Variables

if TYPE_CHECKING:
    from torch import nn

BLOCKS = ("conv", "depthwise_separable", "inverted_residual")
ACTIVATIONS = ("relu", "relu6", "hard_swish", "silu")
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

    def build(self, arch: Architecture) -> nn.Module:
        """The network with fresh weights; input (batch, channels, height, width), output (batch, classes)."""
        from search_spaces.modules.staged import StagedNetwork

        return StagedNetwork(self, arch)

    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population: stem, six possible modules a block position, head, classifier."""
        n = len(genes)
        channels, height, width = self.document.input
        stem_width, kernel = self.stem["width"].read(genes), self.stem["kernel"].read(genes)
        stride = self.stem["stride"].read(genes)
        size = (_shrink(np.full(n, height), stride), _shrink(np.full(n, width), stride))
        columns = [Column("stem.conv", kernel**2 * channels * stem_width, stem_width, size[0] * size[1])]
        before = stem_width
        for s, stage in enumerate(self.stages):
            stage_columns, before, size = _stage_columns(f"stages.{s}", stage, genes, before, size)
            columns += stage_columns
        head = self.head_width.read(genes)
        columns.append(Column("head.conv", before * head, head, size[0] * size[1]))
        features = np.where(head > 0, head, before)
        classes = self.document.classes
        columns.append(Column("classifier", features * classes, classes, 1, normalised=False, biased=True))
        return table(n, columns, *self._policy.bits(genes))

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


def _stage_columns(
    path: str, stage: StageGenes, genes: Genes, before: Ints, size: tuple[Ints, Ints]
) -> tuple[list[Column], Ints, tuple[Ints, Ints]]:
    """The modules of one stage; then the channels and the size of its output map."""
    depth, width, kernel = stage.depth.read(genes), stage.width.read(genes), stage.kernel.read(genes)
    is_conv = stage.block.equals(genes, "conv")
    is_inverted = stage.block.equals(genes, "inverted_residual")
    excited = stage.squeeze_excite.equals(genes, True) & ~is_conv
    expansion = stage.expansion.read_real(genes)
    stride = np.where(depth > 0, stage.stride.read(genes), 1)
    after = (_shrink(size[0], stride), _shrink(size[1], stride))
    area_in, area = size[0] * size[1], after[0] * after[1]

    columns: list[Column] = []
    for position in range(stage.max_depth):
        there = (depth > position).astype(np.int64)
        into = before if position == 0 else width
        hidden = np.where(is_inverted, expanded(into, expansion), into)
        squeezed = divisible(hidden / 4)
        conv, deep = there * is_conv, there * ~is_conv
        expand = there * (is_inverted & (expansion > 1))
        se = there * excited
        name = f"{path}.{position}."
        columns += [
            Column(f"{name}conv", kernel**2 * into * width, conv * width, area),
            Column(f"{name}expand", into * hidden, expand * hidden, area_in if position == 0 else area),
            Column(f"{name}depthwise", kernel**2 * hidden, deep * hidden, area),
            Column(f"{name}squeeze", hidden * squeezed, se * squeezed, 1, normalised=False, biased=True),
            Column(f"{name}excite", hidden * squeezed, se * hidden, 1, normalised=False, biased=True),
            Column(f"{name}project", hidden * width, deep * width, area),
        ]
    return columns, np.where(depth > 0, width, before), after


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
