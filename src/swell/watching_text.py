"""Runs as a table for a terminal of any width, in its encoding."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from swell.console import duration, size
from swell.watching import STATES, Seen

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"
LEAST_SPARK, MOST_SPARK = 8, 40  # characters
SHORT_SPARK = 12  # of a score
LEAST_NAME = 12
GAP = "  "


def sparkline(values: Sequence[float], width: int, marks: str = BLOCKS) -> str:
    """The course of `values` in at most `width` characters, lowest to highest mark; the lowest where all are equal.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)
    '▁▂▃▄▅▆▇█'
    >>> sparkline([4, 4, 2, 2], 2, ASCII)
    '@_'
    """
    count = len(values)
    if count > width > 0:
        cuts = [count * i // width for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    top = len(marks) - 1
    return "".join(marks[round(top * (value - low) / (high - low)) if high > low else 0] for value in values)


# What a column says of a run. In the order of the table; the numbers say in which order narrow terminals lose them.
_COLUMNS: tuple[tuple[str, int, Callable[[Seen], str]], ...] = (
    ("done", 4, lambda run: _done(run)),
    ("", 1, lambda run: "" if run.share is None else f"{100 * run.share:.0f} %"),
    ("loss", 0, lambda run: "" if run.loss is None else f"{run.loss:.4g}"),
    ("left", 2, lambda run: "" if run.seconds_left is None else duration(run.seconds_left)),
    ("samples/s", 5, lambda run: "" if run.samples_per_second is None else f"{run.samples_per_second:,.0f}"),
    ("memory", 6, lambda run: "" if run.memory_bytes is None else size(run.memory_bytes)),
    ("lr", 7, lambda run: "" if run.learning_rate is None else f"{run.learning_rate:.2g}"),
)
_SPARK_RANK = 3  # of the course of the loss among them


def _done(run: Seen) -> str:
    if run.total_steps is None and run.total_seconds is not None:
        return f"{duration(run.seconds or 0)}/{duration(run.total_seconds)}"
    if run.step is None:
        return ""
    return f"{run.step:,} steps" if run.total_steps is None else f"{run.step:,}/{run.total_steps:,} steps"


def table(runs: Sequence[Seen], width: int, encoding: str = "utf-8", height: int | None = None) -> list[str]:
    """Lines of at most `width` characters: how many runs are in which state, a heading, and of each run one line, with
    more under it where there are phases, scores or a reason to tell. With `height` no more lines than that, of the runs
    that go on first.
    """
    if not runs:
        return ["no runs yet"]
    marks = BLOCKS if _can(encoding, BLOCKS) else ASCII
    counts = [(sum(run.state == state for run in runs), state) for state in STATES]
    place, runs = _named_briefly(runs)
    lines = [", ".join(f"{count} {state}" for count, state in counts if count) + (f" in {place}" if place else "")]
    if height is not None:
        runs = sorted(runs, key=lambda run: STATES.index(run.state))
    more = [_more(run, width, marks) for run in runs]
    shown = len(runs)
    if height is not None and 2 + sum(1 + len(under) for under in more) > height:
        room = max(height - 3, 1)
        shown = sum(sum(1 + len(under) for under in more[: i + 1]) <= room for i in range(len(runs)))
    rows = _rows(runs, width, marks)
    lines.append(rows[0])
    for row, under in list(zip(rows[1:], more, strict=True))[:shown]:
        lines += [row, *under]
    if shown < len(runs):
        lines.append(f"and {len(runs) - shown} more; swell watch --once shows all")
    return [_plain(line[:width], encoding) for line in lines]


def _named_briefly(runs: Sequence[Seen]) -> tuple[str, Sequence[Seen]]:
    """The folder that several runs are in, and the runs by their names in it."""
    try:
        place = os.path.commonpath([os.path.dirname(run.run) for run in runs]) if len(runs) > 1 else ""
    except ValueError:  # some absolute, some not
        place = ""
    return place, [replace(run, run=os.path.relpath(run.run, place)) for run in runs] if place else runs


def _rows(runs: Sequence[Seen], width: int, marks: str) -> list[str]:
    """A heading and a line of each run; of the columns as many as fit, of the loss's course what room is left."""
    cells = {i: [title, *(says(run) for run in runs)] for i, (title, _, says) in enumerate(_COLUMNS)}
    cells = {i: column for i, column in cells.items() if any(column[1:])}
    wide = {i: max(map(len, column)) for i, column in cells.items()}
    states = max(len(run.state) for run in runs)
    names = max(LEAST_NAME, *(len(run.run) for run in runs))
    room = width - len(GAP) - states

    def left(kept: Sequence[int]) -> int:
        return room - sum(len(GAP) + wide[i] for i in kept)

    kept = sorted(cells)
    course = any(run.losses for run in runs)
    least = min(names, max(LEAST_NAME, width // 4))
    while kept and left(kept) - (len(GAP) + LEAST_SPARK if course else 0) < least:
        last = max(kept, key=lambda i: _COLUMNS[i][1])
        if course and _COLUMNS[last][1] < _SPARK_RANK:
            course = False
        else:
            kept.remove(last)
    spare = left(kept) - (len(GAP) + LEAST_SPARK if course else 0)
    name = max(1, min(names, spare))
    spark = min(MOST_SPARK, LEAST_SPARK + spare - name) if course else 0
    rows = []
    for at in range(len(runs) + 1):
        run = runs[at - 1] if at else None
        row = [_short(run.run if run else "run", name).ljust(name), (run.state if run else "state").ljust(states)]
        for i in kept:
            text = cells[i][at]
            row.append(text.rjust(wide[i]))
            if _COLUMNS[i][0] == "loss" and course:
                row.append(sparkline(run.losses if run else (), spark, marks).ljust(spark))
        rows.append(GAP.join(row).rstrip())
    return rows


def _more(run: Seen, width: int, marks: str) -> list[str]:
    told = []
    if run.phase is not None:
        told.append(f"phase {run.phase} of {run.phases}: {run.trains}")
    for name, values in run.scores.items():
        told.append(f"{name} {values[-1]:.3g} {sparkline(values, SHORT_SPARK, marks)}")
    if run.why:
        told.append(run.why)
    lines: list[str] = []
    for text in told:
        if lines and len(lines[-1]) + len(GAP) + len(text) <= width:
            lines[-1] += GAP + text
        else:
            lines.append(GAP + text)
    return lines


def _short(name: str, room: int) -> str:
    """The end of a name tells runs apart."""
    return name if len(name) <= room else ".." + name[len(name) - room + 2 :] if room > 2 else name[-room:]


def _can(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _plain(line: str, encoding: str) -> str:
    """Without what would move the cursor, or what the terminal cannot show: folders may have any name."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    return shown if _can(encoding, shown) else shown.encode("ascii", "replace").decode()
