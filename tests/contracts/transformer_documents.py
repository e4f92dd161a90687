"""Documents of the `transformer` family for property tests, small and odd ones among them."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st
from space_documents import QUANTIZATION, RECIPE, some, with_groups

MLP = st.sampled_from([{"mlp": 5}, {"mlp": [3, 8]}, {"mlp_ratio": 1.5}, {"mlp_ratio": [0.1, 2]}])
HEADS = some([1, 2, 3])
HEAD_DIM = some([1, 4])
BLOCK = st.fixed_dictionaries({}, optional={"heads": HEADS, "head_dim": HEAD_DIM})
HEAD = st.fixed_dictionaries({}, optional={"pool": some(["class_token", "mean"]), "pooler": st.booleans()})


@st.composite
def stages(draw: st.DrawFn, width: Any) -> dict[str, Any]:
    """A stage; `width` None: it goes on as the one before."""
    stage = {"heads": draw(HEADS), **draw(MLP)} | ({} if width is None else {"width": width})
    if draw(st.booleans()):
        stage["depth"] = draw(some([0, 1, 2, 3]))
        most = max(stage["depth"]) if isinstance(stage["depth"], list) else stage["depth"]
    else:
        stage["blocks"] = draw(st.lists(st.tuples(BLOCK, MLP | st.just({})), min_size=1, max_size=3))
        stage["blocks"] = [{**block, **mlp} for block, mlp in stage["blocks"]]
        most = len(stage["blocks"])
    if most > 1 and not isinstance(stage.get("depth"), list):
        stage["removable"] = draw(st.lists(st.integers(1, most - 1), max_size=2, unique=True))
    options = {
        "head_dim": HEAD_DIM,
        "per": st.sampled_from(["stage", "block"]),
        "activation": some(["gelu", "relu", "silu"]),
        "topology": some(["serial", "parallel"]),
    }
    return stage | draw(st.fixed_dictionaries({}, optional=options))


@st.composite
def image_transformers(draw: st.DrawFn) -> dict[str, Any]:
    """Patches, and up to two reductions."""
    patches, reduced = draw(some([1, 2, 4])), draw(st.lists(st.booleans(), max_size=2))
    stem: dict[str, Any] = {"patch": patches}
    strides: Any = 1
    if draw(st.booleans()):
        strides = draw(some([1, 2]))
        stem["convolutions"] = {"width": draw(some([2, 3])), "stride": strides}
    step = math.lcm(*_many(patches)) * math.lcm(*_many(strides)) * 2 ** sum(reduced)
    widths, rows = [some([3, 4]), some([4, 7]), some([7, 8])], [draw(stages(draw(some([3, 4]))))]
    for i, reduces in enumerate(reduced):
        rows.append(draw(stages(draw(widths[i + 1]) if reduces else None)))
    architecture = {
        "stem": stem,
        "stages": rows,
        "head": draw(HEAD),
        "norm": draw(st.sampled_from(["pre", "post"])),
    }
    if draw(st.booleans()):
        architecture["resolution"] = draw(some([step, 2 * step]))
    height, width = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return _document(draw, [draw(st.integers(1, 3)), height * step, width * step], architecture)


@st.composite
def text_transformers(draw: st.DrawFn) -> dict[str, Any]:
    """Word numbers, with and without segments and positions to spare."""
    length = draw(st.integers(1, 6))
    text = {"vocabulary": draw(st.integers(1, 9)), "length": length, "segments": draw(st.integers(0, 2))}
    if draw(st.booleans()):
        text["positions"] = length + draw(st.integers(0, 3))
    rows = [draw(stages(draw(some([3, 4]))))]
    if draw(st.booleans()):
        rows.append(draw(stages(None)))
    architecture = {"stages": rows, "head": draw(HEAD), "norm": draw(st.sampled_from(["pre", "post"]))}
    return _document(draw, text, architecture)


def _document(draw: st.DrawFn, source: Any, architecture: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": "transformer",
        "input": source,
        "classes": draw(st.integers(2, 4)),
        "architecture": architecture,
        "quantization": draw(QUANTIZATION),
        "recipe": draw(RECIPE),
    }


def _many(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


TRANSFORMERS = (image_transformers() | text_transformers()).map(with_groups)
