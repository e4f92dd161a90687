"""The operations that networks are made of: what each does to sizes, and what it costs.

An operation knows its output's size, the entries of its weight, its learnable vectors and its
multiply-accumulates; torch realises it in `search_spaces.modules`. Counting follows the field: one MAC is one
multiply-accumulate (2 FLOPs) of a convolution, a linear layer or an attention product; bias, normalisation,
activation, pooling and look-ups count none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from typing_extensions import override

from search_spaces.feature import Count, Feature


@dataclass(frozen=True, eq=False)
class Operation:
    """Base: keeps its first input's size, and has neither weights nor MACs."""

    training_only: ClassVar[bool] = False
    """Whether a network that is only used, not trained, does without it."""
    quantized: ClassVar[bool] = False
    """Whether a quantization policy reaches its weight and its input."""

    def output(self, *x: Feature) -> Feature:
        """The size of the result."""
        return x[0]

    def weights(self, *x: Feature) -> Count:
        """Entries of the weight that a quantization policy reaches."""
        return 0

    def vectors(self, *x: Feature) -> Count:
        """Other learnable entries: biases, scales and shifts, position embeddings."""
        return 0

    def macs(self, y: Feature, *x: Feature) -> Count:
        """Multiply-accumulates for one example, `y` being the output."""
        return 0


@dataclass(frozen=True, eq=False)
class Conv(Operation):
    """A dense 2-D convolution. `padding` None keeps the size at stride 1."""

    quantized: ClassVar[bool] = True
    out: Count
    kernel: Any = 1
    """Height and width, or one count for both."""
    stride: Any = 1
    padding: Any = None
    dilation: Count = 1
    bias: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, self.dilation)
        return Feature(self.out, height, width)

    @override
    def weights(self, *x: Feature) -> Count:
        kernel = pair(self.kernel)
        return x[0].channels * self.out * (kernel[0] * kernel[1])

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.out if self.bias else 0

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        return self.weights(*x) * y.positions


@dataclass(frozen=True, eq=False)
class Depthwise(Operation):
    """A convolution of every channel by itself, or of groups of `group_width` channels each by itself."""

    quantized: ClassVar[bool] = True
    kernel: Any = 3
    stride: Any = 1
    padding: Any = None
    dilation: Count = 1
    bias: bool = False
    group_width: Count = 1
    """A divisor of the channels."""

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, self.dilation)
        return Feature(x[0].channels, height, width)

    @override
    def weights(self, *x: Feature) -> Count:
        kernel = pair(self.kernel)
        return x[0].channels * (kernel[0] * kernel[1] * self.group_width)

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].channels if self.bias else 0

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        return self.weights(*x) * y.positions


@dataclass(frozen=True, eq=False)
class Linear(Operation):
    """A linear layer over the channels of a vector, or of every token."""

    quantized: ClassVar[bool] = True
    out: Count
    bias: bool = True
    learned: bool = True
    """False: a fixed random matrix; it is stored and multiplied, but nothing is learnt."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)

    @override
    def weights(self, *x: Feature) -> Count:
        return x[0].channels * self.out

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.out if self.bias else 0

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        return self.weights(*x) * y.positions


@dataclass(frozen=True, eq=False)
class BatchNorm(Operation):
    """Batch normalisation of a map, with scale and shift."""

    stored: Literal[0, 1, 2] = 2
    """Vectors that are left when a packed model folds it into the layer before: 2 where there is none to fold
    it into, 1 (a bias) after a layer without bias, 0 after one with a bias."""
    epsilon: float = 1e-5
    momentum: float = 0.1

    @override
    def vectors(self, *x: Feature) -> Count:
        return 2 * x[0].channels


@dataclass(frozen=True, eq=False)
class LayerNorm(Operation):
    """Layer normalisation over the channels of a vector or of every token, with scale and shift."""

    epsilon: float = 1e-6

    @override
    def vectors(self, *x: Feature) -> Count:
        return 2 * x[0].channels


@dataclass(frozen=True, eq=False)
class Embedding(Operation):
    """A table of one vector a word. Its input are word numbers: one channel, `height` tokens."""

    quantized: ClassVar[bool] = True
    entries: int
    out: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)

    @override
    def weights(self, *x: Feature) -> Count:
        return self.entries * self.out


@dataclass(frozen=True, eq=False)
class Positions(Operation):
    """A learned vector for each token, added to it; from a table of `entries` (None: one for each token)."""

    entries: int | None = None

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].numel if self.entries is None else self.entries * x[0].channels


@dataclass(frozen=True, eq=False)
class Segments(Operation):
    """A learned vector for each segment of a text, added to its tokens; they all belong to the first."""

    entries: int

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.entries * x[0].channels


@dataclass(frozen=True, eq=False)
class ClassToken(Operation):
    """A learned token before all others."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height + 1, 1)

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].channels


@dataclass(frozen=True, eq=False)
class Attention(Operation):
    """Multi-head scaled dot-product attention of queries, keys and values, side by side in the channels."""

    heads: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[2].channels, x[0].height, 1)

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        query, key, value = x
        return query.height * key.height * (query.channels + value.channels)


@dataclass(frozen=True, eq=False)
class Activation(Operation):
    """An activation function; `kind` may differ over a population, which no cost depends on."""

    kind: str


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """Maximum or average over windows; padding counts in neither."""

    kind: Literal["max", "average"]
    kernel: int
    stride: Any = 1
    padding: int | None = None

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, 1)
        return Feature(x[0].channels, height, width)


@dataclass(frozen=True, eq=False)
class Shrink(Operation):
    """Maximum or average over windows of `by` x `by` side by side; the last ones may reach over the border."""

    kind: Literal["max", "average"]
    by: Any = 2

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, -(-x[0].height // self.by), -(-x[0].width // self.by))


@dataclass(frozen=True, eq=False)
class Resize(Operation):
    """Images of any size brought to one (bilinear, with antialiasing); those of that size stay as they are."""

    height: Count
    width: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class GlobalPool(Operation):
    """Average or maximum over all positions; a map of one position, or a vector where `flat`."""

    kind: Literal["average", "max"] = "average"
    flat: bool = True

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels)


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """The sum of two features of one size."""


@dataclass(frozen=True, eq=False)
class Subtract(Operation):
    """The first feature less the second."""


@dataclass(frozen=True, eq=False)
class Multiply(Operation):
    """The product of a feature and its gate (one factor a channel)."""


@dataclass(frozen=True, eq=False)
class Concat(Operation):
    """Channels side by side."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(sum(f.channels for f in x), x[0].height, x[0].width)


@dataclass(frozen=True, eq=False)
class PadChannels(Operation):
    """Zeros as further channels of tokens or vectors, up to `out` of them."""

    out: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)


@dataclass(frozen=True, eq=False)
class Zeros(Operation):
    """Zeros, of the size of the input at a stride."""

    stride: Any = 1

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, -(-x[0].height // self.stride), -(-x[0].width // self.stride))


@dataclass(frozen=True, eq=False)
class Subsample(Operation):
    """Every second row and column, from the first or (`shifted`) from the second; the far border is zero."""

    shifted: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, (x[0].height + 1) // 2, (x[0].width + 1) // 2)


@dataclass(frozen=True, eq=False)
class ToTokens(Operation):
    """A map as a sequence of its positions, row by row."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height * x[0].width, 1)


@dataclass(frozen=True, eq=False)
class ToMap(Operation):
    """The reverse of `ToTokens`."""

    height: Count
    width: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class Tokens(Operation):
    """Tokens from `start` to `stop` (None: the last); a single one (`alone`) becomes a vector."""

    start: int
    stop: int | None = None
    alone: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        count = (x[0].height if self.stop is None else self.stop) - self.start
        return Feature(x[0].channels, 1 if self.alone else count, 1)


@dataclass(frozen=True, eq=False)
class AverageTokens(Operation):
    """The mean of all tokens, a vector."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels)


@dataclass(frozen=True, eq=False)
class Joined(Operation):
    """Two sequences, one after the other."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height + x[1].height, 1)


@dataclass(frozen=True, eq=False)
class Flatten(Operation):
    """All entries of an example as one vector."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].numel)


@dataclass(frozen=True, eq=False)
class Dropout(Operation):
    """Zeroes entries while training (Srivastava et al. 2014); `rate` in [0, 1)."""

    rate: float


@dataclass(frozen=True, eq=False)
class DropPath(Operation):
    """Zeroes the whole input of an example while training, and scales the others up.

    Stochastic depth (Huang et al. 2016). Where `scheduled`, the rate rises linearly through the training
    (ScheduledDropPath, Zoph et al. 2018).
    """

    rate: float
    scheduled: bool = False


@dataclass(frozen=True, eq=False)
class AuxiliaryHead(Operation):
    """A classifier beside the network, used while training only (Zoph et al. 2018); its input goes on as it is.

    ReLU, 5 x 5 average pooling with stride 3, a 1 x 1 convolution to 128 channels, one over all that is left to
    768, a linear layer; batch norm and ReLU after both convolutions.
    """

    training_only: ClassVar[bool] = True
    classes: int
    window: ClassVar[int] = 5
    widths: ClassVar[tuple[int, int]] = (128, 768)

    @classmethod
    def left(cls, x: Feature) -> tuple[Count, Count]:
        """Height and width after the pooling."""
        return (x.height - cls.window) // 3 + 1, (x.width - cls.window) // 3 + 1

    @override
    def weights(self, *x: Feature) -> Count:
        (height, width), (narrow, wide) = self.left(x[0]), self.widths
        return x[0].channels * narrow + narrow * wide * height * width + wide * self.classes

    @override
    def vectors(self, *x: Feature) -> Count:
        return 2 * sum(self.widths) + self.classes

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        (height, width), narrow = self.left(x[0]), self.widths[0]
        return self.weights(*x) + x[0].channels * narrow * (height * width - 1)


@dataclass(frozen=True, eq=False)
class TokenHead(Operation):
    """A classifier of every token from `start` on, used while training only; its input goes on as it is.

    The mean of its logits is told to the loss (after the patch-level loss of ViT-ResNAS, Liao et al. 2021).
    """

    training_only: ClassVar[bool] = True
    classes: int
    start: Count = 0

    @override
    def weights(self, *x: Feature) -> Count:
        return x[0].channels * self.classes

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.classes

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        return self.weights(*x) * (x[0].height - self.start)


def pair(value: Any) -> tuple[Count, Count]:
    """Height and width of a kernel or a stride."""
    return value if isinstance(value, tuple) else (value, value)


def slid(x: Feature, kernel: Any, stride: Any, padding: Any, dilation: Count) -> tuple[Count, Count]:
    """Height and width after a window has slid over a map.

    Windows of even size that are to keep the size are not needed and not known here.
    """
    sizes = []
    pads = (None, None) if padding is None else pair(padding)
    for size, k, s, p in zip((x.height, x.width), pair(kernel), pair(stride), pads, strict=True):
        if p is None:  # (k - 1) / 2 on both sides, whatever k is
            sizes.append(size if isinstance(s, int) and s == 1 else -(-size // s))
        else:
            full = size + 2 * p - dilation * (k - 1) - 1
            sizes.append((full if isinstance(s, int) and s == 1 else full // s) + 1)
    return sizes[0], sizes[1]


def same_size(a: Feature, b: Feature) -> Any:
    """Where two features have the same channels and size."""
    return (a.channels == b.channels) & (a.height == b.height) & (a.width == b.width)
