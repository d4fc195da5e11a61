"""Is `swell embed` as fast as the encoder alone, in flat memory?

    python benchmarks/embed.py [--count 100000] [--files 5000] [--width 0.25] [--rounds 3]

100,000 images 3x32x32 (CIFAR-10, repeated) in an .npy file, and 5,000 of them as PNG files without a cache. The forward-only rate
is that of the same encoder on samples that are in memory, measured before and after each embedding. Memory is the resident
size of a process of its own that runs the command, after its first tenth and at its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import swell
from _common import Load, cifar10, claim, resident, write_result
from swell.exporting.embeddings import write_embeddings

FORWARD = 8192  # samples of a measurement of the encoder alone


def forward_rate(run: swell.Run, samples: np.ndarray) -> float:
    began = time.perf_counter()
    run.encoder.encode(samples)
    return len(samples) / (time.perf_counter() - began)


def ratio(run: swell.Run, data: Path, out: Path, samples: np.ndarray) -> dict[str, float]:
    """Rate of the embedding over that of the encoder alone, before and after it."""
    before = forward_rate(run, samples)
    done = write_embeddings(run, data, out, quiet=True)
    alone = (before + forward_rate(run, samples)) / 2
    return {
        "rate": done.rate,
        "forward_rate": alone,
        "ratio": done.rate / alone,
        "forward_share": done.forward_seconds / done.seconds,
    }


def memory(run: swell.Run, data: Path, out: Path) -> list[tuple[float, float]]:
    """(seconds, MiB) of the command while it runs."""
    began, seen = time.perf_counter(), []
    command = [sys.executable, "-m", "swell", "embed", str(run.path), str(data), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if (now := resident(process.pid)) > 0:
            seen.append((time.perf_counter() - began, now))
        time.sleep(0.1)
    if process.returncode != 0:
        raise SystemExit(f"swell embed ended with {process.returncode}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    began, load = time.perf_counter(), Load()
    folder = Path(tempfile.mkdtemp(prefix="swell-embed-", dir=os.environ.get("TMPDIR")))
    os.environ["SWELL_CACHE"] = str(folder / "cache")
    try:
        images = cifar10()[0]
        big = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (args.count, *images.shape[1:]))
        for start in range(0, args.count, 10_000):
            rows = np.arange(start, min(start + 10_000, args.count)) % len(images)
            big[start : start + len(rows)] = images[rows]
        del big
        (folder / "files").mkdir()
        for i in range(args.files):
            Image.fromarray(images[i].transpose(1, 2, 0)).save(folder / "files" / f"{i:06d}.png")
        some = np.array(images[:FORWARD])
        run = swell.pretrain(
            some, folder / "run", backbone="resnet18", width=args.width, steps=5, quiet=True, report=False
        )
        forward_rate(run, some)
        found = {
            "npy": [ratio(run, folder / "images.npy", folder / "z.npz", some) for _ in range(args.rounds)],
            "files": [ratio(run, folder / "files", folder / "z.npz", some) for _ in range(args.rounds)],
        }
        seen = memory(run, folder / "images.npy", folder / "z.npz")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # The start (imports, the first batch) is over when memory has reached its level; from then on it may not grow.
    level = [mib for at, mib in seen if at > 0.2 * seen[-1][0]]
    head, tail = statistics.mean(level[: max(1, len(level) // 5)]), statistics.mean(level[-max(1, len(level) // 5) :])
    ratios = [row["ratio"] for row in found["npy"]]
    spent = time.perf_counter() - began
    detail = (
        f"rate of swell embed over the encoder alone, {args.count:,} images 3x32x32 from an .npy, ResNet-18 width {args.width:g} "
        f"(target 0.9); from {args.files:,} PNG files {statistics.mean(row['ratio'] for row in found['files']):.2f}; "
        f"memory at the end over that after a fifth {tail / head:.3f} (target 0.9 to 1.1), {max(level):,.0f} MiB at most"
    )
    spread = statistics.stdev(ratios) if len(ratios) > 1 else None
    line = claim("embed", statistics.mean(ratios), spread, len(ratios), spent, unit="x", detail=detail)
    result = {
        "claim": line,
        "rounds": found,
        "memory": {"after_a_fifth": head, "end": tail, "all": seen},
        "count": args.count,
    }
    print(write_result("embed", {**result, "files": args.files, "load": load.read(), "seconds": spent}))
    print(line)


if __name__ == "__main__":
    main()
