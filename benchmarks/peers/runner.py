"""Arms that take turns: each is a process that trains when it is told and blocks when it is not."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import ROOT, Load, tree_seconds

HERE = Path(__file__).resolve().parent
SETTLED = 0.02  # cores a process tree may still use and count as waiting


@dataclass(frozen=True)
class Arm:
    """A contestant: whose it is, which script with which switches, and whether these are all its tool offers."""

    peer: str
    script: str
    switches: tuple[str, ...]
    on: bool
    is_: str


@dataclass
class Runner:
    """The process of an arm."""

    name: str
    process: subprocess.Popen[str]
    start_up: float  # seconds from the command to the end of the first training step
    peak_bytes: int = 0  # the process's peak of resident memory
    workers_bytes: int = 0  # what its workers hold alone, at most
    said: dict[str, Any] = field(default_factory=dict)  # its last report

    @classmethod
    def start(cls, name: str, arm: Arm, python: Path, arguments: list[str]) -> Runner:
        """Start the arm and wait for its first step."""
        # OMP_* of the caller would decide for the arms; each is to have its own tool's way.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "SWELL_CORES"))}
        environment["PYTHONPATH"] = str(ROOT / "src") if arm.peer == "swell" else ""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(python), str(HERE / arm.script), *arguments, *arm.switches],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        runner = cls(name, process, 0.0)
        runner.hear()
        runner.start_up = time.perf_counter() - begun
        return runner

    def turn(self, seconds: float, most_foreign: float) -> dict[str, Any]:
        """A turn of that length: images, seconds, rate, the load of others, and whether it was quiet."""
        assert self.process.stdin is not None
        load, own = Load(), sum(tree_seconds(self.process.pid).values())
        begun = time.perf_counter()
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        report = self.hear()
        own_cores = (sum(tree_seconds(self.process.pid).values()) - own) / (time.perf_counter() - begun)
        others = load.read()
        busy = max(others["foreign"], others["stolen"])  # NaN, where nothing can be known, counts as quiet
        return {
            "images": report["images"],
            "seconds": report["seconds"],
            "rate": report["images"] / report["seconds"],
            "own_cores": own_cores,
            **others,
            "quiet": not busy > most_foreign,
        }

    def settle(self) -> None:
        """Wait until the arm and its loaders have filled their queues and block."""
        while True:
            before = sum(tree_seconds(self.process.pid).values())
            time.sleep(0.5)
            if sum(tree_seconds(self.process.pid).values()) - before <= SETTLED * 0.5:
                return

    def stop(self) -> dict[str, Any]:
        """End the arm; what it says last."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = self.hear()
        self.process.wait()
        return said

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; its output is above")
        self.said = json.loads(line)
        self.peak_bytes = self.said["peak_rss_bytes"]
        workers = [pid for pid in tree_seconds(self.process.pid) if pid != self.process.pid]
        self.workers_bytes = max(self.workers_bytes, sum(map(_held_alone, workers)))
        return self.said


def _held_alone(pid: int) -> int:
    """Bytes that are this process's only: pages a worker shares with its parent are the parent's."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended since
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
