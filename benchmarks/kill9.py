"""Kill a run or a search with SIGKILL at random moments, resume it every time, and compare the final weights bit for bit.

python benchmarks/kill9.py [pretrain|adapt] [--kills 20]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from _common import claim, write_result

SWELL = [sys.executable, "-m", "swell"]
SHARED = ["builtin:digits", "--recipe", "digits", "--checkpoint-seconds", "0.5"]
COMMANDS = {
    "pretrain": [*SWELL, "pretrain", *SHARED, "--steps", "300"],
    "adapt": [*SWELL, "adapt", *SHARED, "--steps", "60", "--generator-steps", "200"],
}
RESULTS = {"pretrain": "kill9", "adapt": "kill9-adapt"}


def digest(run: Path) -> str:
    return hashlib.sha256((run / "encoder.safetensors").read_bytes()).hexdigest()


def lines_logged(out: Path) -> int:
    """Of the run and of every candidate below it."""
    return sum(path.read_text().count("\n") for path in out.rglob("metrics.jsonl"))


def main(command: str, kills: int, seed: int) -> None:
    begun, given = time.perf_counter(), COMMANDS[command]
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, run = Path(folder) / "whole", Path(folder) / "run"
        start = time.perf_counter()
        subprocess.run([*given, "--out", str(whole)], check=True, capture_output=True)
        undisturbed = time.perf_counter() - start
        moments: list[dict[str, float | int | bool]] = []
        while len(moments) < kills:
            process = subprocess.Popen(
                [*given, "--out", str(run), "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            after = rng.uniform(0.2, 0.8 * undisturbed)  # from the imports to the last steps
            time.sleep(after)
            finished = process.poll() is not None
            process.kill()
            process.wait()
            if finished:  # done already: begin a new run, so that every kill hits work in progress
                assert digest(run) == digest(whole), "a resumed run ended with other weights"
                subprocess.run(["rm", "-r", str(run)], check=True)
                continue
            lines = lines_logged(run)
            temporary = list(run.rglob("*.tmp"))
            moments.append({"after_seconds": round(after, 2), "lines_logged": lines, "during_a_write": bool(temporary)})
            print(f"kill {len(moments)} after {after:.2f} s, {lines} lines logged", flush=True)
        subprocess.run([*given, "--out", str(run), "--resume"], check=True, capture_output=True)
        equal = digest(run) == digest(whole)
        chosen = tomllib.loads((run / "recipe.toml").read_text())
    inside = sum(bool(m["lines_logged"]) for m in moments)
    seconds = time.perf_counter() - begun
    path = write_result(RESULTS[command], {
        "claim": claim(f"digits {command} after SIGKILLs, final weights equal bit for bit", float(equal), None, len(moments), seconds,
                       detail=f"1 = equal; {inside} of the kills after the first logged step"),
        "equal": equal, "kills": moments, "undisturbed_seconds": undisturbed, "seconds": seconds,
        "weight": chosen.get("weight"), "strength": chosen.get("strength"),
    })  # fmt: skip
    print(f"equal: {equal}; {path}")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), default="pretrain")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
