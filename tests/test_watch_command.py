"""`swell watch` as a process: in a terminal, in a pipe, and never a byte in a run's folder."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from swell.cli import main

pty = pytest.importorskip("pty", reason="needs a system with pseudo-terminals")
import fcntl  # noqa: E402
import struct  # noqa: E402
import termios  # noqa: E402

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


@pytest.fixture
def runs(tmp_path):
    for name, done in (("one", True), ("two", False)):
        out = tmp_path / "runs" / name
        out.mkdir(parents=True)
        (out / "recipe.toml").write_text("steps = 20\n")
        lines = [json.dumps({"step": i, "loss": 3.0 - i / 10, "seconds": i + 1.0}) + "\n" for i in range(10)]
        (out / "metrics.jsonl").write_text("".join(lines))
        if done:
            (out / "encoder.safetensors").touch()
    return tmp_path / "runs"


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, *argv, columns=100, rows=24, **variables):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
        }
        env |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **variables}
        before = signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a shell's background jobs ignore it, and so would children
        try:
            self.process = subprocess.Popen(
                argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
            )
        finally:
            signal.signal(signal.SIGINT, before)
        os.close(theirs)
        self.ours, self.said = ours, ""

    def read(self, until=None, seconds=30):
        """What it says, until a pattern shows up, or the end."""
        give_up = time.monotonic() + seconds
        while until is None or not re.search(until, self.said):
            assert time.monotonic() < give_up, self.said
            if not select.select([self.ours], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(self.ours, 65536)
            except OSError:  # how Linux tells of the end
                piece = b""
            if not piece:
                break
            self.said += piece.decode("utf-8", "replace")
        return self.said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def watching(*argv, **how):
    return Terminal(sys.executable, "-m", "swell", "watch", *map(str, argv), "--every", "0.1", **how)


def test_it_goes_on_until_all_have_ended_and_leaves_the_last_look(runs):
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    with watching(runs) as shown:
        shown.read(rf"two +({COLOUR.pattern})?running")
        assert COLOUR.search(shown.said)
        assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
        late = runs / "three"
        late.mkdir()
        (late / "recipe.toml").write_text("steps = 5\n")
        shown.read(rf"three +({COLOUR.pattern})?starting")
        for name in ("two", "three"):
            (runs / name / "encoder.safetensors").touch()
        shown.read()
        assert shown.process.wait() == 0
    last = shown.said[shown.said.rindex("3 finished") :]
    assert [line.split()[:2] for line in last.splitlines()[2:]] == [
        [name, "finished"] for name in ("one", "three", "two")
    ]


def test_control_c_leaves_without_a_complaint_and_no_color_is_heeded(runs):
    with watching(runs, columns=60, NO_COLOR="1") as shown:
        shown.read("running")
        shown.process.send_signal(signal.SIGINT)
        shown.read()
        assert shown.process.wait() == 0
    assert "▁" in shown.said
    assert not COLOUR.search(shown.said)
    assert "Traceback" not in shown.said


def test_a_pipe_gets_one_look_in_its_encoding(runs):
    argv = [sys.executable, "-m", "swell", "watch", runs.name]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(argv, capture_output=True, cwd=runs.parent, env=env, check=True, timeout=60)
    text = done.stdout.decode("ascii")
    assert text.splitlines()[0] == "1 running, 1 finished in runs"  # by its short name: 80 columns are shown
    assert "@" in text
    assert b"\x1b" not in done.stdout
    assert done.stderr == b""


def test_json_and_once(runs, capsys):
    assert main(["watch", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["state"], run["step"]) for run in told] == [("finished", 10), ("running", 10)]
    assert main(["watch", str(runs / "one"), "--once"]) == 0
    assert "one" in capsys.readouterr().out
    for argv, says in (([str(runs / "none")], "RUN folder"), ([str(runs), "--every", "0"], "0.1")):
        assert main(["watch", *argv]) == 2
        assert says in capsys.readouterr().err
    (runs / "empty").mkdir()
    assert main(["watch", str(runs / "empty")]) == 2


def test_it_starts_without_torch(runs):
    code = f"import sys; from swell.cli import main; main(['watch', {str(runs)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("False\n")
