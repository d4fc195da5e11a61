"""How much EMP-SSL cares about its weight lambda and its batch size, with the coding rate normalised by its bound.

    python benchmarks/emp_ssl_sweep.py [--steps 300] [--views 400000] [--seeds 2]

Batches of 32 to 512 at lambda 1 for equal steps and for equal views; lambda from 1/4 to 4 at batch 64, and its ends at 32 and
256, which tells whether one weight serves every batch whatever the budget does. CIFAR-10, 8 patches, ResNet-18 at an eighth of
its width, short preset, whole-image probe. Two runs at a time, one thread each. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from _arms import Job, Rows, cifar10_source, pretrained
from _common import claim
from patches import recipe_of
from swell.evaluation.statistics import summarise
from swell.methods.emp_ssl import EMPSSL

PATCHES, WIDTH = 8, 0.125
BATCHES = (32, 64, 128, 256, 512)
LAMBDAS = (0.25, 0.5, 1.0, 2.0, 4.0)
ENDS = (LAMBDAS[0], LAMBDAS[-1])  # tried at other batches too
ENDS_AT = (32, 256)


def run(batch: int, lam: float, seed: int, budget: dict[str, float]) -> dict[str, Any]:
    train, test = cifar10_source("train"), cifar10_source("test")
    recipe = replace(recipe_of("emp_ssl", PATCHES), batch_size=batch).with_budget(**budget)
    options = {**recipe.method_options, "invariance": lam}
    return pretrained(replace(recipe, method_options=options), train, train, test, seed)


def arm(batch: int, lam: float) -> str:
    """The rows' name of a weight at a batch, for equal steps."""
    if batch == 64:
        return f"lambda/{lam:g}"
    return f"batch, equal steps/{batch}" if lam == 1.0 else f"lambda at {batch}/{lam:g}"


def series() -> dict[str, dict[float, str]]:
    """What is varied, and for each value the rows' name."""
    found: dict[str, dict[float, str]] = {
        "batches for equal steps": {b: arm(b, 1.0) for b in BATCHES},
        "batches for equal views": {b: f"batch, equal views/{b}" for b in BATCHES},
        "weights at batches of 64": {lam: arm(64, lam) for lam in LAMBDAS},
    }
    for b in ENDS_AT:
        found[f"weights at batches of {b}"] = {lam: arm(b, lam) for lam in (ENDS[0], 1.0, ENDS[1])}
    return found


def main(steps: int, views: int, seeds: int) -> None:
    preset = EMPSSL.presets["short"]
    trained = f"{preset.optimizer} {preset.learning_rate:g}"
    settings = {"steps": steps, "views": views, "patches": PATCHES, "width": WIDTH, "optimizer": trained}
    rows = Rows("emp-ssl-sweep", settings)
    jobs: list[Job] = []
    for seed in range(seeds):
        jobs += [(f"{arm(b, 1.0)}/{seed}", run, (b, 1.0, seed, {"steps": steps})) for b in BATCHES if b != 64]
        jobs += [(f"batch, equal views/{b}/{seed}", run, (b, 1.0, seed, {"patches": views})) for b in BATCHES]
        jobs += [(f"{arm(64, lam)}/{seed}", run, (64, lam, seed, {"steps": steps})) for lam in LAMBDAS]
        jobs += [(f"{arm(b, lam)}/{seed}", run, (b, lam, seed, {"steps": steps})) for b in ENDS_AT for lam in ENDS]

    def more() -> dict[str, Any]:
        linear: dict[str, dict[str, tuple[float, float | None]]] = {
            what: {
                f"{value:g}": summarise([r["linear"] for r in found])
                for value, name in names.items()
                if (found := rows.of(name))
            }
            for what, names in series().items()
        }
        if any(len(linear[what]) < len(names) for what, names in series().items()):
            return {"linear": linear}
        ranges = {
            w: max(m for m, _ in found.values()) - min(m for m, _ in found.values()) for w, found in linear.items()
        }
        detail = "; ".join(f"{what}: {points:.1f}" for what, points in ranges.items())
        told = f"points of linear accuracy between best and worst: {detail}"
        most = max(points for what, points in ranges.items() if what.startswith("weights"))
        made = len(rows.of(arm(ENDS_AT[-1], ENDS[-1])))  # the last of a seed
        line = claim("EMP-SSL over its weight", most, None, made, rows.seconds, "points", told, "1 thread a run")
        return {"linear": linear, "ranges": ranges, "claim": line}

    rows.make(jobs, more, together=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--views", type=int, default=400_000)
    parser.add_argument("--seeds", type=int, default=2)
    main(**vars(parser.parse_args()))
