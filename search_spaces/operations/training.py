"""What acts while training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from search_spaces.feature import Count, Feature
from search_spaces.operations.base import Operation


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
