"""The operations that networks are made of: what each does to sizes, and what it costs.

An operation knows its output's size, the entries of its weight, its learnable vectors and its
multiply-accumulates; torch realises it in `search_spaces.modules`. Counting follows the field: one MAC is one
multiply-accumulate (2 FLOPs) of a convolution, a linear layer or an attention product; bias, normalisation,
activation, pooling and look-ups count none.
"""

from search_spaces.operations.base import Operation, pair, same_size, slid
from search_spaces.operations.layers import BatchNorm, Conv, Depthwise, Embedding, LayerNorm, Linear
from search_spaces.operations.maps import (
    Activation,
    Add,
    Concat,
    Flatten,
    GlobalPool,
    Multiply,
    Pool,
    Resize,
    Shrink,
    Subsample,
    Subtract,
    Zeros,
)
from search_spaces.operations.tokens import (
    Attention,
    AverageTokens,
    ClassToken,
    Joined,
    PadChannels,
    Positions,
    Segments,
    Tokens,
    ToMap,
    ToTokens,
)
from search_spaces.operations.training import AuxiliaryHead, Dropout, DropPath, TokenHead

__all__ = [
    "Activation",
    "Add",
    "Attention",
    "AuxiliaryHead",
    "AverageTokens",
    "BatchNorm",
    "ClassToken",
    "Concat",
    "Conv",
    "Depthwise",
    "DropPath",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalPool",
    "Joined",
    "LayerNorm",
    "Linear",
    "Multiply",
    "Operation",
    "PadChannels",
    "Pool",
    "Positions",
    "Resize",
    "Segments",
    "Shrink",
    "Subsample",
    "Subtract",
    "ToMap",
    "ToTokens",
    "TokenHead",
    "Tokens",
    "Zeros",
    "pair",
    "same_size",
    "slid",
]
