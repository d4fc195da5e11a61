"""Kill a digits run with SIGKILL at random moments, resume it every time, and compare the final weights bit for bit.

python benchmarks/kill9.py [--kills 20]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import claim, write_result

COMMAND = [
    sys.executable,
    "-m",
    "swell",
    "pretrain",
    "builtin:digits",
    "--recipe",
    "digits",
    "--steps",
    "300",
    "--checkpoint-seconds",
    "0.5",
]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "encoder.safetensors").read_bytes()).hexdigest()


def main(kills: int, seed: int) -> None:
    begun = time.perf_counter()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, run = Path(folder) / "whole", Path(folder) / "run"
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--out", str(whole)], check=True, capture_output=True)
        undisturbed = time.perf_counter() - start
        moments: list[dict[str, float | int | bool]] = []
        while len(moments) < kills:
            process = subprocess.Popen(
                [*COMMAND, "--out", str(run), "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
            lines = (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").exists() else 0
            temporary = [name for name in os.listdir(run) if name.endswith(".tmp")] if run.exists() else []
            moments.append({"after_seconds": round(after, 2), "lines_logged": lines, "during_a_write": bool(temporary)})
            print(f"kill {len(moments)} after {after:.2f} s, {lines} lines logged", flush=True)
        subprocess.run([*COMMAND, "--out", str(run), "--resume"], check=True, capture_output=True)
        equal = digest(run) == digest(whole)
    inside = sum(bool(m["lines_logged"]) for m in moments)
    seconds = time.perf_counter() - begun
    path = write_result("kill9", {
        "claim": claim("digits run after SIGKILLs, final weights equal bit for bit", float(equal), None, len(moments), seconds,
                       detail=f"1 = equal; {inside} of the kills after the first logged step"),
        "equal": equal, "kills": moments, "undisturbed_seconds": undisturbed, "seconds": seconds,
    })  # fmt: skip
    print(f"equal: {equal}; {path}")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
