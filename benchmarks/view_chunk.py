"""Peak memory and seconds a step of EMP-SSL with many patches, encoded all at once and in pieces.

    python benchmarks/view_chunk.py [--batch 100]

CIFAR-10, ResNet-18 at a quarter of its width; each row is a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

import swell  # noqa: E402
from _arms import Rows, cifar10_source  # noqa: E402
from _common import claim  # noqa: E402
from swell.recipes import Recipe  # noqa: E402

STEPS = 3  # the first counts FLOPs
CASES = ((20, None), (20, 5), (200, 20), (200, 5), (200, None))


def measure(patches: int, chunk: int | None, batch: int) -> dict[str, Any]:
    recipe = Recipe(
        method="emp_ssl", width=0.25, batch_size=batch, steps=STEPS, view_count=patches, view_chunk=chunk,
        method_options={"hidden": 512},
    )  # fmt: skip
    images = cifar10_source("train").subset(range(2000))
    with tempfile.TemporaryDirectory() as folder:
        run = swell.pretrain(images.unlabelled(), Path(folder) / "run", recipe=recipe, quiet=True, report=False)
        ledger, metrics = run.ledger, run.metrics
    seconds = metrics[-1]["seconds"] - metrics[0]["seconds"]
    return {
        "seconds_per_step": seconds / (STEPS - 1),
        "peak_memory_bytes": ledger.peak_memory_bytes,
        "gib": ledger.peak_memory_bytes / 2**30,
        "loss": metrics[-1]["loss"],
        "wall_seconds": ledger.pretraining.seconds,
    }


def main(batch: int) -> None:
    rows = Rows("view-chunk", {"batch": batch, "steps": STEPS, "width": 0.25})

    def more() -> dict[str, Any]:
        found = {key: row["gib"] for key, row in rows.rows.items()}
        if not {"200/20", "200/None"} <= found.keys():
            return {}
        whole, pieces = rows.rows["200/None"], rows.rows["200/20"]
        detail = (
            f"peak memory of 200 patches x {batch} images in pieces of 20 views; {whole['gib']:.1f} GiB all at once, "
            f"{pieces['seconds_per_step'] / whole['seconds_per_step']:.2f} times its seconds a step"
        )
        return {"claim": claim("EMP-SSL, 200 patches", pieces["gib"], None, 1, rows.seconds, "GiB", detail)}

    rows.make([(f"{p}/{c}", measure, (p, c, batch)) for p, c in CASES], more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100)
    main(**vars(parser.parse_args()))
