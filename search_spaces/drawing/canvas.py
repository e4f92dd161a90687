"""SVG by hand: a few shapes, text that is escaped, and colours for light and dark pages."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

CHARACTER = 6.7
"""Width of a character of the monospaced 11-pixel text, in pixels."""

_STYLE = """
text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .head { fill: #6e7781 } .end { text-anchor: end }
.middle { text-anchor: middle } .page { fill: #ffffff } .line { stroke: #d0d7de; fill: none }
.arrow { stroke: #8c959f; fill: none } .tip { fill: #8c959f }
.conv { fill: #cfe3ff } .depthwise { fill: #d3f2dc } .linear { fill: #ffe0c2 } .attention { fill: #f6d3ee }
.gate { fill: #fff1ad } .pool { fill: #e2dcfb } .plain { fill: #e7ebef } .none { fill: none; stroke: #d0d7de }
.params { fill: #7aa7e8 } .macs { fill: #e0a458 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .head { fill: #9198a1 } .page { fill: #0d1117 } .line, .none { stroke: #3d444d }
.conv { fill: #1b3a66 } .depthwise { fill: #1c4a2c } .linear { fill: #5c3614 } .attention { fill: #572049 }
.gate { fill: #55470a } .pool { fill: #3a2f6b } .plain { fill: #2a313a }
.params { fill: #3f6fb5 } .macs { fill: #9a6a24 }
}
"""


class Canvas:
    """Collects shapes; `svg` gives the picture. Sizes are pixels, y grows downwards."""

    def __init__(self) -> None:
        self._shapes: list[str] = []

    def text(self, x: float, y: float, text: str, style: str = "", tip: str = "") -> None:
        """Text on the baseline `y`; `style` names classes, ``end`` and ``middle`` among them.

        `tip` shows where the mouse rests on it.
        """
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}{_titled(tip)}</text>')

    def box(self, x: float, y: float, width: float, height: float, style: str, tip: str = "") -> None:
        """A rectangle with rounded corners."""
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._shapes.append(f'<rect {size} rx="3" class="{style}">{_titled(tip)}</rect>')

    def chip(self, x: float, y: float, label: str, style: str) -> float:
        """A small box around a label, with its top left corner at (x, y); gives the box's width."""
        width = text_width(label) + 10
        self.box(x, y, width, 16, style)
        self.text(x + 5, y + 12, label)
        return width

    def path(self, path: str, style: str, *, arrow: bool = False) -> None:
        """A line by the language of SVG paths, with a tip at its end where it is an `arrow`."""
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self._shapes.append(f'<path d="{path}" class="{style}"{tip}/>')

    def svg(self, width: float, height: float, title: str) -> str:
        """The whole picture, well-formed XML."""
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        tip = 'viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>',
                f"<title>{escape(title)}</title>",
                f"<style>{_STYLE}</style>",
                f'<defs><marker id="tip" {tip}><path d="M0,0 L6,3 L0,6 z" class="tip"/></marker></defs>',
                '<rect width="100%" height="100%" class="page"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )


def text_width(text: str) -> float:
    """About how wide a text is, in pixels."""
    return CHARACTER * len(text)


def _titled(tip: str) -> str:
    return f"<title>{escape(tip)}</title>" if tip else ""
