"""The table of `swell watch`: in any width and encoding, with names that mean harm."""

import pytest

from swell.watching import Seen
from swell.watching_text import ASCII, BLOCKS, sparkline, table

FULL = Seen(
    run="runs/simclr-0",
    state="running",
    share=0.2468,
    step=1234,
    total_steps=5000,
    seconds=61.7,
    seconds_left=188.3,
    loss=1.23456,
    losses=[5.0 - 0.03 * i for i in range(100)],
    learning_rate=0.0012,
    samples_per_second=12345.6,
    memory_bytes=1_234_567_890,
    scores={"rankme": [10.0, 20.0, 41.23], "acr": [0.5, 0.25]},
    phase=2,
    phases=3,
    trains="generator",
)
MINUTES = Seen(
    "runs/timed", "finished", share=1.0, step=99, seconds=900.2, total_seconds=900, loss=0.5, losses=[1.0, 0.5]
)
BROKEN = Seen("runs/broken", "crashed", why="step 3: the weight encoder.conv1 is not finite")
NEW = Seen("runs/new", "starting")
ALL = [FULL, MINUTES, BROKEN, NEW]


def test_sparklines():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BLOCKS
    assert sparkline([7, 7, 0, 0], 2) == "█▁"
    assert sparkline([3.0] * 5, 9) == "▁▁▁▁▁"
    assert sparkline([], 9) == ""
    assert sparkline([1, 2, 4], 5, ASCII) == "_=@".replace("=", sparkline([1, 2, 4], 5, ASCII)[1])
    assert len(sparkline(list(range(1001)), 40)) == 40
    assert len(BLOCKS) == len(ASCII)


def test_names_are_told_apart_and_no_longer_than_they_must_be():
    def names(*runs):
        lines = table([Seen(run, "stopped") for run in runs], 80)
        return lines[0].partition(" in ")[2], [line.split()[0] for line in lines[2:]]

    assert names("/data/x/a/1", "/data/x/b/1") == ("/data/x", ["a/1", "b/1"])
    assert names("runs/a", "runs/a/adapt/c") == ("runs", ["a", "a/adapt/c"])
    assert names("a", "b/c") == ("", ["a", "b/c"])
    assert names("/a/b", "c/d") == ("", ["/a/b", "c/d"])
    assert names("/data/x/a/1") == ("", ["/data/x/a/1"])


def test_a_wide_terminal_shows_all():
    lines = table(ALL, 160)
    assert lines[0] == "1 starting, 1 running, 1 finished, 1 crashed in runs"
    assert lines[1].split() == ["run", "state", "done", "loss", "left", "samples/s", "memory", "lr"]
    for word in ("1,234/5,000 steps", "25 %", "1.235", "3:08", "12,346", "1.2 GB", "0.0012"):
        assert word in lines[2]
    assert "█" in lines[2]
    assert "▁" in lines[2]
    assert lines[3] == "  phase 2 of 3: generator  rankme 41.2 ▁▃█  acr 0.25 █▁"
    assert "15:00/15:00" in lines[4]
    assert lines[6].strip() == BROKEN.why
    assert lines[7].split() == ["new", "starting"]


@pytest.mark.parametrize("width", [1, 10, 20, 30, 40, 60, 80, 100, 120, 250])
def test_every_width_keeps_name_and_state_and_then_what_matters_most(width):
    lines = table(ALL, width)
    assert all(len(line) <= width for line in lines)
    if width >= 30:
        row = lines[2]
        assert "imclr-0" in row
        assert "running" in row
    if width >= 40:
        assert "1.235" in row
        assert "25 %" in row
    if width >= 80:
        assert "█" in row
        assert "3:08" in row
    if width >= 120:
        assert "12,346" in row
        assert "5,000 steps" in row


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "no such encoding"])
def test_encodings_without_blocks(encoding):
    lines = table([FULL, Seen("läufe/ü", "stopped")], 100, encoding)
    text = "\n".join(lines)
    assert not set(text) & (set(BLOCKS) - {"▄", "█"}) or encoding == "cp437"
    if encoding != "no such encoding":
        text.encode(encoding)
    assert "running" in text


def test_names_cannot_move_the_cursor_or_stop_the_table():
    lines = table([Seen("evil\x1b[2J\nrun\udcff", "crashed", why="a\x07b\x1b]0;x")], 100)
    text = "\n".join(lines)
    assert text.isprintable() or set(text) - {"\n"} <= {c for c in text if c.isprintable()}
    assert "evil?[2J?run?" in text
    text.encode("utf-8")


def test_a_short_terminal_shows_what_goes_on_first():
    runs = [Seen(f"run{i}", "finished", share=1.0) for i in range(30)] + [FULL]
    lines = table(runs, 100, height=10)
    assert len(lines) <= 10
    assert "simclr-0" in lines[2]
    assert lines[-1].startswith("and 25 more")
    assert len(table(runs, 100)) == 2 + 31 + 1
    assert table([], 80) == ["no runs yet"]
