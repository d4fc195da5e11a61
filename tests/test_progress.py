"""The line a person sees while waiting: in wide and narrow terminals, and in a log that must not grow without end."""

import io
import os
import re
import struct
import subprocess
import sys
from itertools import pairwise

import pytest

from swell import console
from swell.console import Progress, fitted, size

BAR = """
import time
from swell import console
now = [0.0]
console.time.monotonic = lambda: now[0]
with console.Progress("pre-train", 1000, "steps", per_unit=256, rate_unit="samples") as bar:
    for i in range(1, 30):
        now[0] += 2.0
        bar.update(10 * i, f"loss {i / 7:.3f}", memory=1.5e9)
        time.sleep(0.01)
        bar._rich and bar._rich.refresh()
"""
TOLD = {
    "title": "pre-train",
    "count": "290/1,000 steps",
    "rate": "1,280 samples/s",
    "left": "2:22 left",
    "note": "loss 4.1",
    "memory": "1.5 GB",
}


def drawn(columns, **variables):
    """What the bar says in a terminal so wide."""
    pty, fcntl, termios = (
        pytest.importorskip(name, reason="needs pseudo-terminals") for name in ("pty", "fcntl", "termios")
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    }
    env |= {"TERM": "xterm-256color", **variables}
    process = subprocess.Popen([sys.executable, "-c", BAR], stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # how Linux tells of the end
        pass
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 200])
def test_it_stays_one_line_in_every_terminal(columns):
    said = drawn(columns)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert plain.rstrip().count("\n") == 0  # one in the end, when it goes away
    frames = [frame.rstrip() for frame in plain.split("\r") if frame.strip()]
    assert len(frames) > 5
    assert max(map(len, frames)) <= columns
    assert "loss" in plain
    assert ("left" in plain) == (columns >= 40)
    assert ("GB" in plain) == (columns >= 120)


def test_a_dumb_terminal_gets_plain_lines():
    said = drawn(80, TERM="dumb")
    assert "\x1b" not in said
    assert said.splitlines()[0] == "  5 %  pre-train  50/1,000 steps  1,280 samples/s  3:10 left  loss 0.714  1.5 GB"
    assert len(said.splitlines()) == 5


def test_what_is_dropped_first():
    whole = "  ".join(TOLD.values())
    assert fitted(TOLD, len(whole)) == whole
    assert fitted(TOLD, len(whole) - 1) == whole.removesuffix("  1.5 GB")
    assert fitted(TOLD, 45) == "1,280 samples/s  2:22 left  loss 4.1"
    assert fitted(TOLD, 20) == "2:22 left  loss 4.1"
    assert fitted(TOLD, 3) == "loss 4.1"


def test_a_log_of_days_stays_short(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    times = []
    with Progress("long", 3 * 86400, "s", rate_unit="") as bar:
        for second in range(5, 3 * 86400, 5):
            now[0] = float(second)
            before = len(sys.stderr.getvalue())
            bar.update(second, "loss 1.0", rate=512.0, memory=3e8)
            times += [second] * (len(sys.stderr.getvalue()) > before)
    assert times[:3] == [10, 20, 30]
    assert max(b - a for a, b in pairwise(times)) <= 305
    assert len(times) < 1200
    last = sys.stderr.getvalue().splitlines()[-1]
    assert re.search("512 samples/s  .* left  loss 1.0  300 MB$", last)


def test_sizes():
    assert [size(n) for n in (5e5, 8.5e8, 1.24e9, 3e12)] == ["0 MB", "850 MB", "1.2 GB", "3,000.0 GB"]
