"""Figures of several panels, each with axes of its own, as one SVG file for docs/; and what all benchmarks share."""

from __future__ import annotations

import math
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import ROOT, claim, write_result
from _figure import COLOURS as OTHERS
from swell.files import write_text
from swell.report.svg import log_ticks, ticks

__all__ = ["ROOT", "Line", "Panel", "claim", "draw", "write_result"]

COLOURS = (*OTHERS, "#222222")
WIDTH, HEIGHT = 300, 210  # of the area that is drawn on
LEFT, TOP, RIGHT, BOTTOM = 62, 58, 22, 48
DASHES = ("", "6 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "")


@dataclass(frozen=True)
class Line:
    """Points (x, mean, sd), sd 0 for what is not random. `key` chooses colour and dashes, the same in all panels."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    key: int
    mark: bool = False  # draw a ring at the lowest point


@dataclass(frozen=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    high: float | None = None  # top of the y axis, where the data would reach higher
    low: float | None = 0.0


def draw(path: Path, panels: list[Panel], legends: dict[str, dict[int, str]], note: str, columns: int = 2) -> None:
    """Write the panels row by row, below them a legend (key -> name) a row, each behind its heading, and small print."""
    wide, tall = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    rows = math.ceil(len(panels) / columns)
    total = columns * wide
    lines = textwrap.wrap(note, int((total - LEFT) / 6.4))
    below = rows * tall + 20
    height = below + 24 * len(legends) + 17 * len(lines) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="#222"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for number, panel in enumerate(panels):
        x0, y0 = number % columns * wide + LEFT, number // columns * tall + TOP
        parts += _panel(panel, x0, y0)
    for i, (heading, entries) in enumerate(legends.items()):
        y, x = below + 24 * i, LEFT // 2 + 110
        parts.append(f'<text x="{LEFT // 2}" y="{y}">{escape(heading)}</text>')
        for key, name in entries.items():
            parts.append(f'<path d="M{x} {y - 4}h30" {_pen(key)}/><text x="{x + 38}" y="{y}">{escape(name)}</text>')
            x += 58 + 7 * len(name)
    y = below + 24 * len(legends)
    parts += [f'<text x="{LEFT // 2}" y="{y + 17 * i}" fill="#555">{escape(t)}</text>' for i, t in enumerate(lines)]
    write_text(path, "\n".join([*parts, "</svg>"]) + "\n")


def _pen(key: int) -> str:
    dash = DASHES[key % len(DASHES)]
    return f'stroke="{COLOURS[key % len(COLOURS)]}" stroke-width="2" fill="none"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )


def _panel(panel: Panel, x0: float, y0: float) -> list[str]:
    points = [p for line in panel.lines for p in line.points if all(map(math.isfinite, p))]
    xs = [x for x, _, _ in points]
    low = min(y - s for _, y, s in points) if panel.low is None else panel.low
    high = max(y + s for _, y, s in points) if panel.high is None else panel.high
    left, right = (math.log(min(xs)), math.log(max(xs))) if panel.log_x else (min(xs), max(xs))
    high += 0.04 * (high - low)

    def across(x: float) -> float:
        return x0 + 8 + (WIDTH - 16) * ((math.log(x) if panel.log_x else x) - left) / ((right - left) or 1)

    def down(y: float) -> float:
        return y0 + HEIGHT * (1 - (min(max(y, low), high) - low) / (high - low))

    parts = [f'<text x="{x0}" y="{y0 - 14}" font-weight="600">{escape(panel.title)}</text>']
    for y in ticks(low, high, 5):
        parts.append(f'<path d="M{x0} {down(y):.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 8}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    marks = sorted(set(xs)) if panel.log_x and len(set(xs)) < 8 else None
    for x in marks or (log_ticks(min(xs), max(xs), 5) if panel.log_x else ticks(left, right, 6)):
        parts.append(f'<text x="{across(x):.1f}" y="{y0 + HEIGHT + 17}" text-anchor="middle">{x:,g}</text>')
    middle = x0 + WIDTH / 2
    parts.append(f'<text x="{middle}" y="{y0 + HEIGHT + 36}" text-anchor="middle">{escape(panel.x_label)}</text>')
    turn = f'transform="translate({x0 - 46} {y0 + HEIGHT / 2}) rotate(-90)"'
    parts.append(f'<text {turn} text-anchor="middle">{escape(panel.y_label)}</text>')
    for line in panel.lines:
        shown = [p for p in line.points if all(map(math.isfinite, p)) and p[1] <= high]
        if not shown:
            continue
        d = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y, _ in shown)
        parts.append(f'<path d="M{d}" {_pen(line.key)}/>')
        colour = COLOURS[line.key % len(COLOURS)]
        for x, y, sd in shown:
            if sd:
                whisker = f"M{across(x):.1f} {down(y - sd):.1f}V{down(y + sd):.1f}"
                parts.append(f'<path d="{whisker}" stroke="{colour}"/>')
            if panel.log_x:
                parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>')
        if line.mark:
            x, y, _ = min(shown, key=lambda p: p[1])
            ring = f'cx="{across(x):.1f}" cy="{down(y):.1f}" r="6" fill="none" stroke="{colour}" stroke-width="2"'
            parts.append(f"<circle {ring}/>")
    return parts
