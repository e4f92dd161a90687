"""Documents of search spaces for property tests, small and odd ones among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from search_spaces import load_space
from search_spaces.cell_document import BLOCK_OPERATIONS, EDGE_OPERATIONS
from search_spaces.declared import DeclaredSpace
from search_spaces.groups import fitting, rows

BLOCKS = ["conv", "depthwise_separable", "inverted_residual", "basic", "bottleneck"]


def some(values: list[Any]) -> st.SearchStrategy[Any]:
    """One of the values, or a choice of several."""
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


STAGE = st.fixed_dictionaries(
    {"block": some(BLOCKS), "depth": some([0, 1, 2]), "width": some([4, 8, 12])},
    optional={
        "kernel": some([1, 3, 5]),
        "expansion": some([1, 2, 3.5]),
        "squeeze_excite": some([False, True]),
        "activation": some(["relu", "hard_swish", "silu"]),
        "stride": some([1, 2, 3]),
        "bottleneck": some([0.25, 0.5]),
        "group_width": some([0, 1, 8, 16]),
        "topology": some(["serial", "parallel"]),
        "first": st.fixed_dictionaries({}, optional={"kernel": some([3, 5]), "expansion": some([1, 4])}),
        "per": st.sampled_from(["stage", "block"]),
        "downsample": st.sampled_from(["stride", "max_pool"]),
        "residual": st.booleans(),
    },
)
PADDED = st.fixed_dictionaries(
    {
        "block": some(["depthwise_separable", "inverted_residual"]),
        "depth": some([0, 1, 2]),
        "width": some([4, 8]),
        "stride": some([1, 2]),
        "kernel": st.just(3),
        "first": st.fixed_dictionaries({"padding": st.integers(1, 2)}),
    }
)
QUANTIZATION = st.fixed_dictionaries(
    {},
    optional={
        "per": st.sampled_from(["network", "stage", "layer", "module"]),
        "weight_bits": some([2, 3, 4, 8, 16, 32, "ternary", "ternary_2bit", "ternary_3of4"]),
        "weight_scheme": some(["symmetric", "asymmetric"]),
        "activation_bits": some([4, 8, 16, 32]),
        "weight_granularity": some(["tensor", "channel", "group"]),
        "activation_observer": some(["min_max", "ema", "percentile", "mse"]),
    },
)


def with_groups(document: dict[str, Any]) -> dict[str, Any]:
    """Where weights may have groups, sizes that divide the rows of all layers; the longest rows at least do."""
    section = document["quantization"]
    if "group" not in section.get("weight_granularity", []):
        return document
    plain = load_space({**document, "quantization": {}})
    assert isinstance(plain, DeclaredSpace)
    sizes = np.array([2, 3, 4, 9, 16, 65536])
    fit = sizes[fitting(rows(plain), sizes)].tolist()
    return {**document, "quantization": {**section, "group_size": fit[:2]}}


RECIPE = st.fixed_dictionaries(
    {},
    optional={
        "optimizer": some(["adamw", "sgd"]),
        "learning_rate": st.just({"min": 1e-3, "max": 1e-1, "scale": "log", "levels": 5}),
        "mixup": some([0.0, 0.2]),
        "dropout": some([0.0, 0.2]),
        "stochastic_depth": some([0.0, 0.3]),
        "qat_epochs": some([0, 1, 2]),
        "qat_learning_rate": some([1e-3, 1e-2]),
    },
)
HEAD = st.fixed_dictionaries(
    {"width": some([0, 8, 16])}, optional={"features": some([0, 8])}
) | st.fixed_dictionaries({"expansion": some([2, 6])}, optional={"pool": st.sampled_from(["average", "max"])})
DOCUMENTS = st.fixed_dictionaries(
    {
        "family": st.just("staged"),
        "input": st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).map(list),
        "classes": st.integers(2, 5),
        "architecture": st.fixed_dictionaries(
            {
                "stem": st.fixed_dictionaries(
                    {"width": some([4, 8])},
                    optional={
                        "kernel": some([1, 3]),
                        "stride": some([1, 2]),
                        "convolutions": some([1, 2, 3]),
                        "bias": st.booleans(),
                        "pool": st.sampled_from(["none", "max", "conv"]),
                        "inner": some([4, 6]),
                        "residual": st.booleans(),
                    },
                ),
                "stages": st.lists(STAGE | PADDED, min_size=1, max_size=3),
            },
            optional={
                "resolution": some([5, 8]),
                "width_multiplier": some([0.5, 1.0, 1.5]),
                "always_expand": st.booleans(),
                "shortcut": st.sampled_from(["conv", "pooled"]),
                "excite": st.fixed_dictionaries(
                    {}, optional={"of": st.sampled_from(["hidden", "input"]), "round_to": st.sampled_from([1, 8])}
                ),
                "head": HEAD,
            },
        ),
        "quantization": QUANTIZATION,
        "recipe": RECIPE,
    }
).map(with_groups)
EDGE_CELLS = st.fixed_dictionaries(
    {
        "family": st.just("cell"),
        "input": st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).map(list),
        "classes": st.integers(2, 5),
        "architecture": st.fixed_dictionaries(
            {
                "nodes": st.integers(2, 4),
                "operations": st.lists(st.sampled_from(EDGE_OPERATIONS), min_size=1, unique=True),
                "width": some([3, 4, 8]),
            },
            optional={"cell": st.just("edges"), "cells": some([1, 2, 3]), "stages": st.integers(1, 3)},
        ),
        "quantization": QUANTIZATION,
        "recipe": RECIPE,
    }
).map(with_groups)
OPEN_CELL = st.fixed_dictionaries(
    {"blocks": st.integers(1, 3)},
    optional={
        "operations": st.lists(st.sampled_from(BLOCK_OPERATIONS), min_size=1, max_size=4, unique=True),
        "combine": some(["add", "concat"]),
        "output": st.sampled_from(["unused", "blocks", [2], [1, 2], [0, 2]]),
    },
)


def _block(k: int) -> st.SearchStrategy[dict[str, Any]]:
    state, operation = some(list(range(k + 2))), some(list(BLOCK_OPERATIONS))
    return st.fixed_dictionaries(
        {"inputs": st.tuples(state, state).map(list), "operations": st.tuples(operation, operation).map(list)},
        optional={"combine": some(["add", "concat"])},
    )


GIVEN_CELL = st.integers(1, 3).flatmap(
    lambda count: st.fixed_dictionaries(
        {"blocks": st.tuples(*[_block(k) for k in range(count)]).map(list)},
        optional={"output": st.sampled_from(["unused", "blocks", [count + 1], [1, 2]])},
    )
)
BLOCK_CELLS = st.fixed_dictionaries(
    {
        "family": st.just("cell"),
        "input": st.tuples(st.integers(1, 3), st.integers(3, 12), st.integers(3, 12)).map(list),
        "classes": st.integers(2, 5),
        "architecture": st.fixed_dictionaries(
            {
                "cell": st.just("blocks"),
                "skeleton": st.sampled_from(["cifar", "imagenet"]),
                "width": some([8, 9, 12]),
                "cells": some([1, 2]),
                "stem_multiplier": st.integers(1, 2),
                "normal": OPEN_CELL | GIVEN_CELL,
            },
            optional={
                "reduction": OPEN_CELL | GIVEN_CELL,
                "skip_reduction_layer_input": st.booleans(),
                "drop_path": some([0.0, 0.3]),
            },
        ),
        "quantization": QUANTIZATION,
        "recipe": RECIPE,
    }
).map(with_groups)
CELLS = EDGE_CELLS | BLOCK_CELLS
