"""What a person sees while waiting: one bar with rate and time left, or plain lines when nobody has a terminal.

Everything goes to stderr; stdout belongs to results. Bars do not nest: one opened inside another
moves the outer one along and lends it its words, so that a long command shows one overall display.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_PLAIN_EVERY = 10.0  # seconds between plain lines
_active: list[Progress] = []


def say(line: str) -> None:
    """One line to the person, above any bar."""
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
        self.per_unit, self.rate_unit, self.quiet = per_unit, unit if rate_unit is None else rate_unit, quiet
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

    def update(self, done: float, note: str = "") -> None:
        """`done` units of the total are done; `note` is a few words beside the bar."""
        self.done = done
        now = time.monotonic()
        if self.quiet or now - self.started < 2.0:
            return
        line = self._line(now, note)
        if _active and _active[0] is not self:
            outer = _active[0]
            low, high = outer._window
            outer.done = outer.total * (low + (high - low) * min(done / self.total, 1.0)) if self.total else outer.done
            outer._show(now, outer._line(now, "") if outer._own_words else line)
        else:
            self._show(now, line)

    def _show(self, now: float, line: str) -> None:
        if sys.stderr.isatty():
            self._draw(line)
        elif now - self._last_line >= _PLAIN_EVERY:
            self._last_line = now
            percent = f"{100 * self.done / self.total:3.0f} %  " if self.total else ""
            print(f"{percent}{line}", file=sys.stderr, flush=True)

    def _line(self, now: float, note: str) -> str:
        parts = [self.title]
        if self.unit:
            parts.append(f"{self.done:,.0f}/{self.total:,.0f} {self.unit}")
        rate = (self.done - self.start_at) / (now - self.started)
        if rate > 0:
            if self.rate_unit:
                parts.append(f"{rate * self.per_unit:,.0f} {self.rate_unit}/s")
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join([*parts, note] if note else parts)

    def _draw(self, line: str) -> None:
        if self._rich is None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as RichProgress

            self._rich = RichProgress(
                TaskProgressColumn(),
                BarColumn(30),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=4,
            )
            self._rich.start()
            self._task = self._rich.add_task("", total=self.total)
        self._rich.update(self._task, completed=self.done, description=line)
