"""Swell against what a user would pick instead, side by side: lightly, solo-learn, diffusers, faiss.

    python benchmarks/peers/race.py [--contests simclr byol barlow_twins swav samples neighbours] [--quick]

Images a second of training CIFAR-10 with ResNet-18 at one setting (setting.py), generated images a second, neighbours a
second. Every arm is a process of its own, in its tool's own environment, that works when it is told and blocks when it
is not. They take turns in short segments, so that a round compares neighbours in time; the first step of a turn is not
counted. A turn during which other processes took more than `--max-foreign` of a core (or the host took as much away) is
repeated, up to `--tries` times, and dropped if none was quiet. Rows are written as they come: a second start with the
same settings makes those that are missing. Environments are made with pip in `--envs` the first time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from contests import CONTESTS, arms_of  # noqa: E402
from environments import PACKAGES, default_folder, python_of  # noqa: E402
from runner import Arm, Runner  # noqa: E402
from setting import METHODS  # noqa: E402

from _common import ROOT, cifar10, commit, device_line, write_result  # noqa: E402
from swell.files import read_json, write_json  # noqa: E402

NAME, THREADS = "peers", "2 threads an arm"
FIRST_FLOPS = 0.1  # by how much the work of one evaluation of two U-Nets may differ


class Book:
    """Rows `contest/round/arm`, and what is known of each `contest/arm`, written after each; read again at a start."""

    def __init__(self, settings: dict[str, Any], path: Path | None) -> None:
        self.settings, self.path, self.seconds = settings, path, 0.0
        self.rows: dict[str, dict[str, Any]] = {}
        self.arms: dict[str, dict[str, Any]] = {}
        found = sorted((ROOT / "benchmarks" / "results").glob(f"20??-??-??-{NAME}/result.json"))
        if path is None and found and (earlier := read_json(found[-1]))["settings"] == settings:
            self.rows, self.arms, self.seconds = earlier["rows"], earlier["arms"], earlier["seconds"]
            for row in (*self.rows.values(), *self.arms.values()):  # rows of before they told it themselves
                row.setdefault("commit", earlier["commit"])
        self.begun = time.perf_counter()

    def forget(self, contests: list[str]) -> None:
        """Leave out what is there of these contests."""
        for kept in (self.rows, self.arms):
            for key in [key for key in kept if key.partition("/")[0] in contests]:
                del kept[key]

    def write(self) -> Path:
        result = {
            "device": device_line(THREADS),
            "settings": self.settings,
            "rows": self.rows,
            "arms": self.arms,
            "contests": (contests := summary(self.rows, self.arms)),
            "seconds": (seconds := self.seconds + time.perf_counter() - self.begun),
        }
        made_at = list(dict.fromkeys(row["commit"] for row in self.rows.values() if row["quiet"])) or [commit()]
        result["claim"] = claim_line(contests, seconds, made_at)
        if self.path is None:
            return write_result(NAME, result)
        write_json(self.path, {**result, "commit": commit()})
        return self.path


def run_contest(contest: str, arms: dict[str, Arm], book: Book, images: Path, args: argparse.Namespace) -> None:
    """Make the rows of a contest that are missing."""
    rounds = [r for r in range(args.rounds) if any(missing(book, contest, r, name) for name in arms)]
    if not rounds:
        return
    given = [str(images), *([f"--batch={args.batch}"] if contest in METHODS else [])]
    runners = []
    for name, arm in arms.items():
        if contest == "samples" and arm.peer == "swell":
            train_sampler(arm, images)
        runners.append(Runner.start(name, arm, python_of(arm.peer, args.envs), given))
        runners[-1].settle()
        say(f"{contest} {name}: first step after {runners[-1].start_up:.1f} s")
    for round_ in rounds:
        # Each round starts with another arm, so that no arm always follows the same neighbour.
        for runner in runners[round_ % len(runners) :] + runners[: round_ % len(runners)]:
            for _ in range(args.tries if missing(book, contest, round_, runner.name) else 0):
                row = {**runner.turn(args.seconds, args.max_foreign), "commit": commit()}
                runner.settle()
                book.rows[f"{contest}/{round_}/{runner.name}"] = row
                others = f"others {row['foreign']:.2f} + {row['stolen']:.2f} cores"
                say(f"{contest} {round_} {runner.name}: {row['rate']:.1f} a second, {others}")
                if row["quiet"]:
                    break
            book.write()
    for runner in runners:
        said = {key: value for key, value in runner.stop().items() if key not in ("all_images", "peak_rss_bytes")}
        book.arms[f"{contest}/{runner.name}"] = {
            "what": arms[runner.name].is_,
            "peer": arms[runner.name].peer,
            "on": arms[runner.name].on,
            "peak_bytes": runner.peak_bytes + runner.workers_bytes,
            "workers_bytes": runner.workers_bytes,
            "start_up_seconds": runner.start_up,
            "commit": commit(),
            **said,
        }
    check_equal(contest, {name: book.arms[f"{contest}/{name}"] for name in arms})
    book.write()


def train_sampler(arm: Arm, images: Path) -> None:
    """What the arm samples from; it costs the arm neither time nor memory, as a peer's network is not trained either."""
    command = [sys.executable, str(HERE / arm.script), str(images), *arm.switches, "--train"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True)


def missing(book: Book, contest: str, round_: int, name: str) -> bool:
    return not book.rows.get(f"{contest}/{round_}/{name}", {}).get("quiet", False)


def check_equal(contest: str, arms: dict[str, dict[str, Any]]) -> None:
    """Stop where the arms did not do the same work."""
    if contest in METHODS and len({(a["parameters"], a["forward_flops"]) for a in arms.values()}) > 1:
        raise SystemExit(f"{contest}: the nets of the arms are not the same: {arms}")
    if contest == "samples":
        flops = [a["forward_flops"] for a in arms.values()]
        if max(flops) > (1 + FIRST_FLOPS) * min(flops):
            raise SystemExit(f"samples: one evaluation takes {flops} FLOPs")
    if contest == "neighbours":
        first, *rest = (np.asarray(a.pop("found")) for a in arms.values())
        for found in rest:
            same = np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(first, found, strict=True)])
            if same < 0.99:
                raise SystemExit(f"neighbours: only {same:.1%} of them are the same")


def summary(rows: dict[str, Any], arms: dict[str, Any]) -> dict[str, Any]:
    """Per contest: each arm's rates, and Swell over each peer, round by round, as it comes and with all switches on.

    As they come, Swell is what it does unasked; against a peer with its switches on, the better of that and its own arm
    with switches on (the sampler in bfloat16). Of a peer's arms with switches on the best one counts.
    """
    out: dict[str, Any] = {}
    for contest in CONTESTS:
        known = {key.partition("/")[2]: arm for key, arm in arms.items() if key.startswith(f"{contest}/")}
        rates = {
            name: {
                int(key.split("/")[1]): row["rate"]
                for key, row in rows.items()
                if key.startswith(f"{contest}/") and key.endswith(f"/{name}") and row["quiet"]
            }
            for name in known
        }
        rates = {name: found for name, found in rates.items() if found}
        if "swell" not in rates:
            continue
        means = {name: statistics.fmean(found.values()) for name, found in rates.items()}
        ratios: dict[str, Any] = {}
        for peer in dict.fromkeys(arm["peer"] for arm in known.values() if arm["peer"] != "swell"):
            for on in (False, True):
                rivals = [n for n in rates if known[n]["peer"] == peer and known[n]["on"] == on]
                if not rivals:
                    continue
                own = [n for n in rates if known[n]["peer"] == "swell" and (on or n == "swell")]
                ours, best = max(own, key=means.__getitem__), max(rivals, key=means.__getitem__)
                each = [rates[ours][r] / rates[best][r] for r in rates[ours] if r in rates[best]]
                memory = known[ours]["peak_bytes"] / known[best]["peak_bytes"]
                start = known[ours]["start_up_seconds"] / known[best]["start_up_seconds"]
                ratios[f"{peer}{' on' if on else ''}"] = {
                    "arm": best,
                    "own": ours,
                    **spread(each),
                    "rounds": each,
                    "memory": memory,
                    "start_up": start,
                }
        out[contest] = {"rates": {name: spread(list(found.values())) for name, found in rates.items()},
                        "ratios": ratios}  # fmt: skip
    return out


def spread(values: list[float]) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values) if values else None, "sd": sd, "n": len(values)}


def claim_line(contests: dict[str, Any], seconds: float, commits: list[str]) -> str:
    told = []
    for contest, found in contests.items():
        rate = found["rates"]["swell"]
        over = []
        for peer, ratio in found["ratios"].items():
            if ratio["n"]:
                sd = "" if ratio["sd"] is None else f" +- {ratio['sd']:.2f}"
                over.append(f"{ratio['mean']:.2f}{sd} x {peer}")
        told.append(f"{contest} {rate['mean']:.3g} a second (n={rate['n']}), {', '.join(over)}")
    where = f"{device_line(THREADS)}, commit {' and '.join(commits)}"
    return f"race, ResNet-18, CIFAR-10: {'; '.join(told)}; {seconds:.0f} s, {where}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contests", nargs="+", choices=CONTESTS, default=list(CONTESTS), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="make the rows of these contests anew")
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help="arms to run instead of the usual ones")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every arm (default 3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a turn (default 8)")
    parser.add_argument("--batch", type=int, default=128, help="samples of a batch (default 128)")
    parser.add_argument("--envs", type=Path, default=default_folder(), help="folder of the peers' environments")
    parser.add_argument("--max-foreign", type=float, default=0.12, help="cores others may use (default 0.12)")
    parser.add_argument("--tries", type=int, default=3, help="times a turn that was not quiet is run (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="rehearse: 1 round of 1 s, batches of 32, whatever the load"
    )
    parser.add_argument("--install", action="store_true", help="make the environments and stop")
    args = parser.parse_args()
    path = None
    if args.quick:
        args.rounds, args.seconds, args.batch, args.max_foreign = 1, 1.0, 32, float("inf")
        path = Path(tempfile.gettempdir()) / "swell-peers-quick.json"
    if args.install:
        for peer in PACKAGES:
            python_of(peer, args.envs)
        return
    settings = {
        "rounds": args.rounds,
        "seconds": args.seconds,
        "batch": args.batch,
        "most_foreign_cores": args.max_foreign if args.max_foreign < float("inf") else None,
        "packages": {peer: [*wanted, *bare] for peer, (wanted, bare) in PACKAGES.items()},
        "data": "CIFAR-10 train, 50,000 images 32x32",
        "network": "ResNet-18, 3x3 stem without max-pooling",
    }
    book = Book(settings, path)
    if args.again:
        book.forget(args.contests)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "cifar10.npy"
        np.save(images, cifar10("train")[0])
        for contest in args.contests:
            run_contest(contest, arms_of(contest, args.arms), book, images, args)
    written = book.write()
    print(f"{read_json(written)['claim']}\n{written}")


if __name__ == "__main__":
    main()
