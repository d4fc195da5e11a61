"""How much EMP-SSL cares about its weight lambda and its batch size, with the coding rate normalised by its bound.

    python benchmarks/emp_ssl_sweep.py [--steps 300] [--views 400000]

Batches of 32 to 512 at lambda 1 for equal steps and for equal views; lambda from 1/4 to 4 at batch 64. CIFAR-10, 8 patches,
ResNet-18 at an eighth of its width, short preset, whole-image probe. Two runs at a time, one thread each. Goes on where it
stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from _arms import Job, Rows, cifar10_source, pretrained
from _common import claim
from patches import recipe_of
from swell.evaluation.statistics import summarise

PATCHES, WIDTH, SEEDS = 8, 0.125, 2
BATCHES = (32, 64, 128, 256, 512)
LAMBDAS = (0.25, 0.5, 1.0, 2.0, 4.0)


def run(batch: int, lam: float, seed: int, budget: dict[str, float]) -> dict[str, Any]:
    train, test = cifar10_source("train"), cifar10_source("test")
    recipe = replace(recipe_of("emp_ssl", PATCHES), batch_size=batch).with_budget(**budget)
    options = {**recipe.method_options, "invariance": lam}
    return pretrained(replace(recipe, method_options=options), train, train, test, seed)


def main(steps: int, views: int) -> None:
    rows = Rows("emp-ssl-sweep", {"steps": steps, "views": views, "patches": PATCHES, "width": WIDTH})
    jobs: list[Job] = []
    for seed in range(SEEDS):
        jobs += [(f"batch, equal steps/{b}/{seed}", run, (b, 1.0, seed, {"steps": steps})) for b in BATCHES]
        jobs += [(f"batch, equal views/{b}/{seed}", run, (b, 1.0, seed, {"patches": views})) for b in BATCHES]
        jobs += [(f"lambda/{lam:g}/{seed}", run, (64, lam, seed, {"steps": steps})) for lam in LAMBDAS]

    def more() -> dict[str, Any]:
        ranges = {}
        for what, values in (("batch, equal steps", BATCHES), ("batch, equal views", BATCHES), ("lambda", LAMBDAS)):
            means = [summarise([r["linear"] for r in found])[0] for v in values if (found := rows.of(f"{what}/{v:g}"))]
            if means:
                ranges[what] = max(means) - min(means)
        if len(ranges) < 3:
            return {"ranges": ranges}
        detail = "; ".join(f"{what}: {points:.1f}" for what, points in ranges.items())
        told = f"points of linear accuracy between best and worst: {detail}"
        threads = "1 thread a run"
        line = claim("EMP-SSL over its weight", ranges["lambda"], None, SEEDS, rows.seconds, "points", told, threads)
        return {"ranges": ranges, "claim": line}

    rows.make(jobs, more, together=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--views", type=int, default=400_000)
    main(**vars(parser.parse_args()))
