"""Drawings of architectures: well-formed, complete, and the same for the same architecture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import all_documents
import pytest
from family_contract import declared
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Architecture, presets
from search_spaces.declared import DeclaredSpace
from search_spaces.drawing import svg
from search_spaces.drawing.canvas import Canvas
from search_spaces.drawing.graph import draw_graph
from search_spaces.drawing.groups import group_of
from search_spaces.graph import Graph, Node, Port
from search_spaces.load import load_reference, references

SVG = "{http://www.w3.org/2000/svg}"


def words(picture: str) -> list[str]:
    """All texts of a picture, which parses as XML or fails."""
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    return [word for element in root.iter() if element.text for word in element.text.split()]


def assert_complete(space: DeclaredSpace, arch: Architecture) -> None:
    told = words(svg(space, arch))
    named = {group_of(line.name) for line in space.outline(arch) if line.name}
    assert named <= set(told)
    assert f"{space.cost(arch)['params']:,.0f}" in told
    assert f"{space.cost(arch)['macs']:,.0f}" in told


@pytest.mark.parametrize("name", presets())
def test_every_preset_draws_all_its_blocks(name: str) -> None:
    space = declared(name)
    for arch in space.sample(5, seed=0):
        assert_complete(space, arch)
        assert svg(space, arch) == svg(space, arch)


@pytest.mark.parametrize("name", references())
def test_every_reference_network_draws_all_its_blocks(name: str) -> None:
    space = load_reference(name)
    assert isinstance(space, DeclaredSpace)
    assert_complete(space, space.sample(1, 0)[0])


@given(document=all_documents.ANY, seed=st.integers(0, 2**32))
def test_every_document_draws_all_its_blocks(document: dict[str, Any], seed: int) -> None:
    space = declared(document)
    assert_complete(space, space.sample(1, seed)[0])


@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_a_name_is_text_and_never_markup(name: str) -> None:
    space = declared({**SMALL, "name": name})
    root = ElementTree.fromstring(svg(space, space.sample(1, 0)[0]))
    assert name in [element.text for element in root.iter(f"{SVG}text")]


def test_blocks_that_are_alike_are_drawn_once_and_others_apart() -> None:
    space = declared(SMALL)
    told = words(svg(space, space.sample(1, 0)[0]))
    assert "stages.0.1-3" in told, "three blocks of stride 1 after the first"
    assert "stages.0.0" in told


def test_a_parallel_stage_says_what_its_blocks_read() -> None:
    stage = {**SMALL["architecture"]["stages"][0], "topology": "parallel"}
    space = declared({**SMALL, "architecture": {**SMALL["architecture"], "stages": [stage]}})
    picture = svg(space, space.sample(1, 0)[0])
    assert "from stages.0.0" in picture
    assert "from" not in words(svg(declared(SMALL), declared(SMALL).sample(1, 0)[0]))


@pytest.mark.parametrize(("bits", "told"), [(2, "w2"), ("ternary", "wternary"), (32, None)])
def test_bits_are_shown_where_there_is_a_policy(bits: Any, told: str | None) -> None:
    space = declared({**SMALL, "quantization": {"weight_bits": bits}})
    found = words(svg(space, space.sample(1, 0)[0]))
    assert ("bits" in found) == (told is not None)
    assert told is None or told in found


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any acyclic graph of an input and up to eight nodes."""
    nodes = [Node("0", "input")]
    for j in range(1, draw(st.integers(2, 9))):
        sources = draw(st.lists(st.integers(0, j - 1), max_size=3))
        nodes.append(
            Node(str(j), f"node {j}", tuple(Port(str(i), draw(st.sampled_from(["", "sep3"]))) for i in sources))
        )
    return Graph("cell", tuple(nodes))


@given(graph=graphs())
def test_a_graph_shows_every_node_and_line_and_none_covers_another(graph: Graph) -> None:
    canvas = Canvas()
    right, bottom = draw_graph(canvas, 20, 20, graph)
    root = ElementTree.fromstring(canvas.svg(right, bottom, "cell"))
    boxes = [
        tuple(float(r.attrib[k]) for k in ("x", "y", "width", "height"))
        for r in root.iter(f"{SVG}rect")
        if r.get("class") == "plain"
    ]
    assert len(boxes) == len(graph.nodes)
    for i, (x, y, width, height) in enumerate(boxes):
        assert 20 <= x <= x + width <= right + 0.1
        assert 20 <= y <= y + height <= bottom + 0.1
        assert all(x + width < a or a + c < x or y + height < b or b + d < y for a, b, c, d in boxes[:i])
    arrows = [p for p in root.iter(f"{SVG}path") if p.get("marker-end")]
    assert len(arrows) == sum(len(node.ports) for node in graph.nodes)


def test_a_cell_is_drawn_with_what_reaches_its_output() -> None:
    space = declared("nas-bench-201")
    values = dict.fromkeys([c.name for c in space.choices], "none")
    (cell,) = space.graphs(space.architecture({**values, "edge_0_1": "nor_conv_3x3", "edge_1_3": "avg_pool_3x3"}))
    assert [(n.label, [(p.source, p.label) for p in n.ports]) for n in cell.nodes] == [
        ("input", []),
        ("node 1: sum", [("0", "nor_conv_3x3")]),
        ("output: sum", [("1", "avg_pool_3x3")]),
    ]
    (empty,) = space.graphs(space.architecture(values))
    assert [n.label for n in empty.nodes] == ["input", "output: zeros"]


def test_nasnet_is_drawn_as_two_cells_side_by_side() -> None:
    space = load_reference("nasnet-a-cifar")
    assert isinstance(space, DeclaredSpace)
    told = words(svg(space, space.sample(1, 0)[0]))
    assert [told.count(word) for word in ("normal", "reduction", "older", "output:")] == [1, 1, 2, 2]
    assert told.count("block") == 2 * 5 + 1, "ten blocks, and the head of the table"


SMALL: dict[str, Any] = {
    "family": "staged",
    "input": [1, 8, 8],
    "classes": 10,
    "architecture": {
        "stem": {"width": 8},
        "stages": [{"block": "inverted_residual", "depth": 4, "width": 16, "stride": 2}],
    },
}
