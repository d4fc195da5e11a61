"""`swell watch`: runs as they go, in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swell.commands import Result
from swell.errors import InputError
from swell.options import argument, option

if TYPE_CHECKING:
    from rich.text import Text

    from swell.watching import Seen

COLOURS = {"starting": "cyan", "running": "cyan", "finished": "green", "stopped": "yellow", "crashed": "red"}


@dataclass(frozen=True)
class Watch:
    """Show how runs are getting on: loss, speed, time left, memory, scores; in a terminal until all have ended."""

    runs: Sequence[str] = argument("RUN folders, or folders that hold runs", nargs="+")
    every: float = option("seconds between looks", 2.0)
    once: bool = option("look once and end, as without a terminal", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.watching import find_runs, look
        from swell.watching_text import table

        if not 0.1 <= self.every <= 3600:
            raise InputError(f"--every {self.every:g}", "seconds from 0.1 to 3600", "2 is usual")
        seen = [look(run) for run in find_runs(self.runs)]
        if not (self.once or self.json_) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            seen = self._live(seen)
        if not seen:
            raise InputError(" ".join(self.runs), "runs in it", "give what --out of swell pretrain was")
        width = shutil.get_terminal_size((120, 24)).columns
        result = {"runs": [run.to_dict() for run in seen]}
        return result, "\n".join(table(seen, width, sys.stdout.encoding or "ascii"))

    def _live(self, seen: list[Seen]) -> list[Seen]:
        """Look again and again until all runs have ended, or Ctrl-C; returns what was seen last."""
        from rich.live import Live

        from swell.watching import ENDED, find_runs, look

        try:
            with Live(auto_refresh=False, transient=True) as display:
                while not seen or any(run.state not in ENDED for run in seen):
                    display.update(_drawn(seen, display.console.width, display.console.height), refresh=True)
                    time.sleep(self.every)
                    seen = [look(run) for run in find_runs(self.runs)]
        except KeyboardInterrupt:  # how a person leaves
            return seen
        return seen


def _drawn(seen: Sequence[Seen], width: int, height: int) -> Text:
    """The table with its states in colour, unless NO_COLOR, which rich heeds."""
    from rich.text import Text

    from swell.watching_text import table

    lines = table(seen, width, sys.stdout.encoding or "ascii", height - 1)
    text = Text("\n".join(lines), no_wrap=True, overflow="crop")
    for state, colour in COLOURS.items():
        text.highlight_regex(rf"(?m)(?<=  ){state}(?=  |\s*$)", colour)
    return text
