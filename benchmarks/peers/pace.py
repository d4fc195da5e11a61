"""Lets another process decide when this one trains. Standard library only: every tool's environment can import it.

The arm calls `pace.step(images)` after each training step. Its parent writes a number of seconds to the arm's stdin and
gets one JSON line back when that time has been trained; in between the arm blocks in a read and takes no CPU.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any


class Finished(Exception):
    """The parent closed the pipe."""


class Pace:
    """Made at the very start of the process: it takes stdout for the reports and sends other output to stderr."""

    def __init__(self) -> None:
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._wanted = 0.0
        self._warm = True  # the step under way is not measured
        self._first = True
        self._start, self._images, self._steps = 0.0, 0, 0

    def step(self, images: int, **facts: Any) -> None:
        """One step over `images` source images is done; `facts` go into the report. Blocks between segments.

        Raises:
            Finished: no more segments.
        """
        if self._first:
            self._first = False
            self._report(**facts)
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
            self._report(images=self._images, steps=self._steps, seconds=seconds, **facts)
        line = sys.stdin.readline()
        if not line:
            raise Finished
        self._wanted, self._warm = float(line), True

    def _report(self, **facts: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**facts, "peak_rss_bytes": peak}), file=self._reports, flush=True)
