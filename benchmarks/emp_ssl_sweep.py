"""How much EMP-SSL cares about its weight lambda and its batch size, with the coding rate normalised by its bound.

    python benchmarks/emp_ssl_sweep.py [--steps 300] [--views 400000]

Batches of 32 to 512 at lambda 1 for equal steps and for equal views, with the learning rate that follows the batch, and for equal
views at one rate, that of the preset's own batch; lambda from 1/4 to 4 at batch 64, and its ends at 32 and 256, which tells
whether one weight serves every batch whatever the budget does. A weight also makes gradients larger, so lambda 1 at 4 times the
rate stands beside lambda 4. CIFAR-10, 8 patches, ResNet-18 at an eighth of its width, short preset, whole-image probe. Two runs
at a time, one thread each. Goes on where it stopped.
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
from swell.training.build import PRESET_BATCH

PATCHES, WIDTH, SEEDS = 8, 0.125, 2
BATCHES = (32, 64, 128, 256, 512)
LAMBDAS = (0.25, 0.5, 1.0, 2.0, 4.0)
ENDS = (LAMBDAS[0], LAMBDAS[-1])  # tried at other batches too
ENDS_AT = (32, 256)
FASTER = 4.0  # the factor of the rate in the rows that take the weight's factor for the rate


def run(batch: int, lam: float, seed: int, budget: dict[str, float], rate: float | None = None) -> dict[str, Any]:
    """A row; the learning rate is the linear rule's unless given."""
    train, test = cifar10_source("train"), cifar10_source("test")
    recipe = replace(recipe_of("emp_ssl", PATCHES), batch_size=batch).with_budget(**budget)
    if rate is not None:
        recipe = replace(recipe, learning_rate=rate)
    options = {**recipe.method_options, "invariance": lam}
    return pretrained(replace(recipe, method_options=options), train, train, test, seed)


def arm(batch: int, lam: float) -> str:
    """The rows' name of a weight at a batch, for equal steps."""
    if batch == 64:
        return f"lambda/{lam:g}"
    return f"batch, equal steps/{batch}" if lam == 1.0 else f"lambda at {batch}/{lam:g}"


def faster_arm(batch: int) -> str:
    """The rows' name of a batch at weight 1 and a larger rate, for equal steps."""
    return f"rate at {batch}/{FASTER:g}"


def linear_rule(batch: int) -> float:
    return EMPSSL.presets["short"].learning_rate * batch / PRESET_BATCH


def at_preset_rate(batch: int) -> str:
    """The rows' name of a batch at the rate of the preset's own, which is the smallest here."""
    return f"batch, equal views/{batch}" if batch == BATCHES[0] else f"batch, equal views, one rate/{batch}"


def series() -> dict[str, dict[float, str]]:
    """What is varied, and for each value the rows' name."""
    found: dict[str, dict[float, str]] = {
        "batches for equal steps": {b: f"batch, equal steps/{b}" for b in BATCHES},
        "batches for equal views": {b: f"batch, equal views/{b}" for b in BATCHES},
        "batches for equal views at one rate": {b: at_preset_rate(b) for b in BATCHES},
        "weights at batches of 64": {lam: arm(64, lam) for lam in LAMBDAS},
    }
    for b in ENDS_AT:
        found[f"weights at batches of {b}"] = {lam: arm(b, lam) for lam in (ENDS[0], 1.0, ENDS[1])}
    for b in (64, 256):
        found[f"factors of the rate at batches of {b}"] = {1.0: arm(b, 1.0), FASTER: faster_arm(b)}
    return found


def main(steps: int, views: int) -> None:
    rows = Rows("emp-ssl-sweep", {"steps": steps, "views": views, "patches": PATCHES, "width": WIDTH})
    jobs: list[Job] = []
    own = linear_rule(EMPSSL.presets["short"].batch_size)
    for seed in range(SEEDS):
        jobs += [(f"batch, equal steps/{b}/{seed}", run, (b, 1.0, seed, {"steps": steps})) for b in BATCHES]
        jobs += [(f"batch, equal views/{b}/{seed}", run, (b, 1.0, seed, {"patches": views})) for b in BATCHES]
        jobs += [(f"{arm(64, lam)}/{seed}", run, (64, lam, seed, {"steps": steps})) for lam in LAMBDAS]
    for seed in range(SEEDS):
        jobs += [(f"{at_preset_rate(b)}/{seed}", run, (b, 1.0, seed, {"patches": views}, own)) for b in BATCHES[:0:-1]]
        jobs += [(f"{arm(b, lam)}/{seed}", run, (b, lam, seed, {"steps": steps})) for b in ENDS_AT for lam in ENDS]
    for b in (64, 256):
        faster = FASTER * linear_rule(b)
        jobs += [(f"{faster_arm(b)}/{seed}", run, (b, 1.0, seed, {"steps": steps}, faster)) for seed in range(SEEDS)]

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
        line = claim("EMP-SSL over its weight", most, None, SEEDS, rows.seconds, "points", told, "1 thread a run")
        return {"linear": linear, "ranges": ranges, "claim": line}

    rows.make(jobs, more, together=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--views", type=int, default=400_000)
    main(**vars(parser.parse_args()))
