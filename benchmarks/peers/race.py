"""SimCLR by Swell against SimCLR by lightly, side by side: source images a second on CIFAR-10, ResNet-18, batch 256.

    python benchmarks/peers/race.py [--rounds 3] [--seconds 25] [--env DIR] [--arms NAME ...] [--name race-lightly]

Every arm is a process of its own that trains when it is told and blocks when it is not. They take turns in short
segments, so that a round compares neighbours in time. A segment during which other processes took more than
`--max-foreign` of a core (or the host took as much away) is repeated, up to `--tries` times, and dropped if none was
quiet. lightly's environment is made with pip in `--env` the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from _common import ROOT, Load, cifar10, claim, device_line, tree_seconds, write_result  # noqa: E402

LIGHTLY = "lightly==1.6.0"
THREADS = "2 threads an arm"
SETTLED = 0.02  # cores a process tree may still use and count as waiting


@dataclass(frozen=True)
class Arm:
    """A contestant: which script, with which switches, and what to say about it."""

    script: str
    switches: tuple[str, ...]
    is_: str


ARMS = {
    "swell": Arm("swell_simclr.py", (), "swell.pretrain as the command line starts it: precision auto, threads bound"),
    "lightly-fp32-w0": Arm("lightly_simclr.py", (), "lightly as it comes, fp32, NCHW, threads unbound, no workers"),
    "lightly-fp32-w2": Arm("lightly_simclr.py", ("--workers=2",), "the same with 2 workers"),
    "lightly-bf16-w0": Arm(
        "lightly_simclr.py",
        ("--bf16", "--bound"),
        "lightly with bf16 autocast, channels_last and bound threads, no workers",
    ),
    "lightly-bf16-w2": Arm(
        "lightly_simclr.py",
        ("--bf16", "--workers=2"),
        "lightly with bf16 autocast and channels_last, threads unbound, 2 workers",
    ),
    "lightly-bf16-w0-unbound": Arm("lightly_simclr.py", ("--bf16",), "lightly-bf16-w0 with threads unbound"),
    "lightly-bf16-w2-bound": Arm(
        "lightly_simclr.py",
        ("--bf16", "--workers=2", "--bound"),
        "lightly-bf16-w2 with bound threads; the workers use all cores",
    ),
    "lightly-fp32-w0-bound": Arm("lightly_simclr.py", ("--bound",), "lightly-fp32-w0 with bound threads"),
}
DEFAULT = ("swell", "lightly-fp32-w0", "lightly-fp32-w2", "lightly-bf16-w0", "lightly-bf16-w2")


@dataclass
class Segment:
    """What one turn of an arm gave; rates are source images a second, loads are cores."""

    arm: str
    round: int
    attempt: int
    images: int
    seconds: float
    rate: float
    own_cores: float
    foreign: float
    stolen: float
    quiet: bool


@dataclass
class Runner:
    """The process of an arm."""

    name: str
    process: subprocess.Popen[str]
    start_up: float  # seconds from the start of the process to the end of its first training step
    peak_rss_bytes: int = 0
    workers_rss_bytes: int = field(default=0)

    @classmethod
    def start(cls, name: str, python: Path, images: Path) -> Runner:
        """Start the arm and wait for its first step."""
        arm = ARMS[name]
        # OMP_* of the caller would decide for the arms; each is to have its own tool's way.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "SWELL_CORES"))}
        environment["PYTHONPATH"] = str(ROOT / "src") if arm.script.startswith("swell") else ""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(python), str(HERE / arm.script), str(images), *arm.switches],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        runner = cls(name, process, 0.0)
        runner._report()
        runner.start_up = time.perf_counter() - begun
        return runner

    def run(self, seconds: float, round_: int, attempt: int, most_foreign: float) -> Segment:
        assert self.process.stdin is not None
        load, own = Load(), sum(tree_seconds(self.process.pid).values())
        begun = time.perf_counter()
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        report = self._report()
        own_cores = (sum(tree_seconds(self.process.pid).values()) - own) / (time.perf_counter() - begun)
        others = load.read()
        busy = max(others["foreign"], others["stolen"])  # NaN, where nothing can be known, counts as quiet
        return Segment(
            self.name,
            round_,
            attempt,
            report["images"],
            report["seconds"],
            report["images"] / report["seconds"],
            own_cores,
            others["foreign"],
            others["stolen"],
            not busy > most_foreign,
        )

    def settle(self) -> None:
        """Wait until the arm and its loaders have filled their queues and block."""
        while True:
            before = sum(tree_seconds(self.process.pid).values())
            time.sleep(0.5)
            if sum(tree_seconds(self.process.pid).values()) - before <= SETTLED * 0.5:
                return

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _report(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; its output is above")
        report: dict[str, Any] = json.loads(line)
        self.peak_rss_bytes = report["peak_rss_bytes"]
        workers = [pid for pid in tree_seconds(self.process.pid) if pid != self.process.pid]
        self.workers_rss_bytes = max(self.workers_rss_bytes, sum(map(_peak_rss, workers)))
        return report


def _peak_rss(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("VmHWM", "0 kB").split()[0]) * 1024


def lightly_environment(folder: Path) -> Path:
    """The Python of an environment with lightly and the torch this repository pins; made the first time."""
    python = folder / "bin" / "python"
    marker = folder / f".{LIGHTLY}"
    if not marker.exists():
        print(f"installing {LIGHTLY} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", LIGHTLY], check=True
        )
        marker.touch()
    return python


def race(
    names: Sequence[str],
    pythons: dict[str, Path],
    images: Path,
    args: argparse.Namespace,
) -> tuple[list[Segment], list[Runner]]:
    """All segments of all rounds, the loud ones among them."""
    runners, segments = [], []
    for name in names:
        runners.append(Runner.start(name, pythons[ARMS[name].script], images))
        runners[-1].settle()
        print(f"{name}: first step after {runners[-1].start_up:.1f} s", file=sys.stderr)
    for round_ in range(args.rounds):
        # Each round starts with another arm, so that no arm always follows the same neighbour.
        for runner in runners[round_ % len(runners) :] + runners[: round_ % len(runners)]:
            for attempt in range(args.tries):
                segments.append(runner.run(args.seconds, round_, attempt, args.max_foreign))
                runner.settle()
                s = segments[-1]
                print(
                    f"round {round_} {s.arm}: {s.rate:.1f} images/s, others {s.foreign:.2f} + {s.stolen:.2f} cores"
                    f"{'' if s.quiet else ', not quiet'}",
                    file=sys.stderr,
                )
                if s.quiet:
                    break
    for runner in runners:
        runner.stop()
    return segments, runners


def summary(segments: list[Segment], runners: list[Runner]) -> dict[str, Any]:
    """Per arm: the quiet rates, their median and spread, memory and start-up."""
    out = {}
    for runner in runners:
        rates = {s.round: s.rate for s in segments if s.arm == runner.name and s.quiet}
        values = list(rates.values())
        out[runner.name] = {
            "what": ARMS[runner.name].is_,
            "rates": rates,
            "median": statistics.median(values) if values else None,
            "least": min(values, default=None),
            "most": max(values, default=None),
            "peak_rss_bytes": runner.peak_rss_bytes,
            "workers_peak_rss_bytes": runner.workers_rss_bytes,
            "start_up_seconds": runner.start_up,
        }
    return out


def ratio(arms: dict[str, Any], prefix: str) -> dict[str, Any] | None:
    """Swell over the best arm whose name starts with `prefix`: of the medians, and round by round."""
    rivals = [name for name in arms if name.startswith(prefix) and arms[name]["median"]]
    if "swell" not in arms or not arms["swell"]["median"] or not rivals:
        return None
    best = max(rivals, key=lambda name: arms[name]["median"])
    ours, theirs = arms["swell"]["rates"], arms[best]["rates"]
    rounds = [ours[r] / theirs[r] for r in ours if r in theirs]
    return {
        "rival": best,
        "of_medians": arms["swell"]["median"] / arms[best]["median"],
        "rounds": rounds,
        "least": min(rounds, default=None),
        "most": max(rounds, default=None),
    }


def table(arms: dict[str, Any], segments: list[Segment]) -> str:
    lines = [
        f"{'arm':26s} {'img/s':>7s} {'least':>7s} {'most':>7s} {'n':>2s} {'peak GiB':>9s} {'start s':>8s} "
        f"{'others, cores':>14s}"
    ]
    for name, arm in arms.items():
        loads = [s.foreign + s.stolen for s in segments if s.arm == name and s.quiet]
        if arm["median"] is None:
            lines.append(f"{name:26s} no quiet segment")
            continue
        memory = (arm["peak_rss_bytes"] + arm["workers_peak_rss_bytes"]) / 2**30
        lines.append(
            f"{name:26s} {arm['median']:7.1f} {arm['least']:7.1f} {arm['most']:7.1f} {len(loads):2d} "
            f"{memory:9.2f} {arm['start_up_seconds']:8.1f} {max(loads):14.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of every arm (default 3)")
    parser.add_argument("--seconds", type=float, default=25.0, help="length of a turn (default 25)")
    parser.add_argument(
        "--env",
        type=Path,
        default=Path(tempfile.gettempdir()) / "swell-peer-lightly",
        help="folder of lightly's environment (default in the temporary folder)",
    )
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=list(DEFAULT),
        metavar="NAME",
        help=f"arms to run (of {', '.join(ARMS)}; default the first five)",
    )
    parser.add_argument(
        "--max-foreign", type=float, default=0.12, help="cores others may use in a segment (default 0.12)"
    )
    parser.add_argument("--tries", type=int, default=4, help="times a segment that was not quiet is run (default 4)")
    parser.add_argument("--name", default="race-lightly", help="name of the result")
    args = parser.parse_args()
    begun = time.perf_counter()
    pythons = {"swell_simclr.py": Path(sys.executable)}
    if any(ARMS[name].script.startswith("lightly") for name in args.arms):
        pythons["lightly_simclr.py"] = lightly_environment(args.env)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "cifar10.npy"
        np.save(images, cifar10("train")[0])
        segments, runners = race(args.arms, pythons, images, args)
    arms = summary(segments, runners)
    ratios = {"as_it_comes": ratio(arms, "lightly-fp32"), "bf16_channels_last": ratio(arms, "lightly-bf16")}
    print(table(arms, segments))
    line = tell(arms, ratios, time.perf_counter() - begun)
    path = write_result(
        args.name,
        {
            "claim": line,
            "device": device_line(THREADS),
            "arms": arms,
            "ratios": ratios,
            "segments": [asdict(s) for s in segments],
            "rounds": args.rounds,
            "seconds_per_segment": args.seconds,
            "most_foreign_cores": args.max_foreign,
            "lightly": LIGHTLY,
            "data": "CIFAR-10 train, 50,000 images 32x32",
            "network": "ResNet-18, 3x3 stem, projector 512-128, batch 256",
        },
    )
    print(f"{line}\n{path.relative_to(ROOT)}")


def tell(arms: dict[str, Any], ratios: dict[str, Any], seconds: float) -> str:
    """The claim line."""
    ours = list(arms.get("swell", {}).get("rates", {}).values())
    if not ours:
        return "no quiet segment of swell: nothing to claim"
    told = [
        f"{r['of_medians']:.2f}x {r['rival']} (rounds {r['least']:.2f} to {r['most']:.2f})"
        for r in ratios.values()
        if r and r["rounds"]
    ]
    sd = statistics.stdev(ours) if len(ours) > 1 else None
    return claim(
        "SimCLR, ResNet-18, batch 256, CIFAR-10",
        statistics.mean(ours),
        sd,
        len(ours),
        seconds,
        "source images/s",
        "; ".join(told),
        THREADS,
    )


if __name__ == "__main__":
    main()
