"""Tasks in processes of their own: results, errors as they were, and none that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swell.errors import InputError
from swell.suites.processes import in_processes


def work(task: str) -> str:
    """What is asked of a process; picked up by name there."""
    if task == "refuse":
        raise InputError("it", "something else", "try again")
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fail":
        raise ValueError("our fault")
    return task.upper()


def test_results_come_as_tasks_end():
    found = dict(pair for pair in in_processes(work, ["a", "b"], together=2, threads=1) if pair)
    assert found == {"a": "A", "b": "B"}


@pytest.mark.parametrize(
    ("task", "kind", "says"),
    [
        ("refuse", InputError, "^it: expected something else; try again$"),
        ("die", InputError, "ended from outside .status -9.*fewer --workers"),
        ("fail", RuntimeError, "ValueError: our fault"),
    ],
)
def test_what_a_task_raises_is_raised_here(task, kind, says):
    with pytest.raises(kind, match=says):
        list(in_processes(work, [task], together=1, threads=1))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_parent_takes_its_tasks_along(tmp_path):
    (tmp_path / "parent.py").write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom swell.suites.processes import in_processes\n"
        "def wait(place):\n    Path(place).write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(in_processes(wait, [sys.argv[1]], 1, 1))\n"
    )
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path / "pid"])
    until = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    task = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{task}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(task, 0)
