"""The document of the `staged` family."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from search_spaces.declared import ImageSection
from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, real, varied
from search_spaces.faults import Fault, SpecError

BLOCKS = ("conv", "depthwise_separable", "inverted_residual", "basic", "bottleneck")
ACTIVATIONS = ("relu", "relu6", "hard_swish", "silu", "gelu")
DEPTHWISE = ("depthwise_separable", "inverted_residual")
RESNET = ("basic", "bottleneck")
MAX_BLOCKS = 256

_ONE = Domain((1,))
_THREE = Domain((3,))
_RELU = Domain(("relu",))


class StemSection(Section):
    """The first convolutions: the first takes the stride, all but the last of several have the inner width."""

    VARIED: ClassVar[tuple[str, ...]] = ("width", "kernel", "stride", "convolutions", "activation")

    width: varied(integer(1, 8192))  # type: ignore[valid-type]
    """Channels of the last convolution."""
    kernel: varied(integer(1, 31, odd=True)) = _THREE  # type: ignore[valid-type]
    """Height and width of the convolutions."""
    stride: varied(integer(1, 4)) = _ONE  # type: ignore[valid-type]
    """Of the first convolution."""
    convolutions: varied(integer(1, 3)) = _ONE  # type: ignore[valid-type]
    """How many there are."""
    inner: varied(integer(1, 8192)) | None = None  # type: ignore[valid-type]
    """Channels of all but the last of several convolutions; left out: half the width."""
    activation: choice(*ACTIVATIONS) = _RELU  # type: ignore[valid-type]
    """After each of them."""
    residual: bool = False
    """Whether there is a shortcut around the second of three."""
    bias: bool = Field(default=False, description="whether the convolutions have biases beside their batch norms")
    pool: Literal["none", "max", "conv"] = Field(
        default="none", description="what halves the map after them: 3 x 3 max pooling or a 3 x 3 convolution"
    )


class FirstSection(Section):
    """What a stage's first block has for itself; what is left out is as in the other blocks."""

    kernel: varied(integer(1, 31, odd=True)) | None = None  # type: ignore[valid-type]
    """Height and width of its convolution."""
    expansion: varied(real(1, 16)) | None = None  # type: ignore[valid-type]
    """Hidden channels as a multiple of its input."""
    padding: Annotated[int, Field(ge=0, le=15)] | None = Field(
        default=None, description="of the depthwise convolution; half the kernel where it is left out"
    )


class StageSection(Section):
    """A run of blocks of one kind."""

    block: choice(*BLOCKS)  # type: ignore[valid-type]
    """The kind of its blocks."""
    depth: varied(integer(0, 128))  # type: ignore[valid-type]
    """Number of blocks; 0 leaves out the stage."""
    width: varied(integer(1, 8192))  # type: ignore[valid-type]
    """Channels that each block gives."""
    kernel: varied(integer(1, 31, odd=True)) = _THREE  # type: ignore[valid-type]
    """Height and width of the spatial convolutions."""
    expansion: varied(real(1, 16)) = Domain((4.0,))  # type: ignore[valid-type]
    """Hidden channels of inverted residual blocks, as a multiple of their input."""
    bottleneck: varied(real(0, 4, above=True)) = Domain((0.25,))  # type: ignore[valid-type]
    """Hidden channels of bottleneck blocks, as a part of their width."""
    group_width: varied(integer(0, 1024)) = Domain((0,))  # type: ignore[valid-type]
    """Channels a group of the k x k convolution in depthwise and bottleneck blocks, or the greatest part of it
    that divides them; 0: one in depthwise blocks, all in bottlenecks."""
    squeeze_excite: choice(False, True) = Domain((False,))  # type: ignore[valid-type]
    """Whether blocks weigh their channels by what the whole map holds."""
    activation: choice(*ACTIVATIONS) = _RELU  # type: ignore[valid-type]
    """Inside the blocks."""
    stride: varied(integer(1, 4)) = _ONE  # type: ignore[valid-type]
    """Of the first block."""
    bias: bool = Field(default=False, description="whether the convolutions have biases beside their batch norms")
    topology: choice("serial", "parallel") = Domain(("serial",))  # type: ignore[valid-type]
    """Whether blocks read the one before, or all the first."""
    first: FirstSection = FirstSection()
    """What the first block has for itself."""
    per: Literal["stage", "block"] = Field(
        default="stage", description="whether kernel, expansion and bottleneck are chosen once, or for every block"
    )
    downsample: Literal["stride", "max_pool"] = "stride"
    """What the stride is done by: the convolution, or max pooling before it."""
    residual: bool | None = Field(
        default=None, description="shortcut around blocks that keep the shape; by default as the block has it"
    )

    def padding_fault(self, kernel: int, size: int) -> str | None:
        """What is wrong with a padding of the first block, on maps of `size` x `size`."""
        padding = self.first.padding
        if padding is None:
            return None
        others = [str(b) for b in self.block.values if b not in DEPTHWISE]
        if others:
            return f"{padding} is not allowed with blocks {', '.join(others)}; allowed: {', '.join(DEPTHWISE)}"
        if size + 2 * padding < kernel:
            return (
                f"{padding} is not allowed: a kernel of {kernel} does not fit a map of {size} x {size}; "
                f"allowed here: integers >= {(kernel - size + 1) // 2}"
            )
        return None

    @property
    def residual_blocks(self) -> tuple[str, ...]:
        """The kinds of blocks that have a shortcut where the shape stays."""
        if self.residual is not None:
            return BLOCKS if self.residual else RESNET
        return ("inverted_residual", *RESNET)


class ExciteSection(Section):
    """The form of squeeze-and-excitation wherever a stage has it."""

    ratio: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Squeezed channels as a part of the others."""
    of: Literal["hidden", "input"] = "hidden"
    """Of the block's hidden channels or of its input."""
    round_to: Annotated[int, Field(ge=1, le=64)] = 8
    """Squeezed channels are multiples of this."""
    round_floor: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.9, description="rounding takes a width never below this share of it"
    )
    activation: choice(*ACTIVATIONS) = _RELU  # type: ignore[valid-type]
    """After the squeeze."""
    gate: Literal["hard_sigmoid", "sigmoid"] = "hard_sigmoid"
    """After the excitation."""

    @field_validator("activation")
    @classmethod
    def _single(cls, value: Domain) -> Domain:
        if not value.fixed:
            raise ValueError("is one for the whole network; give one value")
        return value


class HeadSection(Section):
    """What stands between the last stage and the classifier.

    A 1 x 1 convolution of `width` channels, or `expansion` times its input's (0: none); then pooling over all
    positions; then a linear layer of `features` with the activation (0: none).
    """

    width: varied(integer(0, 8192)) = Domain((0,))  # type: ignore[valid-type]
    """Channels of a 1 x 1 convolution before pooling; 0: none."""
    expansion: varied(real(0, 16)) = Domain((0.0,))  # type: ignore[valid-type]
    """The same as a multiple of its input; 0: none."""
    features: varied(integer(0, 8192)) = Domain((0,))  # type: ignore[valid-type]
    """Units of a linear layer after pooling; 0: none."""
    features_bias: bool = True
    """Whether that layer has a bias."""
    activation: choice(*ACTIVATIONS) = _RELU  # type: ignore[valid-type]
    """After the convolution and the linear layer."""
    pool: Literal["average", "max"] = "average"
    """How all positions become one."""

    @model_validator(mode="after")
    def _either(self) -> HeadSection:
        if self.width.values != (0,) and self.expansion.values != (0.0,):
            raise ValueError("has both width and expansion; give one of them")
        return self


class StagedArchitectureSection(Section):
    """Stem, stages, head, and what holds for all of them."""

    resolution: varied(integer(1, 4096)) | None = None  # type: ignore[valid-type]
    """Height and width of the images that networks are made and counted for; left out: those of `input`."""
    width_multiplier: varied(real(0, 16, above=True)) = Domain((1.0,))  # type: ignore[valid-type]
    """Factor on the widths of stem, stages and head."""
    round_to: Annotated[int, Field(ge=1, le=64)] = 8
    """Multiplied widths are rounded to multiples of this."""
    always_expand: bool = Field(
        default=False, description="a 1 x 1 convolution before the depthwise one at expansion 1, too"
    )
    shortcut: Literal["conv", "pooled"] = Field(
        default="conv", description="of ResNet blocks that halve the map: strided, or pooled before (ResNet-D)"
    )
    excite: ExciteSection = ExciteSection()
    """The form of squeeze-and-excitation."""
    stem: StemSection
    """The first convolutions."""
    stages: Annotated[tuple[StageSection, ...], Field(min_length=1, max_length=64)]
    """From the input to the output."""
    head: HeadSection = HeadSection()
    """What stands before the classifier."""


class StagedDocument(ImageSection):
    """A staged space."""

    family: Literal["staged"]
    """A stem, stages of repeated blocks, a head."""
    architecture: StagedArchitectureSection
    """What the networks are."""

    @model_validator(mode="after")
    def _fitting(self) -> StagedDocument:
        """A padding of one's own must let the window fit the smallest map that may come there."""
        section = self.architecture
        size = int(min(section.resolution.values)) if section.resolution else min(self.input[1:])
        size = _shrunk(_shrunk(size, section.stem.stride), _ONE if section.stem.pool == "none" else Domain((2,)))
        faults = []
        for i, stage in enumerate(section.stages):
            after = size = min(size, _shrunk(size, stage.stride)) if stage.downsample == "max_pool" else size
            kernel, padding = int(max((stage.first.kernel or stage.kernel).values)), stage.first.padding
            message = stage.padding_fault(kernel, size)
            if message:
                faults.append(Fault(f"architecture.stages.{i}.first.padding", message))
            elif padding is not None and stage.downsample == "stride":
                after = (size + 2 * padding - kernel) // int(max(stage.stride.values)) + 1
            elif stage.downsample == "stride":
                after = _shrunk(size, stage.stride)
            size = min(size, after)  # the stage, or the block that shrinks more, may not be there
        if faults:
            raise SpecError(faults)
        return self

    @field_validator("architecture")
    @classmethod
    def _bounded(cls, value: StagedArchitectureSection) -> StagedArchitectureSection:
        blocks = sum(max(int(v) for v in stage.depth.values) for stage in value.stages)
        if blocks > MAX_BLOCKS:
            raise ValueError(f"has up to {blocks} blocks in all; allowed: at most {MAX_BLOCKS}")
        return value


def _shrunk(size: int, strides: Domain) -> int:
    """The smallest map that a stride leaves."""
    return -(-size // int(max(strides.values, key=float)))
