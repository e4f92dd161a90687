"""The documents of the `transformer` family: one for images, one for text, told apart by their `input`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from typing_extensions import TypeAliasType

from search_spaces.declared import FamilySection, ImageSection
from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, real, varied
from search_spaces.faults import Fault, SpecError

ACTIVATIONS = ("gelu", "relu", "silu", "hard_swish")
MAX_BLOCKS = 256


class BlockSection(Section):
    """Attention and MLP of a block. The attention is heads x head_dim wide, whatever the width of the tokens."""

    heads: varied(integer(1, 1024)) | None = None  # type: ignore[valid-type]
    """Number of attention heads."""
    head_dim: varied(integer(1, 1024)) | None = None  # type: ignore[valid-type]
    """Width of a head; 64 where it is left out."""
    mlp: varied(integer(1, 65536)) | None = Field(default=None, description="hidden units")  # type: ignore[valid-type]
    mlp_ratio: varied(real(0, 64, above=True)) | None = Field(  # type: ignore[valid-type]
        default=None, description="hidden units as a multiple of the width"
    )

    @model_validator(mode="after")
    def _either(self) -> BlockSection:
        if self.mlp is not None and self.mlp_ratio is not None:
            raise ValueError("has both mlp and mlp_ratio; give one of them")
        return self

    def over(self, other: BlockSection) -> BlockSection:
        """Its own values, and those of `other` where it has none."""
        hidden = self if self.mlp or self.mlp_ratio else other
        return BlockSection(
            heads=self.heads or other.heads,
            head_dim=self.head_dim or other.head_dim or Domain((64,)),
            mlp=hidden.mlp,
            mlp_ratio=hidden.mlp_ratio,
        )


class StageSection(BlockSection):
    """A run of blocks of one width, which stand for all of them where `blocks` does not list them."""

    width: varied(integer(1, 8192)) | None = Field(  # type: ignore[valid-type]
        default=None,
        description="channels of a token; a later stage that names its own begins with a reduction, "
        "one that does not goes on as the stage before",
    )
    depth: varied(integer(0, 128)) | None = Field(  # type: ignore[valid-type]
        default=None, description="number of blocks; by default as many as `blocks` lists"
    )
    per: Literal["stage", "block"] = Field(
        default="stage", description="whether heads, head_dim and the MLP are chosen once, or for every block"
    )
    blocks: tuple[BlockSection, ...] = Field(
        default=(), max_length=128, description="block by block; what one leaves out is as in the stage"
    )
    removable: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="positions, from 0, of blocks that may be left out; never the first"
    )
    activation: choice(*ACTIVATIONS) = Domain(("gelu",))  # type: ignore[valid-type]
    """Inside the MLPs."""
    topology: choice("serial", "parallel") = Domain(("serial",))  # type: ignore[valid-type]
    """Whether blocks read the one before, or all what the stage reads."""

    @property
    def max_depth(self) -> int:
        """Number of block positions."""
        return max(map(int, self.depth.values)) if self.depth is not None else len(self.blocks)

    @property
    def depths(self) -> Domain:
        """The numbers of blocks that it may have."""
        return self.depth or Domain((len(self.blocks),))

    def block(self, position: int) -> BlockSection:
        """What holds for the block at a position."""
        return (self.blocks[position] if self.blocks else BlockSection()).over(self)

    @model_validator(mode="after")
    def _complete(self) -> StageSection:
        found = list(self._faults())
        if found:
            raise SpecError(found)
        return self

    def _faults(self) -> Iterator[Fault]:
        if self.depth is None and not self.blocks:
            yield Fault("depth", "is required, or blocks instead")
            return
        if self.blocks and self.max_depth != len(self.blocks):
            yield Fault("depth", f"reaches {self.max_depth}, and {len(self.blocks)} blocks are listed")
            return
        sections = [self.block(i) for i in range(self.max_depth)]
        if any(b.heads is None for b in sections):
            yield Fault("heads", "is required")
        if any(b.mlp is None and b.mlp_ratio is None for b in sections):
            yield Fault("mlp", "is required, or mlp_ratio instead")
        if self.removable and not self.depths.fixed:
            yield Fault("removable", "stands beside a choice of depth; give one of them")
        for i, position in enumerate(self.removable):
            if position >= self.max_depth:
                at_most = f"; allowed: integers from 1 to {self.max_depth - 1}" if self.max_depth > 1 else ""
                yield Fault(f"removable.{i}", f"{position} is beyond the stage's {self.max_depth} blocks{at_most}")
            if position in self.removable[:i]:
                yield Fault(f"removable.{i}", f"lists {position} twice")


class ConvolutionsSection(Section):
    """Three 3 x 3 convolutions before the patches, the last two around a shortcut (ViT-ResNAS)."""

    width: varied(integer(1, 8192))  # type: ignore[valid-type]
    """Channels of the convolutions."""
    stride: varied(integer(1, 4)) = Domain((2,))  # type: ignore[valid-type]
    """Of the first of them."""


class StemSection(Section):
    """From an image to tokens: a convolution with a bias cuts it into patches."""

    patch: varied(integer(1, 4096))  # type: ignore[valid-type]
    """Height and width of a patch."""
    convolutions: ConvolutionsSection | None = None
    """What stands before the patches; left out: nothing."""


class HeadSection(Section):
    """From tokens to classes."""

    pool: choice("class_token", "mean") = Field(  # type: ignore[valid-type]
        default=Domain(("class_token",)),
        description="what stands for the whole: the first token (a learned one before those of an image), "
        "or the mean of all",
    )
    pooler: bool = Field(default=False, description="a linear layer and tanh before the classifier (BERT)")
    token_classifier: bool = Field(
        default=False, description="a second classifier, of all other tokens, that only training uses (ViT-ResNAS)"
    )
    classifier: bool = Field(default=True, description="false: the network ends before it")


class EncoderSection(Section):
    """What encoders of images and of text have in common."""

    norm: Literal["pre", "post"] = Field(
        default="pre", description="layer norm before attention and MLP (ViT), or after each sum (BERT)"
    )
    stages: Annotated[tuple[StageSection, ...], Field(min_length=1, max_length=64)]
    """From the input to the output."""
    head: HeadSection = HeadSection()
    """What stands after the last stage."""

    def stage_faults(self) -> Iterator[Fault]:
        """What the stages are as a row, and should not be."""
        if self.stages[0].width is None:
            yield Fault("stages.0.width", "is required in the first stage")
        blocks = sum(stage.max_depth for stage in self.stages)
        if blocks > MAX_BLOCKS:
            yield Fault("stages", f"have up to {blocks} blocks in all; allowed: at most {MAX_BLOCKS}")
        before = 0
        for i, stage in enumerate(self.stages):
            if stage.width is None:
                continue
            if min(map(int, stage.width.values)) < before:
                narrow = min(map(int, stage.width.values))
                yield Fault(
                    f"stages.{i}.width", f"{narrow} is less than the {before} before it; reductions only widen"
                )
            before = max(map(int, stage.width.values))


class ImageEncoderSection(EncoderSection):
    """Architecture of an encoder of images."""

    resolution: varied(integer(1, 4096)) | None = None  # type: ignore[valid-type]
    """Height and width of the images that networks are made and counted for; left out: those of `input`."""
    stem: StemSection
    """From the image to tokens."""

    def size_faults(self, height: int, width: int) -> Iterator[Fault]:
        """Sizes of images that do not come out even, down to the last stage."""
        reductions = 2 ** sum(stage.width is not None for stage in self.stages[1:])
        strides = (1,) if self.stem.convolutions is None else self.stem.convolutions.stride.values
        cuts = [int(p) * int(s) for p in self.stem.patch.values for s in strides]
        step = math.lcm(*cuts) * reductions
        allowed = f"allowed: multiples of {step} (patches of {_listed(cuts)} pixels, reductions by {reductions})"
        if self.resolution is not None:
            odd = [int(r) for r in self.resolution.values if int(r) % step]
            if odd:
                yield Fault("architecture.resolution", f"{_listed(odd)} cannot be divided; {allowed}")
        elif height % step or width % step:
            yield Fault("input", f"{height} x {width} cannot be divided; {allowed}")


class TextSection(Section):
    """The text that a network reads: `length` word numbers, each less than `vocabulary`."""

    vocabulary: Annotated[int, Field(ge=1, le=10_000_000)]
    """Number of different words."""
    length: Annotated[int, Field(ge=1, le=65536)]
    """Words of a text."""
    positions: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None, description="entries of the table of positions; by default `length`"
    )
    segments: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="entries of the table of segments (0: none); a text is all in the first"
    )

    @model_validator(mode="after")
    def _long_enough(self) -> TextSection:
        if self.positions is not None and self.positions < self.length:
            raise SpecError.at("positions", f"{self.positions} is less than the length {self.length}")
        return self


class TransformerDocument(ImageSection):
    """A space of transformers for images."""

    family: Literal["transformer"]
    """Transformer encoders of images."""
    architecture: ImageEncoderSection
    """What the networks are."""

    @model_validator(mode="after")
    def _consistent(self) -> TransformerDocument:
        _, height, width = self.input
        _raise(
            *SpecError(self.architecture.stage_faults()).under("architecture").faults,
            *self.architecture.size_faults(height, width),
        )
        return self


class TextTransformerDocument(FamilySection):
    """A space of transformers for text."""

    family: Literal["transformer"]
    """Transformer encoders of text."""
    input: TextSection
    """What the networks read."""
    architecture: EncoderSection
    """What the networks are."""

    @field_validator("architecture")
    @classmethod
    def _unreduced(cls, value: EncoderSection) -> EncoderSection:
        reducing = [i for i, stage in enumerate(value.stages) if i and stage.width is not None]
        _raise(
            *value.stage_faults(),
            *(Fault(f"stages.{i}.width", "begins a reduction, and text has none; leave it out") for i in reducing),
        )
        return value


def _reads(document: object) -> str:
    """Which of the two documents is meant."""
    given = document.get("input") if isinstance(document, Mapping) else getattr(document, "input", None)
    text = isinstance(given, Mapping | TextSection)
    return TextTransformerDocument.__name__ if text else TransformerDocument.__name__


AnyTransformerDocument = TypeAliasType(  # a type with a name, to which schemas can refer
    "AnyTransformerDocument",
    Annotated[
        Annotated[TransformerDocument, Tag("TransformerDocument")]
        | Annotated[TextTransformerDocument, Tag("TextTransformerDocument")],
        Discriminator(_reads),
    ],
)
"""Images or text."""


def _raise(*faults: Fault) -> None:
    if faults:
        raise SpecError(faults)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers))))
