"""Charts of lines and dots as inline SVG: a few KB each, themed by the page's CSS variables.

Colours are classes (`k0` to `k9`) so that one drawing serves light and dark; series differ in dash pattern
too, so that colour is never the only difference. Text sizes come from the style sheet, larger on narrow screens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from swell.report.tables import count

COLOURS = 10
SHAPES = 2  # dot, square
DASHES = ["", "7 3", "2 3", "10 3 2 3", "14 4", "5 2 1 2 1 2", "4 4", "12 2 5 2"]
_WIDTH, _HEIGHT = 520.0, 320.0
_RIGHT, _TOP, _BOTTOM = 14.0, 14.0, 50.0
_POINTS = 700  # per line; more than the pixels it is drawn on


@dataclass(frozen=True, eq=False)
class Series:
    """One line, or unconnected dots: y against x, both [n]. NaN and infinite values are gaps."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    dots: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart. With `log_y` the values that are not positive are gaps."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_y: bool = False
    note: str = ""


@dataclass(frozen=True)
class Key:
    """A legend entry: the name and its colour, dash pattern (lines) or shape (points)."""

    name: str
    colour: int
    dash: str = ""
    shape: int = 0
    dots: bool = False


def ticks(low: float, high: float, about: int = 5, whole: bool = False) -> list[float]:
    """About `about` round values (1, 2 or 5 times a power of ten) in [low, high]; whole numbers on demand."""
    if not low < high:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Powers of ten in [low, high], thinned to `about`; 2s and 5s, or round values, where they are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = list(range(first, last + 1))
    if len(powers) >= 3:
        every = math.ceil(len(powers) / about)
        return [10.0**p for p in powers if p % every == 0]
    fine = [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5)]
    inside = [value for value in fine if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside if len(inside) >= 3 else [value for value in ticks(low, high, about) if value > 0]


def tick_texts(values: Sequence[float]) -> tuple[list[str], str]:
    """Labels for evenly spaced ticks, and the power of ten to name beside the axis where all are tiny."""
    largest = max(map(abs, values), default=0.0)
    exponent = math.floor(math.log10(largest) + 1e-9) if largest else 0
    factor, suffix, power = 1.0, "", ""
    if 4 <= exponent < 15:
        factor, suffix = 1000.0 ** (exponent // 3), " " + "kMGT"[exponent // 3 - 1]
    elif largest and not -2 <= exponent < 15:
        factor, power = 10.0**exponent, f"×{_power(exponent)}"
    scaled = [value / factor for value in values]
    step = min((abs(b - a) for a, b in pairwise(scaled)), default=abs(scaled[0]) if scaled else 0.0)
    digits = min(max(0, -math.floor(math.log10(step) + 1e-9)), 12) if step else 0
    texts = [f"{value:.{digits}f}" + (suffix if value else "") for value in scaled]
    return [text.replace("-", "\N{MINUS SIGN}") for text in texts], power


def log_tick_text(value: float, smallest: float = 1.0) -> str:
    """`0.02`, `50`, `20 k`; powers of ten below 1 where the `smallest` tick is below 0.001."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if 0 <= exponent < 15:
        return count(value) if exponent >= 4 else f"{value:.6g}"
    if exponent < 0 and min(value, smallest) >= 0.000999:
        return f"{value:.6g}"
    head = f"{value / 10.0**exponent:.3g}"
    return _power(exponent) if head == "1" else f"{head}·{_power(exponent)}"


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def decimate(x: np.ndarray, y: np.ndarray, limit: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """About `limit` of the points (x, y) [n]: of each stretch the lowest, the highest, a gap; both ends."""
    if len(y) <= limit:
        return x, y
    keep = {0, len(y) - 1}
    edges = np.linspace(0, len(y), max(limit // 2, 1) + 1).astype(int)
    for start, stop in pairwise(edges.tolist()):
        part = y[start:stop]
        gaps = np.flatnonzero(np.isnan(part))
        if len(gaps) < len(part):
            keep |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
        if len(gaps):
            keep.add(start + int(gaps[0]))
    index = np.array(sorted(keep))
    return x[index], y[index]


def chart_keys(chart: Chart) -> list[Key]:
    """The legend of a chart: colours repeat after ten series, dash patterns then move on."""
    dashes = [DASHES[(i + i // COLOURS) % len(DASHES)] for i in range(len(chart.series))]
    return [
        point_key(line.name, i) if line.dots else Key(line.name, i % COLOURS, dashes[i])
        for i, line in enumerate(chart.series)
    ]


@dataclass(frozen=True)
class Drawn:
    """A chart as an <svg> element, without its legend and caption, and what a script needs to read values off it."""

    svg: Markup
    data: dict[str, Any] | None  # None where there is nothing to read


def draw_chart(chart: Chart) -> Drawn:
    lines = [decimate(*_clean(line, chart.log_y)) for line in chart.series]
    finite = [(x[ok], y[ok]) for x, y in lines if (ok := np.isfinite(y)).any()]
    if not finite:
        return Drawn(Markup('<p class="empty">There is nothing to draw: no value is a finite number.</p>'), None)
    xs, ys = (np.concatenate([pair[k] for pair in finite]) for k in (0, 1))
    whole = bool(np.all(xs == np.round(xs)))
    room = 0.04 if any(line.dots for line in chart.series) else 0.0
    x_axis = _axis(chart.x_label, float(xs.min()), float(xs.max()), room, whole=whole)
    y_axis = _axis(chart.y_label, float(ys.min()), float(ys.max()), 0.04, log=chart.log_y)
    left = max(52.0, 34.0 + 8.5 * max(len(text) for text in y_axis.texts))

    def across(value: np.ndarray) -> np.ndarray:
        return left + x_axis.share(value) * (_WIDTH - left - _RIGHT)

    def down(value: np.ndarray) -> np.ndarray:
        return _HEIGHT - _BOTTOM - y_axis.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    keys = chart_keys(chart)
    parts = [_frame(x_axis, y_axis, left, across(np.array(x_axis.ticks)), down(np.array(y_axis.ticks)))]
    parts += [_mark(across(x), down(y), key) for (x, y), key in zip(lines, keys, strict=True)]
    about = f"{chart.title}: {chart.y_label} against {chart.x_label}. " + "; ".join(
        _range(line.name, y) if line.dots else _ends(line.name, y)
        for line, (_, y) in zip(chart.series, lines, strict=True)
    )
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _n(_WIDTH), _n(_HEIGHT), about, Markup("").join(parts)
    )
    data = {
        "size": [_WIDTH, _HEIGHT],
        "box": [left, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM],
        "x": {"name": chart.x_label, "low": x_axis.low, "high": x_axis.high},
        "y": {"name": chart.y_label, "low": y_axis.low, "high": y_axis.high, "log": y_axis.log},
        "lines": [
            {"name": key.name, "colour": key.colour, "dots": key.dots, "x": _values(x), "y": _values(y)}
            for (x, y), key in zip(lines, keys, strict=True)
        ],
    }
    return Drawn(svg, data)


def line_chart(chart: Chart) -> Markup:
    """The chart as an <svg> element alone."""
    return draw_chart(chart).svg


def _mark(x: np.ndarray, y: np.ndarray, key: Key) -> Markup:
    """The line or the dots through pixels x, y [n], with its name for those who point at it."""
    if key.dots:
        # A line of (almost) no length with round or square caps is a dot of the same size at any zoom.
        d = "".join(f"M{_n(a)} {_n(b)}h.01" for a, b in zip(x.tolist(), y.tolist(), strict=True) if math.isfinite(b))
        return Markup('<path class="mark dots s{} k{}" d="{}"/>').format(key.shape, key.colour, d)
    dash = Markup(' stroke-dasharray="{}"').format(key.dash) if key.dash else ""
    return Markup('<path class="mark line k{}" d="{}"{}/>').format(key.colour, _path(x, y), dash)


def _values(a: np.ndarray) -> list[float | None]:
    """Five figures of each; None for a gap."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in a.tolist()]


def point_key(name: str, index: int) -> Key:
    """Colour and shape of class `index`: ten colours as dots, then as squares."""
    return Key(name, index % COLOURS, shape=index // COLOURS % SHAPES, dots=True)


def _clean(line: Series, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"series {line.name!r}: x {list(x.shape)} and y {list(y.shape)} must be equally long lists")
    known = np.isfinite(x)
    x, y = x[known], y[known]
    drawable = np.isfinite(y) & (y > 0 if log_y else True)
    return x, np.where(drawable, y, np.nan)


@dataclass(frozen=True)
class _Axis:
    name: str
    low: float
    high: float
    ticks: list[float]
    texts: list[str]
    log: bool

    def share(self, value: np.ndarray) -> np.ndarray:
        """Where `value` lies between the ends of the axis, 0 to 1."""
        if self.log:
            return (np.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def _axis(name: str, low: float, high: float, room: float, log: bool = False, whole: bool = False) -> _Axis:
    low, high = _widen(low, high, room, log)
    if log:
        marks = log_ticks(low, high)
        return _Axis(name, low, high, marks, [log_tick_text(value, marks[0]) for value in marks], log)
    marks = ticks(low, high, whole=whole)
    texts, power = tick_texts(marks)
    return _Axis(f"{name} ({power})" if power else name, low, high, marks, texts, log)


def _widen(low: float, high: float, room: float, log: bool) -> tuple[float, float]:
    """The range to draw: `room` (a share of it) more at both ends, and never empty."""
    if log:
        a, b = _widen(math.log10(low), math.log10(high), room, False)
        return 10.0**a, 10.0**b
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        gap = abs(low) * 0.1 or 0.5
        return low - gap, high + gap
    return low - room * (high - low), high + room * (high - low)


def _frame(x_axis: _Axis, y_axis: _Axis, left: float, across: np.ndarray, down: np.ndarray) -> Markup:
    """Grid lines, axis line, tick labels and axis names."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    grid = Markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" dy=".35em" class="end">{}</text>')
    tick = Markup('<path class="tick" d="M{} {}v4"/><text x="{}" y="{}" dy=".9em" class="mid">{}</text>')
    parts = [
        grid.format(_n(left), _n(y), _n(right), _n(left - 7), _n(y), text)
        for text, y in zip(y_axis.texts, down.tolist(), strict=True)
    ]
    parts += [
        tick.format(_n(x), _n(bottom), _n(x), _n(bottom + 6), text)
        for text, x in zip(x_axis.texts, across.tolist(), strict=True)
    ]
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(_n(left), _n(bottom), _n(right)))
    parts.append(
        Markup('<text x="{}" y="{}" class="mid name">{}</text>').format(
            _n((left + right) / 2), _n(_HEIGHT - 7), x_axis.name
        )
    )
    parts.append(
        Markup('<text transform="translate(14 {}) rotate(-90)" class="mid name">{}</text>').format(
            _n((_TOP + bottom) / 2), y_axis.name
        )
    )
    return Markup("").join(parts)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Path data through the points; a NaN ends one stroke and the next point begins another."""
    out, pen_down = [], False
    for i, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if math.isnan(py):
            pen_down = False
            continue
        out.append(f"{'L' if pen_down else 'M'}{_n(px)} {_n(py)}")
        if not pen_down and (i + 1 == len(y) or math.isnan(y[i + 1])):
            out.append("h.01")  # a point with no neighbour is still seen
        pen_down = True
    return "".join(out)


def _ends(name: str, y: np.ndarray) -> str:
    finite = y[np.isfinite(y)]
    if not len(finite):
        return f"{name} has no finite value"
    return f"{name} goes from {finite[0]:.3g} to {finite[-1]:.3g}"


def _range(name: str, y: np.ndarray) -> str:
    finite = y[np.isfinite(y)]
    return f"{name} lies at {finite.min():.3g} to {finite.max():.3g}" if len(finite) else f"{name} has no finite value"


def _n(value: float) -> str:
    """One decimal, without a trailing zero."""
    return f"{value:.1f}".removesuffix(".0")
