"""What a person sees while waiting: one bar with rate and time left, or plain lines when nobody has a terminal.

Everything goes to stderr; stdout belongs to results. Bars do not nest: one opened inside another
moves the outer one along and lends it its words, so that a long command shows one overall display.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any

from swell.errors import shown

_PLAIN_EVERY = 10.0  # seconds between plain lines at first; later a sixtieth of the time so far, which keeps a log
_PLAIN_MOST = 300.0  # of days short, but never longer than this
_BAR = (5, 30)  # columns of the bar, at least and at most
# What a narrow terminal drops first, and what it keeps to the last.
_DROPPED = ("memory", "count", "title", "rate", "left")
_active: list[Progress] = []


def processes() -> tuple[int, int]:
    """(rank, count) of the processes that torchrun or its like started together; (0, 1) for a lone one."""
    try:
        return int(os.environ["RANK"]), max(int(os.environ["WORLD_SIZE"]), 1)
    except (KeyError, ValueError):
        return 0, 1


def speaks() -> bool:
    """Whether this process speaks for all that were started with it: the first does."""
    rank, count = processes()
    return rank == 0 or count == 1


def say(line: str) -> None:
    """One line to the person, above any bar."""
    if not speaks():
        return
    line = shown(line)
    bar = _active[0]._rich if _active else None
    if bar is not None:
        bar.console.print(line, highlight=False, markup=False)
    else:
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    say(f"warning: {line}")


def duration(seconds: float) -> str:
    """`7 s`, `3:05`, `2:03:04`."""
    s = round(max(seconds, 0.0))
    if s < 60:
        return f"{s} s"
    return f"{s // 60}:{s % 60:02d}" if s < 3600 else f"{s // 3600}:{s % 3600 // 60:02d}:{s % 60:02d}"


def size(count: float) -> str:
    """Bytes for a person: `850 MB`, `1.2 GB`."""
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def moves() -> bool:
    """Whether stderr is a terminal on which a line can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class Progress:
    """`with Progress("views", total=400, unit="steps") as bar: bar.update(done, note="loss 1.2")`.

    Nothing is shown for the first two seconds, so quick work stays quiet. `rate_unit` and `per_unit` turn units of
    progress into what the rate counts (steps into samples); a `rate_unit` of "" shows no rate.
    """

    def __init__(
        self,
        title: str,
        total: float,
        unit: str = "",
        per_unit: float = 1.0,
        rate_unit: str | None = None,
        quiet: bool = False,
        start_at: float = 0.0,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.per_unit, self.rate_unit, self.quiet = (
            per_unit,
            unit if rate_unit is None else rate_unit,
            quiet or not speaks(),
        )
        self.started = self._last_line = time.monotonic()
        self.start_at = self.done = start_at
        self._window = (0.0, 1.0)
        self._own_words = False
        self._rich: Any = None
        self._task: Any = None

    def part(self, low: float, high: float, own_words: bool = False) -> None:
        """The next bar opened inside this one runs from share `low` to `high` of the whole. With `own_words` this
        one goes on telling its own progress and rate, not the inner one's.
        """
        self._window, self._own_words = (low, high), own_words

    def __enter__(self) -> Progress:
        _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.remove(self)
        if self._rich is not None:
            self._rich.stop()

    def update(self, done: float, note: str = "", rate: float | None = None, memory: float | None = None) -> None:
        """`done` units of the total are done; `note` is a few words beside the bar, `memory` the bytes in use.

        `rate`, in rate units a second, is for who knows it better than what is done tells.
        """
        self.done = done
        now = time.monotonic()
        if self.quiet or now - self.started < 2.0:
            return
        told = self._told(now, note, rate, memory)
        if _active and _active[0] is not self:
            outer = _active[0]
            low, high = outer._window
            outer.done = outer.total * (low + (high - low) * min(done / self.total, 1.0)) if self.total else outer.done
            outer._show(now, outer._told(now) if outer._own_words else told)
        else:
            self._show(now, told)

    def _show(self, now: float, told: dict[str, str]) -> None:
        if moves():
            self._draw(told)
        elif now - self._last_line >= min(max(_PLAIN_EVERY, (now - self.started) / 60), _PLAIN_MOST):
            self._last_line = now
            percent = f"{100 * self.done / self.total:3.0f} %  " if self.total else ""
            print(percent + "  ".join(told.values()), file=sys.stderr, flush=True)

    def _told(
        self, now: float, note: str = "", rate: float | None = None, memory: float | None = None
    ) -> dict[str, str]:
        """The words of the line in their order, by what they tell."""
        told = {"title": self.title}
        if self.unit:
            told["count"] = f"{self.done:,.0f}/{self.total:,.0f} {self.unit}"
        speed = (self.done - self.start_at) / (now - self.started)
        if rate is not None:
            told["rate"] = f"{rate:,.0f} samples/s"
        elif speed > 0 and self.rate_unit:
            told["rate"] = f"{speed * self.per_unit:,.0f} {self.rate_unit}/s"
        if speed > 0:
            told["left"] = f"{duration((self.total - self.done) / speed)} left"
        if note:
            told["note"] = note
        if memory is not None:
            told["memory"] = size(memory)
        return told

    def _draw(self, told: dict[str, str]) -> None:
        if self._rich is None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as RichProgress
            from rich.table import Column

            self._rich = RichProgress(
                TaskProgressColumn(),
                BarColumn(_BAR[1]),
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=4,
            )
            self._rich.start()
            self._task = self._rich.add_task("", total=self.total)
        room = self._rich.console.width - 6  # the percentage and the gaps
        line = fitted(told, room - _BAR[0])
        self._rich.columns[1].bar_width = max(_BAR[0], min(_BAR[1], room - len(line)))
        self._rich.update(self._task, completed=self.done, description=line)


def fitted(told: dict[str, str], room: int) -> str:
    """The words in one line of at most `room` columns, if need be without the less important ones."""
    kept = dict(told)
    for name in _DROPPED:
        if len("  ".join(kept.values())) <= room or len(kept) <= 1:
            break
        kept.pop(name, None)
    return "  ".join(kept.values())
