"""Open a folder of 100,000 small images twice: decoding rate the first time, seconds the second.

    python benchmarks/second_start.py [--files 100000]

The files are hard links to 4,000 different PNGs of 32x32, so the disk's own speed plays no part in the first opening.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from _common import claim, write_result

OPEN = "import sys, time; t = time.perf_counter(); import swell; s = swell.open(sys.argv[1], quiet=True); print(time.perf_counter() - t, len(s), s.fingerprint)"


def timed_open(folder: Path) -> tuple[float, str]:
    """Seconds from `import swell` to the source, in a process of its own, and what came out."""
    out = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(out[0]), " ".join(out[1:])


def main(files: int) -> None:
    begun = time.perf_counter()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["SWELL_CACHE"] = str(root / "cache")
        (root / "seeds").mkdir()
        for k in range(4000):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / "seeds" / f"{k}.png")
        for i in range(files):
            part = root / "images" / f"{i % 25:02d}"
            if i < 25:
                part.mkdir(parents=True)
            os.link(root / "seeds" / f"{i % 4000}.png", part / f"{i:06d}.png")
        first, seen = timed_open(root / "images")
        again = [timed_open(root / "images") for _ in range(5)]
        assert all(other == seen for _, other in again)
    seconds = [s for s, _ in again]
    mean, sd = float(np.mean(seconds)), float(np.std(seconds, ddof=1))
    path = write_result("second-start", {
        "claim": claim(f"second opening of {files:,} image files", mean, sd, len(seconds), time.perf_counter() - begun, unit="s",
                       detail=f"first opening {first:.1f} s, {files / first:,.0f} files/s"),
        "first_seconds": first, "second_seconds": seconds, "files": files,
    })  # fmt: skip
    print(f"first {first:.1f} s, then {mean:.2f} +- {sd:.2f} s; {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    main(**vars(parser.parse_args()))
