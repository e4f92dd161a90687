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
from pydantic import Field, field_validator

from search_spaces.architecture import Architecture, Genes
from search_spaces.declared import DeclaredSpace, FamilySection
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice, integer, real, varied
from search_spaces.layers import Block, Ints, LayerTable, Modules
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.variables import Row, Variable, Variables

if TYPE_CHECKING:
    from torch import nn

BLOCKS = ("conv", "depthwise_separable", "inverted_residual")
ACTIVATIONS = ("relu", "relu6", "hard_swish", "silu")
MAX_BLOCKS = 128
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


class _Rows:
    """The variables of all stages side by side, for costs of whole populations."""

    def __init__(self, network: Sequence[Variable], stages: Sequence[StageGenes]) -> None:
        self.network = Row(network)
        self.depth = Row([s.depth for s in stages])
        self.width = Row([s.width for s in stages])
        self.kernel = Row([s.kernel for s in stages])
        self.stride = Row([s.stride for s in stages])
        self.expansion = Row([s.expansion for s in stages])
        self.squeeze_excite = Row([s.squeeze_excite for s in stages])
        self.block = Row([s.block for s in stages], words=BLOCKS)
        places = [(i, position) for i, s in enumerate(stages) for position in range(s.max_depth)]
        self.places = np.array(places, dtype=np.int64).reshape(len(places), 2).T
        """Stage and position of every block that there may be."""


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
        self.head_activation = variables.add("head.activation", section.head.activation, {self.head_width: widths})
        parts, part_of = self._parts(document.quantization.per)
        self._policy = add_policy(variables, document.quantization, parts, part_of)
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices
        stem = [self.stem[key] for key in ("width", "kernel", "stride")]
        self._rows = _Rows([*stem, self.head_width], self.stages)
        self._modules = Modules(self._module_names(), biased=frozenset({"squeeze", "excite", "classifier"}))

    def build(self, arch: Architecture) -> nn.Module:
        """The network with fresh weights; input (batch, channels, height, width), output (batch, classes)."""
        from search_spaces.modules.staged import StagedNetwork

        return StagedNetwork(self, arch)

    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population: stem, six possible modules a block position, head, classifier."""
        rows, n = self._rows, len(genes)
        stem, kernel, stride, head = rows.network.read(genes).T
        classes = np.full(n, self.document.classes)
        channels, height, width = self.document.input
        depth, out = rows.depth.read(genes), rows.width.read(genes)
        strides = np.where(depth > 0, rows.stride.read(genes), 1)
        into, size = np.empty_like(out), np.empty((n, len(self.stages) + 1, 2), dtype=np.int64)
        size[:, 0] = _shrink(np.array([height, width]), stride[:, None])
        before = stem
        for s in range(len(self.stages)):
            into[:, s] = before
            before = np.where(depth[:, s] > 0, out[:, s], before)
            size[:, s + 1] = _shrink(size[:, s], strides[:, s, None])
        area = size.prod(axis=2)
        blocks = [
            _single(kernel**2 * channels * stem, stem, area[:, 0]),
            self._stage_modules(genes, depth, into, out, area),
            _single(before * head, head, area[:, -1]),
            _single(np.where(head > 0, head, before) * classes, classes, np.ones_like(head)),
        ]
        return self._modules.table(blocks, *self._policy.bits(genes))

    def _stage_modules(self, genes: Genes, depth: Ints, first: Ints, out: Ints, area: Ints) -> Block:
        """The modules of all block positions, from depth, input and output channels of every stage (n, stages).

        All blocks of a stage but its first are alike: arrays of shape (n, stages, 2) stand for the two kinds.
        """
        rows = self._rows
        block = rows.block.read(genes)[:, :, None]
        conv, inverted = block == BLOCKS.index("conv"), block == BLOCKS.index("inverted_residual")
        excited = rows.squeeze_excite.read(genes)[:, :, None].astype(bool) & ~conv
        expansion = rows.expansion.read(genes)[:, :, None]
        taps, width, after = rows.kernel.read(genes)[:, :, None] ** 2, out[:, :, None], area[:, 1:, None]
        into = np.stack([first, out], axis=2)
        before = np.stack([area[:, :-1], area[:, 1:]], axis=2)
        hidden = np.where(inverted, expanded(into, expansion), into)
        squeezed = divisible(hidden / 4)
        columns = {  # weights, outputs (0 where there is no such module), positions
            "conv": (taps * into * width, width * conv, after),
            "expand": (into * hidden, hidden * (inverted & (expansion > 1)), before),
            "depthwise": (taps * hidden, hidden * ~conv, after),
            "squeeze": (hidden * squeezed, squeezed * excited, 1),
            "excite": (hidden * squeezed, hidden * excited, 1),
            "project": (hidden * width, width * ~conv, after),
        }
        stage, position = rows.places
        there = (depth[:, stage] > position)[:, :, None]

        def lay(part: int) -> Ints:
            slots = np.empty((*into.shape, len(_SLOTS)), dtype=np.int64)
            for i, slot in enumerate(_SLOTS):
                slots[..., i] = columns[slot][part]
            laid: Ints = slots[:, stage, np.minimum(position, 1)] * there
            return laid.reshape(len(genes), stage.size * len(_SLOTS))

        return lay(0), lay(1), lay(2)

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
        expansion=variables.add(f"{path}.expansion", section.expansion, {**there, block: ["inverted_residual"]}),
        squeeze_excite=variables.add(f"{path}.squeeze_excite", section.squeeze_excite, depthwise),
        activation=variables.add(f"{path}.activation", section.activation, there),
        stride=variables.add(f"{path}.stride", section.stride, there),
    )


def _single(weights: Ints, outputs: Ints, positions: Ints) -> Block:
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
