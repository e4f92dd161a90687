"""A cell's graph in layers from left to right: every node stands to the right of all that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from search_spaces.drawing.canvas import Canvas, text_width
from search_spaces.graph import Graph, Node, Port

ROW, BARE, HEAD, LANE = 20.0, 9.0, 20.0, 10.0
"""Heights of a port with a label, of one without, of a node's title, and of a line that passes a layer."""
GAP, BETWEEN = 12.0, 56.0
"""Space between the nodes of a layer, and between layers."""
SWEEPS = 6
_KINDS = {"conv": "conv", "nor_conv": "conv", "sep": "depthwise", "dil": "depthwise", "max": "pool", "avg": "pool"}


@dataclass
class _Place:
    """Where a node, or a line that passes through its layer, is drawn."""

    source: str
    """The node whose output is here: the node itself, or the one that the line comes from."""
    node: Node | None
    layer: int
    reads: list[_Place] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def text_width(self) -> float:
        """The width that the node's texts need, in pixels."""
        if self.node is None:
            return 0.0
        return 16 + max(map(text_width, [self.node.label, *(f"{p.label}  " for p in self.node.ports)]))

    @property
    def height(self) -> float:
        """In pixels."""
        return LANE if self.node is None else HEAD + sum(ROW if p.label else BARE for p in self.node.ports) + 4

    @property
    def inputs(self) -> list[tuple[Port, _Place]]:
        """The node's ports and what they read, from top to bottom, so that few lines cross."""
        ports = self.node.ports if self.node else ()
        return sorted(zip(ports, self.reads, strict=True), key=lambda read: read[1].middle)

    @property
    def middle(self) -> float:
        """Where lines leave."""
        return self.y + self.height / 2


def draw_graph(canvas: Canvas, left: float, top: float, graph: Graph) -> tuple[float, float]:
    """Draw a cell under its title; gives the right and lower ends."""
    canvas.text(left, top + 12, graph.title, "head")
    layers = _layers(graph.nodes)
    _order(layers)
    x, bottom = left, top
    tallest = max(_height(layer) for layer in layers)
    for layer in layers:
        y = top + 24 + (tallest - _height(layer)) / 2
        width = max(place.text_width for place in layer)
        for place in layer:
            place.x, place.y, place.width = x, y, width
            y += place.height + GAP
        x += width + BETWEEN
        bottom = max(bottom, y - GAP)
    places = [place for layer in layers for place in layer]
    for place in places:
        _draw_lines(canvas, place)
    for place in places:
        _draw_node(canvas, place)
    return x - BETWEEN, bottom


def _layers(nodes: Sequence[Node]) -> list[list[_Place]]:
    """Nodes by the longest way to them, and between a node and its reader a place in every layer."""
    where: dict[str, list[_Place]] = {}  # of every node: its place, then where its line passes later layers
    for node in nodes:
        layer = max((where[p.source][0].layer + 1 for p in node.ports), default=0)
        place = _Place(node.name, node, layer)
        for port in node.ports:
            line = where[port.source]
            while line[-1].layer < layer - 1:
                line.append(_Place(port.source, None, line[-1].layer + 1, [line[-1]]))
            place.reads.append(line[layer - 1 - line[0].layer])
        where[node.name] = [place]
    found = [place for line in where.values() for place in line]
    return [[p for p in found if p.layer == layer] for layer in range(max(p.layer for p in found) + 1)]


def _order(layers: list[list[_Place]]) -> None:
    """Put each layer in the order of the middles of what it is tied to, from both sides in turn."""
    for sweep in range(SWEEPS):
        backwards = sweep % 2 == 1
        for layer in reversed(layers) if backwards else layers:
            rank = {id(p): i / len(other) for other in layers for i, p in enumerate(other)}
            readers = {id(p): [q for other in layers for q in other if p in q.reads] for p in layer}
            ties = {id(p): readers[id(p)] if backwards else p.reads for p in layer}
            layer.sort(key=lambda p, r=rank, t=ties: fmean([r[id(q)] for q in t[id(p)]] or [r[id(p)]]))  # type: ignore[misc]


def _height(layer: Sequence[_Place]) -> float:
    return sum(p.height for p in layer) + GAP * (len(layer) - 1)


def _draw_lines(canvas: Canvas, place: _Place) -> None:
    """The lines from what a place reads to its ports."""
    if place.node is None:
        (before,) = place.reads
        _curve(canvas, before, place.x, place.middle, arrow=False)
        canvas.path(f"M{place.x:.1f},{place.middle:.1f} h{place.width:.1f}", "arrow")
        return
    y = place.y + HEAD
    for port, before in place.inputs:
        height = ROW if port.label else BARE
        _curve(canvas, before, place.x, y + height / 2, arrow=True)
        y += height


def _curve(canvas: Canvas, before: _Place, x: float, y: float, *, arrow: bool) -> None:
    start, middle = before.x + before.width, before.middle
    bend = (x - start) / 2
    path = f"M{start:.1f},{middle:.1f} C{start + bend:.1f},{middle:.1f} {x - bend:.1f},{y:.1f} {x:.1f},{y:.1f}"
    canvas.path(path, "arrow", arrow=arrow)


def _draw_node(canvas: Canvas, place: _Place) -> None:
    if place.node is None:
        return
    canvas.box(place.x, place.y, place.width, place.height, "plain")
    canvas.text(place.x + place.width / 2, place.y + 14, place.node.label, "middle")
    y = place.y + HEAD
    for port, _ in place.inputs:
        if port.label:
            canvas.box(place.x + 3, y + 1, place.width - 6, ROW - 3, _kind(port.label))
            canvas.text(place.x + 8, y + 13, port.label)
        y += ROW if port.label else BARE


def _kind(label: str) -> str:
    return next((kind for start, kind in _KINDS.items() if label.startswith(start)), "page")
