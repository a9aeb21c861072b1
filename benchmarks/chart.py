"""Bar charts as SVG, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 13px; font-weight: 600 }
.value { font-variant-numeric: tabular-nums }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #58a6ff }
}
"""

NAMES, BARS, VALUES, ROW, TITLE, GAP = 96, 96, 58, 18, 30, 14
"""Widths of the parts of a panel, heights of its rows and of its title, and the space below it, in pixels."""


@dataclass(frozen=True)
class Panel:
    """One chart: a bar for each name."""

    title: str
    bars: Mapping[str, float]
    unit: str


def svg(title: str, rows: Sequence[Sequence[Panel]], ours: str) -> str:
    """Return a picture of panels in rows; the bars of the one that is ours stand out."""
    width = (NAMES + BARS + VALUES) * max(map(len, rows))
    parts, top = [], 0
    for row in rows:
        for column, panel in enumerate(row):
            parts += draw(panel, column * (NAMES + BARS + VALUES), top, ours)
        top += TITLE + ROW * max(len(panel.bars) for panel in row) + GAP
    size = f'width="{width}" height="{top}" viewBox="0 0 {width} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><title>{escape(title)}</title>'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def draw(panel: Panel, left: int, top: int, ours: str) -> list[str]:
    """Return the parts of one panel."""
    longest = max(panel.bars.values()) or 1
    parts = [f'<text class="title" x="{left + NAMES}" y="{top + 18}">{escape(panel.title)}</text>']
    for number, (name, value) in enumerate(panel.bars.items()):
        y = top + TITLE + number * ROW
        length = max(1, BARS * value / longest)
        kind = "ours" if name == ours else "bar"
        parts += [
            f'<text x="{left + NAMES - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{left + NAMES}" y="{y + 1}" width="{length:.1f}" height="{ROW - 4}" rx="2"/>',
            f'<text class="value" x="{left + NAMES + length + 5:.1f}" y="{y + 12}">{figure(value)} {panel.unit}</text>',
        ]
    return parts


def figure(value: float) -> str:
    """Return a number with as many digits as anybody reads."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
