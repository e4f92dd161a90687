"""Documents of search spaces for property tests, small and odd ones among them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

BLOCKS = ["conv", "depthwise_separable", "inverted_residual"]


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
    },
)
QUANTIZATION = st.fixed_dictionaries(
    {},
    optional={
        "per": st.sampled_from(["stage", "layer"]),
        "weight_bits": some([2, 4, 8, 32]),
        "activation_bits": some([8, 32]),
    },
)
RECIPE = st.fixed_dictionaries(
    {},
    optional={
        "optimizer": some(["adamw", "sgd"]),
        "learning_rate": st.just({"min": 1e-3, "max": 1e-1, "scale": "log", "levels": 5}),
        "mixup": some([0.0, 0.2]),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "family": st.just("staged"),
        "input": st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).map(list),
        "classes": st.integers(2, 5),
        "architecture": st.fixed_dictionaries(
            {
                "stem": st.fixed_dictionaries(
                    {"width": some([4, 8])}, optional={"kernel": some([1, 3]), "stride": some([1, 2])}
                ),
                "stages": st.lists(STAGE, min_size=1, max_size=3),
            },
            optional={"head": st.fixed_dictionaries({"width": some([0, 8, 16])})},
        ),
        "quantization": QUANTIZATION,
        "recipe": RECIPE,
    }
)
CELLS = st.fixed_dictionaries(
    {
        "family": st.just("cell"),
        "input": st.just([3, 8, 8]),
        "classes": st.just(10),
        "architecture": st.fixed_dictionaries(
            {
                "nodes": st.integers(2, 4),
                "operations": st.lists(
                    st.sampled_from(["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"]),
                    min_size=1,
                    unique=True,
                ),
                "width": some([4, 8]),
            }
        ),
        "quantization": QUANTIZATION,
    }
)
ANY = DOCUMENTS | CELLS
