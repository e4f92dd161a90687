"""A line chart as SVG that needs nothing else: numbers of measurements on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 720, 420, 70, 44, 52, 190
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b3a000")
"""Told apart by people who see few colours, too (Okabe and Ito)."""


def line_chart(lines: Mapping[str, Sequence[tuple[float, float]]], title: str, x_label: str, y_label: str) -> str:
    """The SVG text of lines by name, each of points (x, y) with x > 0."""
    points = np.array([p for line in lines.values() for p in line], dtype=float)
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max(high[1] - low[1], 1e-12)
    bottom, top = low[1] - 0.05 * reach, high[1] + 0.05 * reach
    right, floor = WIDTH - LEGEND, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        along = np.log(x / low[0]) / max(np.log(high[0] / low[0]), 1e-12)
        return LEFT + float(along) * (right - LEFT), floor - (y - bottom) / (top - bottom) * (floor - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="12" role="img"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="#222222">{escape(title)}</text>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(18 {(TOP + floor) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]
    for y in np.linspace(bottom, top, 6):
        _, level = place(low[0], y)
        out.append(f'<path d="M{LEFT} {level:.1f}H{right}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    numbers = sorted({p[0] for line in lines.values() for p in line})
    for x in numbers:
        out += [f'<text x="{place(x, bottom)[0]:.1f}" y="{floor + 18}" text-anchor="middle">{x:g}</text>']
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        height = TOP + 10 + 20 * i
        out.append(f'<path d="M{right + 14} {height}h22" stroke="{colour}" stroke-width="3"/>')
        out.append(f'<text x="{right + 42}" y="{height + 4}" fill="#222222">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])
