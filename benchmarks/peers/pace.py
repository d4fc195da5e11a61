"""Lets another process decide when this one trains. Standard library only: every tool's environment can import it.

The arm calls `pace.step(images)` after each training step. Its parent writes a number of seconds to the arm's stdin and
gets one JSON line back when that time has been trained; in between the arm blocks in a read and takes no CPU. Where the
arm is to train for some minutes at one go, nothing is read: `Finished` comes when they are over.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any


class Finished(Exception):
    """The parent closed the pipe, or the minutes are over."""


class Pace:
    """Made at the very start of the process: it takes stdout for the reports and sends other output to stderr."""

    def __init__(self) -> None:
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._wanted = 0.0
        self._warm = True  # the step under way is not measured
        self._first = True
        self._start, self._images, self._steps = 0.0, 0, 0
        self._minutes: float | None = None
        self._all_images = 0

    def at_one_go(self, minutes: float | None) -> None:
        """Train for `minutes` after the first step; None: take turns."""
        self._minutes = minutes

    @property
    def progress(self) -> float:
        """Share of the minutes that is over; 0 when taking turns."""
        if self._minutes is None or self._first:
            return 0.0
        return min(1.0, (time.perf_counter() - self._start) / (60 * self._minutes))

    def step(self, images: int, **facts: Any) -> None:
        """One step over `images` source images is done; `facts` go into the report. Blocks between segments.

        Raises:
            Finished: no more segments.
        """
        self._all_images += images
        if self._minutes is not None:
            if self._first:
                self._first, self._start = False, time.perf_counter()
            elif self.progress >= 1.0:
                raise Finished
            return
        if self._first:
            self._first = False
            self.report(**facts)
        elif self._warm:  # the first step of a segment fills caches and takes what loaders had made ready
            self._warm = False
            self._start, self._images, self._steps = time.perf_counter(), 0, 0
            return
        else:
            self._images += images
            self._steps += 1
            seconds = time.perf_counter() - self._start
            if seconds < self._wanted:
                return
            self.report(images=self._images, steps=self._steps, seconds=seconds, **facts)
        line = sys.stdin.readline()
        if not line:
            raise Finished
        self._wanted, self._warm = float(line), True

    def report(self, **facts: Any) -> None:
        """A line to the parent."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        facts |= {"all_images": self._all_images, "peak_rss_bytes": peak}
        print(json.dumps(facts), file=self._reports, flush=True)
