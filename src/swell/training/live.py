"""RUN/live.json: where a run stands between two lines of its log, for `swell watch`. A finished run has none."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from swell.errors import InputError
from swell.files import write_json
from swell.ledger import peak_memory

FILE = "live.json"
EVERY = 10.0  # seconds between two beats: writing one takes milliseconds


class Live:
    """`with Live(out) as live: live.begin(...); live.beat(...)`; how the block ends is how the run ended.

    A run that is killed outright leaves "running" behind, and no more beats. Nothing is written before `begin`, so a
    resume that is refused leaves the folder as it was.
    """

    def __init__(self, out: Path, writes: bool = True) -> None:
        self.path, self.writes = out / FILE, writes  # of several processes the first writes
        self._told: dict[str, Any] = {"state": "running"}
        self._last = (0, 0.0)  # step and training seconds at the last beat
        self._next = 0.0
        self._begun = False

    def begin(self, step: int, seconds: float, total_steps: int | None, total_seconds: float) -> None:
        """At `step`, after `seconds` of training. The budget is `total_steps`, or where there are none the seconds."""
        self._last, self._begun = (step, seconds), True
        budget = {"total_steps": total_steps} if total_steps else {"total_seconds": total_seconds}
        self._write(step=step, seconds=round(seconds, 3), **budget)

    def beat(self, step: int, seconds: float, batch: int, loss: float, learning_rate: float) -> None:
        """After `step` steps of `batch` samples, in so many `seconds`; written every now and then."""
        if time.monotonic() < self._next:
            return
        steps, passed = step - self._last[0], seconds - self._last[1]
        self._last = (step, seconds)
        self._write(
            step=step,
            seconds=round(seconds, 3),
            loss=loss,
            learning_rate=learning_rate,
            samples_per_second=round(steps * batch / passed, 1) if steps > 0 and passed > 0 else None,
        )

    def _write(self, **told: Any) -> None:
        self._told |= {**told, "memory_bytes": peak_memory()}
        if self.writes:
            write_json(self.path, self._told)
        self._next = time.monotonic() + EVERY

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self.writes:
            if self.writes:
                self.path.unlink(missing_ok=True)
            return
        if not self._begun:
            return
        stopped = isinstance(error, KeyboardInterrupt)
        why = "" if stopped else " ".join((str(error) or type(error).__name__).split())[:300]
        try:
            self._write(state="stopped" if stopped else "crashed", why=why)
        except (InputError, OSError):  # a full disk may be what ended the run: the first error is the one to tell
            return
