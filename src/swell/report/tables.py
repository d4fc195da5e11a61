"""Tables of results: numbers as people read them, and the best cells found without crowning a tie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsFloat, TypeAlias

from swell.console import duration
from swell.report.glossary import hint_for

Cell: TypeAlias = "str | float | tuple[float, float] | None"  # a tuple is (mean, standard deviation)


@dataclass(frozen=True)
class Column:
    """One column. `unit` decides how numbers are written:

    "%" (values 0 to 100), "share" (0 to 1, written as per cent), "s", "count", "flop", "bytes"; anything else
    stands in the header. `better` marks the best cells. An empty `hint` is looked up in the glossary.
    """

    key: str
    label: str
    hint: str = ""
    unit: str = ""
    better: Literal["high", "low"] | None = "high"


@dataclass(frozen=True)
class Table:
    """Rows are dicts from column key to cell; the first column names the row.

    Rows with a "group" (for instance "Baselines") stand together under it, after the rows without one.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    note: str = ""


@dataclass(frozen=True)
class ShownCell:
    """What the template prints: the text, its spread (may be empty), whether it is among the best; what it is sorted
    by, None for words."""

    text: str
    spread: str = ""
    best: bool = False
    value: float | None = None

    @property
    def number(self) -> bool:
        return self.value is not None


@dataclass(frozen=True)
class ShownTable:
    title: str
    columns: list[Column]
    hints: list[tuple[str, str]]  # (label, explanation)
    groups: list[tuple[str, list[list[ShownCell]]]]  # (heading or "", rows of cells)
    numeric: list[bool]  # per column: holds a number
    spread: list[bool]  # per column: holds a standard deviation
    note: str
    any_best: bool
    any_spread: bool


def show(table: Table) -> ShownTable:
    """Format every cell, mark the best ones and gather the rows by group."""
    shown = [_show_column(column, [row.get(column.key) for row in table.rows]) for column in table.columns]
    groups: dict[str, list[list[ShownCell]]] = {"": []}
    for index, row in enumerate(table.rows):
        groups.setdefault(str(row.get("group") or ""), []).append([cells[index] for cells in shown])
    every = [cell for cells in shown for cell in cells]
    return ShownTable(
        title=table.title,
        columns=list(table.columns),
        hints=[(c.label, text) for c in table.columns if (text := c.hint or hint_for(c.key))],
        groups=[(heading, rows) for heading, rows in groups.items() if rows],
        numeric=[any(cell.number for cell in cells) for cells in shown],
        spread=[any(cell.spread for cell in cells) for cells in shown],
        note=table.note,
        any_best=any(cell.best for cell in every),
        any_spread=any(cell.spread for cell in every),
    )


def header_unit(column: Column) -> str:
    """The unit to write in the header; empty where each cell carries its own."""
    return {"share": "%", "s": "", "count": "", "flop": "", "bytes": ""}.get(column.unit, column.unit)


def best_cells(values: Sequence[tuple[float, float] | None], better: Literal["high", "low"]) -> set[int]:
    """Indices of the best (mean, sd) and of all within one pooled standard deviation of it.

    pooled sd = sqrt((sd_a^2 + sd_b^2) / 2). A column without two different means has no best.
    """
    known = {i: value for i, value in enumerate(values) if value is not None and math.isfinite(value[0])}
    if len({mean for mean, _ in known.values()}) < 2:
        return set()
    sign = 1.0 if better == "high" else -1.0
    # Of equal means the one with the largest sd leads: it is the one that leaves the most rows in the tie.
    top_mean, top_sd = max(known.values(), key=lambda value: (sign * value[0], value[1]))
    pooled = {i: math.sqrt((sd**2 + top_sd**2) / 2) for i, (_, sd) in known.items()}
    return {i for i, (mean, _) in known.items() if abs(top_mean - mean) <= pooled[i]}


def _show_column(column: Column, cells: Sequence[Cell]) -> list[ShownCell]:
    pairs = [_pair(cell) for cell in cells]
    means = [pair[0] for pair in pairs if pair is not None]
    scale = 100.0 if column.unit == "share" else 1.0
    digits = decimals([scale * mean for mean in means], column.unit)
    texts = [_number(scale * pair[0], column.unit, digits) if pair else "" for pair in pairs]
    best: set[int] = set()
    if column.better:
        best = best_cells(pairs, column.better)
        # What reads the same must not be told apart.
        best = {i for i, text in enumerate(texts) if pairs[i] and text in {texts[j] for j in best}}
        if len({text for text in texts if text}) < 2:
            best = set()
    shown = []
    for index, (cell, pair) in enumerate(zip(cells, pairs, strict=True)):
        if pair is None:
            shown.append(ShownCell(cell if isinstance(cell, str) and cell else "–"))
        else:
            spread = _number(scale * pair[1], column.unit, digits) if pair[1] > 0 else ""
            shown.append(ShownCell(texts[index], spread, index in best, float(f"{pair[0]:.8g}")))
    return shown


def _pair(cell: Cell) -> tuple[float, float] | None:
    """(mean, sd) with sd 0 where unknown; None for words, gaps and numbers that are not finite."""
    if isinstance(cell, tuple):
        mean, sd = float(cell[0]), float(cell[1])
        return (mean, sd if math.isfinite(sd) else 0.0) if math.isfinite(mean) else None
    if isinstance(cell, SupportsFloat) and math.isfinite(float(cell)):
        return float(cell), 0.0
    return None


def decimals(values: Sequence[float], unit: str = "") -> int:
    """Decimals for a whole column, so that its points line up: one for per cent, else three figures."""
    if unit in ("%", "share"):
        return 1
    largest = max(map(abs, values), default=0.0)
    if largest == 0 or all(value == round(value) for value in values):
        return 0
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)


def _number(value: float, unit: str, digits: int) -> str:
    if unit == "s":
        return seconds(value)
    if unit == "count":
        return count(value)
    if unit == "flop":
        return count(value, "FLOP")
    if unit == "bytes":
        return memory(value)
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """`0.35 s`, `42 s`, `1:05`, `2:03:04`."""
    return f"{value:.2g} s" if 0 < value < 9.5 else duration(value)


def count(value: float, unit: str = "") -> str:
    """Two or three figures with a prefix: `950`, `51.2 k`, `1.2 M`, `3.4 TFLOP`."""
    return _prefixed(value, 1000.0, ["", "k", "M", "G", "T", "P", "E"], unit)


def memory(value: float) -> str:
    """`512 MiB`, `1.5 GiB`."""
    return _prefixed(value, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"], "")


def _prefixed(value: float, step: float, prefixes: Sequence[str], unit: str) -> str:
    power = 0
    while abs(value) >= step * 0.9995 and power < len(prefixes) - 1:  # 999.6 would be rounded up to 1000
        value /= step
        power += 1
    whole = abs(value) >= 99.95 or value == round(value)
    return f"{value:.{0 if whole else 1}f} {prefixes[power]}{unit}".rstrip()
