"""A figure of lines in panels as one SVG file for docs/, readable on light and dark pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from swell.files import write_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 340, 260, 52, 34, 44, 24


@dataclass(frozen=True)
class Line:
    """Points (x, mean, sd) of one name; dashed lines share the colour of their name."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    dashed: bool = False


def draw(path: Path, panels: dict[str, list[Line]], x_label: str, y_label: str, note: str) -> None:
    """Write panels side by side, x in powers of two, one y axis for all, whiskers of one sd."""
    points = [p for lines in panels.values() for line in lines for p in line.points]
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines))
    low, high = min(y - s for _, y, s in points), max(y + s for _, y, s in points)
    low, high = 5 * math.floor(low / 5), 5 * math.ceil(high / 5)
    xs = sorted({x for x, _, _ in points})
    total = LEFT + len(panels) * (WIDTH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {HEIGHT + TOP + BOTTOM + 46}" '
        f'font-family="system-ui, sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]

    def down(y: float) -> float:
        return TOP + HEIGHT * (1 - (y - low) / (high - low))

    for k, (title, lines) in enumerate(panels.items()):
        x0 = LEFT + k * (WIDTH + GAP)

        def across(x: float, x0: float = x0) -> float:
            span = math.log2(xs[-1] / xs[0]) or 1.0
            return x0 + 14 + (WIDTH - 28) * math.log2(x / xs[0]) / span

        parts.append(f'<text x="{x0}" y="20" font-weight="600">{escape(title)}</text>')
        for y in range(low, high + 1, 5):
            parts.append(f'<path d="M{x0} {down(y):.1f}h{WIDTH}" stroke="#ddd"/>')
            if k == 0:
                parts.append(f'<text x="{x0 - 8}" y="{down(y) + 4:.1f}" text-anchor="end">{y}</text>')
        parts += [f'<text x="{across(x):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x:g}</text>' for x in xs]
        middle = x0 + WIDTH / 2
        parts.append(f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{escape(x_label)}</text>')
        for line in lines:
            colour = COLOURS[names.index(line.name) % len(COLOURS)]
            d = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y, _ in line.points)
            dash = ' stroke-dasharray="5 4"' if line.dashed else ""
            parts.append(f'<path d="M{d}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
            for x, y, sd in line.points:
                whisker = f"M{across(x):.1f} {down(y - sd):.1f}V{down(y + sd):.1f}"
                parts.append(f'<path d="{whisker}" stroke="{colour}"/>')
                parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>')
    centre = TOP + HEIGHT / 2
    parts.append(f'<text transform="translate(14 {centre}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    y = HEIGHT + TOP + BOTTOM + 14
    widths = [7 * len(name) + 40 for name in names]  # of a line, a name and a gap
    stretch = min(1.3, (total - LEFT) / sum(widths))
    x = float(LEFT)
    for i, (name, width) in enumerate(zip(names, widths, strict=True)):
        parts.append(f'<path d="M{x:.0f} {y - 4}h22" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 28:.0f}" y="{y}">{escape(name)}</text>')
        x += stretch * width
    parts.append(f'<text x="{LEFT}" y="{y + 22}" fill="#555">{escape(note)}</text></svg>')
    write_text(path, "\n".join(parts) + "\n")
