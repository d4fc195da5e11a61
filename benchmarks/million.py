"""Does sampling survive kills, give the same bytes however it is split, and keep its memory flat?

    python benchmarks/million.py [--count 100000] [--kills 5] [--data builtin:fashion-mnist]

Three sets of the same settings: undisturbed; killed (SIGKILL) at random moments and started again each time; and shared
by two processes. All shards must be equal byte for byte. The resident memory of the undisturbed process is read after
10,000 samples and at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import claim, resident, write_result
from swell.files import read_json, sha256_of

OPTIONS = "width=256,depth=2"


def start(out: Path, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "swell", "generate", args.data, "--out", str(out), "--count", str(args.count)]
    command += ["--network", "pca_mlp", "--steps", "300", "--options", OPTIONS, "--device", "cpu"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def shards(out: Path) -> int:
    return len(list(out.with_name(f"{out.name}.unfinished").glob("shard-*.npz")))


def undisturbed(out: Path, args: argparse.Namespace) -> tuple[float, list[tuple[int, float]]]:
    """Seconds, and (shards there, MiB) over time while sampling."""
    began, process, seen = time.perf_counter(), start(out, args), []
    while process.poll() is None:
        if (there := shards(out)) > 0 and (memory := resident(process.pid)) > 0:
            seen.append((there, memory))
        time.sleep(0.2)
    if process.returncode != 0:
        raise SystemExit(f"swell generate ended with {process.returncode}")
    return time.perf_counter() - began, seen


def killed(out: Path, args: argparse.Namespace) -> list[int]:
    """How many shards were there at each kill: at random numbers of shards, a random moment after each came."""
    rng, at = random.Random(0), []
    for wanted in sorted(rng.sample(range(args.count // 10_000), args.kills)):
        process = start(out, args)
        while shards(out) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 2))
        process.kill()
        process.wait()
        at.append(shards(out))
    if start(out, args).wait() != 0:
        raise SystemExit("the last start failed")
    return at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--data", default="builtin:fashion-mnist")
    args = parser.parse_args()
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="swell-million-", dir=os.environ.get("TMPDIR")))
    try:
        seconds, memory = undisturbed(folder / "whole", args)
        at = killed(folder / "killed", args)
        pair = [start(folder / "pair", args) for _ in range(2)]
        codes = [process.wait() for process in pair]
        digests = {
            name: {p.name: sha256_of(p) for p in sorted((folder / name).glob("shard-*.npz"))}
            for name in ("whole", "killed", "pair")
        }
        sampling = read_json(folder / "whole" / "ledger.json")["sampling"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    equal = codes == [0, 0] and digests["whole"] == digests["killed"] == digests["pair"]
    last = (
        max(there for there, _ in memory) - 1
    )  # when all are there the verdict has begun, which needs memory of its own
    first_mib = [m for there, m in memory if there == 1]
    last_mib = [m for there, m in memory if there == last]
    growth = (sum(last_mib) / len(last_mib)) / (sum(first_mib) / len(first_mib))
    rate = args.count / sampling["seconds"]
    spent = time.perf_counter() - began
    detail = (
        f"memory after {last * 10_000:,} samples over that after 10,000; {args.count:,} samples 1x28x28 at {rate:,.0f}/s "
        f"while sampling; shards {'byte-identical' if equal else 'DIFFERENT'} undisturbed, after {len(at)} kills (with "
        f"{', '.join(map(str, at))} shards there) and by two processes at once"
    )
    line = claim("million", growth, None, 1, spent, unit="x", detail=detail)
    result = {
        "claim": line,
        "equal": equal,
        "shards_at_kills": at,
        "memory_mib": {"first_shard": first_mib, "last_shard": last_mib},
        "rate": rate,
        "seconds_undisturbed": seconds,
        "seconds": spent,
        "count": args.count,
    }
    print(write_result("million", result))
    print(line)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
