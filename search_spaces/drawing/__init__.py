"""Drawings of architectures: one SVG a network, from its outline, so that every family has one."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace
from search_spaces.drawing.canvas import Canvas, text_width
from search_spaces.drawing.graph import draw_graph
from search_spaces.drawing.groups import groups
from search_spaces.drawing.table import draw_table
from search_spaces.graph import Graph

MARGIN, LINE = 20.0, 18.0


def svg(space: DeclaredSpace, arch: Architecture) -> str:
    """The architecture as an SVG document: its costs, its cells as graphs, its blocks as a table, its recipe.

    Equal blocks in a row are drawn once. Colours follow the reader's light or dark scheme; there are no scripts.
    """
    canvas = Canvas()
    canvas.text(MARGIN, 34, space.name, "title")
    canvas.text(MARGIN, 54, _costs(space, arch), "head")
    right, bottom = _draw_cells(canvas, space.graphs(arch))
    wide, bottom = draw_table(canvas, MARGIN, bottom, groups(space.outline(arch), space.policy(arch)))
    right = max(right, wide)
    for text in _recipe(arch):
        bottom += LINE
        canvas.text(MARGIN, bottom, text, "head")
        right = max(right, MARGIN + text_width(text))
    return canvas.svg(right + MARGIN, bottom + MARGIN, space.name)


def _draw_cells(canvas: Canvas, cells: Sequence[Graph]) -> tuple[float, float]:
    """Cells side by side; gives the right end and where the table begins."""
    x = bottom = 70.0
    left = MARGIN
    for cell in cells:
        x, y = draw_graph(canvas, left, 70, cell)
        left, bottom = x + 2 * MARGIN, max(bottom, y + MARGIN)
    return x, bottom


def _costs(space: DeclaredSpace, arch: Architecture) -> str:
    found = space.cost(arch)
    counts = [f"{found[m]:,.0f} {label}" for m, label in (("params", "params"), ("macs", "MACs"))]
    sizes = {"model_size_bytes": "model", "peak_activation_bytes": "peak activation"}
    return " · ".join([*counts, *(f"{_bytes(found[m])} {label}" for m, label in sizes.items())])


def _bytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _recipe(arch: Architecture) -> list[str]:
    """The recipe's genes, four a line."""
    chosen = [f"{n.removeprefix('recipe.')} {arch[n]}" for n in arch if n.startswith("recipe.")]
    rows = [chosen[i : i + 4] for i in range(0, len(chosen), 4)]
    return ["recipe: " * (not i) + " · ".join(row) for i, row in enumerate(rows)]
