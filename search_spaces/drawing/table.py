"""A network as a table of its blocks: what each does, its sizes, its bits, and bars for its costs."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.drawing.canvas import Canvas, text_width
from search_spaces.drawing.groups import Chip, Group

ROW, LINE, GAP = 24.0, 20.0, 18.0
CHAIN = 600.0
"""Width beyond which the operations of a block go on in a second line."""
NUMBER, BAR = 95.0, 90.0
"""Widths of a cost and of its bar."""


def draw_table(canvas: Canvas, left: float, top: float, groups: Sequence[Group]) -> tuple[float, float]:
    """Draw the blocks below each other; gives the right and lower ends."""
    texts = {
        "block": [_name(g) for g in groups],
        "kernel": [g.kernels for g in groups],
        "hidden": [g.hidden for g in groups],
        "width": [str(g.width) for g in groups],
        "size": [g.size for g in groups],
        "bits": [g.bits for g in groups],
    }
    shown = {name: column for name, column in texts.items() if any(column)}
    chains = [wrapped(g.chips, CHAIN) for g in groups]
    x, places = left, {}
    for name in ["block", "operations", *list(shown)[1:]]:
        places[name] = x
        texts_here = shown.get(name)
        x += _chain_width(chains) if texts_here is None else max(map(text_width, [name, *texts_here]))
        x += GAP
    costs = {"params": x, "macs": x + NUMBER + 8 + BAR}
    right = costs["macs"] + NUMBER + 8 + BAR
    _draw_head(canvas, top, {**places, **costs})
    most = {name: max(1, *(getattr(g, name) for g in groups)) for name in costs}
    y = top + LINE
    for i, (group, chain) in enumerate(zip(groups, chains, strict=True)):
        height = ROW + LINE * (max(len(chain), 1) - 1)
        canvas.path(f"M{left:.1f},{y:.1f} H{right:.1f}", "line")
        for name, column in shown.items():
            canvas.text(places[name], y + 16, column[i], tip=" ".join(group.names) if name == "block" else "")
        for number, chips in enumerate(chain):
            draw_chain(canvas, places["operations"], y + 4 + LINE * number, chips)
        for name, place in costs.items():
            _draw_cost(canvas, place, y, name, getattr(group, name), most[name])
        y += height
    return right, y


def draw_chain(canvas: Canvas, x: float, y: float, chips: Sequence[Chip]) -> None:
    """Operations one after the other."""
    for i, chip in enumerate(chips):
        if i:
            canvas.path(f"M{x:.1f},{y + 8:.1f} h6", "arrow")
            x += 6
        x += canvas.chip(x, y, chip.label, chip.kind)


def wrapped(chips: Sequence[Chip], width: float) -> list[list[Chip]]:
    """The chips in lines of at most `width` pixels."""
    rows: list[list[Chip]] = [[]]
    used = 0.0
    for chip in chips:
        wide = text_width(chip.label) + 16
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0.0
        rows[-1].append(chip)
        used += wide
    return rows


def _name(group: Group) -> str:
    count = f" x{len(group.names)}" if len(group.names) > 1 else ""
    return f"{group.name}{count}" + (f" from {', '.join(group.sources)}" if group.sources else "")


def _chain_width(chains: Sequence[Sequence[Sequence[Chip]]]) -> float:
    widths = [sum(text_width(c.label) + 16 for c in row) for rows in chains for row in rows]
    return max([text_width("operations"), *widths])


def _draw_head(canvas: Canvas, top: float, places: dict[str, float]) -> None:
    for name, place in places.items():
        if name in ("params", "macs"):
            canvas.text(place + NUMBER, top + 12, "MACs" if name == "macs" else name, "head end")
        else:
            canvas.text(place, top + 12, name, "head")


def _draw_cost(canvas: Canvas, x: float, y: float, name: str, value: int, most: int) -> None:
    canvas.text(x + NUMBER, y + 16, f"{value:,}", "end")
    if value:
        canvas.box(x + NUMBER + 8, y + 6, max(BAR * value / most, 1), 12, name)
