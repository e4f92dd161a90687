"""Documents of the `mlp` family for property tests, small and odd ones among them."""

from __future__ import annotations

from hypothesis import strategies as st
from space_documents import QUANTIZATION, RECIPE, some, with_groups

STAGE = st.fixed_dictionaries(
    {"hidden": some([1, 5, 16, 24])},
    optional={
        "depth": some([1, 2, 3]),
        "per": st.sampled_from(["stage", "block"]),
        "topology": some(["serial", "parallel"]),
    },
)
MLPS = st.fixed_dictionaries(
    {
        "family": st.just("mlp"),
        "input": st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)).map(list),
        "classes": st.integers(2, 5),
        "architecture": st.fixed_dictionaries(
            {"latent": some([1, 6, 20]), "stages": st.lists(STAGE, min_size=1, max_size=3)},
            optional={
                "projection": some(["learned", "random"]),
                "activation": some(["relu", "gelu", "silu"]),
                "norm": some(["none", "layer"]),
            },
        ),
        "quantization": QUANTIZATION,
        "recipe": RECIPE,
    }
).map(with_groups)
