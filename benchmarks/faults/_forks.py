"""Commands in processes forked from one that has torch loaded: quick to start, and stopped at a chosen change of a file.

`python _forks.py` reads one order a line, as JSON, and answers each with a line. Before change number `change`
below its folder (a file opened for writing, renamed, removed or linked; a folder made or removed) the command gets a
`signal`: SIGKILL leaves what a kill in just this moment leaves, SIGSTOP a process that lives but does nothing.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from _scenes import environment

HEAVY = ("swell.verbs", "swell.adapting", "swell.evaluating", "swell.generators.generate", "swell.report.run_page",
         "swell.report.gen_page", "swell.report.adapt_page", "swell.report.compare_page", "pyarrow.parquet")  # fmt: skip
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR
JUMPS = (0.0, 4e7, -4e7, 9e8)  # seconds that the clock is wrong by, a different one at each look


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, negative for a signal, what it said, and how many changes it made."""

    status: int
    told: str
    changes: int
    stopped: int = 0  # the process, where it was stopped and not ended

    @property
    def refusals(self) -> list[str]:
        """The lines that say what is wrong."""
        return [line for line in self.told.splitlines() if line.startswith("swell: ")]


class Forks:
    """`with Forks(work) as forks: forks.run(folder, argv)`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(work),
        )

    def run(self, at: Path, argv: tuple[str, ...], **order: Any) -> Ended:
        """The command in the folder `at`. `order`: change and signal, see above; limit, the largest file it may write, in
        bytes; clock, whether the time of day jumps."""
        said = self.work / f"said-{time.monotonic_ns()}"
        answer = self._ask({"folder": str(at), "argv": list(argv), "said": str(said), **order})
        told = said.with_suffix(".err").read_text(errors="replace")
        count = said.with_suffix(".count")
        changes = int(count.read_text()) if count.exists() else 0
        for path in self.work.glob(f"{said.name}.*"):
            path.unlink()
        return Ended(answer["status"], told, changes, answer["stopped"])

    def end(self, stopped: int) -> None:
        """Kill a command that was stopped."""
        self._ask({"kill": stopped})

    def _ask(self, order: dict[str, Any]) -> dict[str, int]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        answer: dict[str, int] = json.loads(self._server.stdout.readline())
        return answer

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate("")


def serve() -> None:
    for name in HEAVY:
        __import__(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "kill" in order:
            os.kill(order["kill"], signal.SIGKILL)
            os.waitpid(order["kill"], 0)
            answer = {"status": 0, "stopped": 0}
        else:
            child = os.fork()
            if child == 0:
                be(order)
            _, status = os.waitpid(child, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                answer = {"status": 0, "stopped": child}
            else:
                answer = {"status": os.waitstatus_to_exitcode(status), "stopped": 0}
        print(json.dumps(answer), flush=True)


def be(order: dict[str, Any]) -> None:
    """In the forked process: become the command, and never return."""
    status = 1
    changes = Changes(order)
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, ending in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(order["said"] + ending, os.O_WRONLY | os.O_CREAT, 0o666), number)
        os.chdir(order["folder"])
        if order.get("clock"):
            jump()
        if limit := order.get("limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from swell.cli import main

        sys.addaudithook(changes)
        status = main(order["argv"])
    except BaseException:  # whatever it is, it belongs to what the command said
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        changes.note()
        os._exit(status)


class Changes:
    """An audit hook that counts the changes below the command's folder."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.folder, self.said = order["folder"], order["said"]
        self.change, self.signal = order.get("change"), order.get("signal", signal.SIGKILL)
        self.count, self.done = 0, False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.done or not (event in CHANGES or (event == "open" and _writes(args))):
            return
        place = args[0]
        if isinstance(place, int) or not os.path.abspath(os.fsdecode(place)).startswith(self.folder + os.sep):
            return
        if self.count == self.change:
            self.note()
            os.kill(os.getpid(), self.signal)
        self.count += 1

    def note(self) -> None:
        self.done = True  # this file is none of the command's
        Path(self.said + ".count").write_text(str(self.count))
        self.done = False


def _writes(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)


def jump() -> None:
    """From now on the time of day is another one at every look; clocks that only go forward are not touched."""
    right, looks = time.time_ns, iter(range(1 << 62))

    def wrong() -> int:
        return right() + int(1e9 * JUMPS[next(looks) % len(JUMPS)])

    time.time_ns = wrong
    time.time = lambda: wrong() / 1e9


if __name__ == "__main__":
    serve()
