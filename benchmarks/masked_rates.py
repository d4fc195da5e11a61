"""The learning rate of each arm of masked.py: the same rates tried for all, scored on training images held out.

    python benchmarks/masked_rates.py [--steps 250] [--only mae,simclr]

Of CIFAR-10's training images 40,000 are trained on without labels; a linear probe on 5,000 others scores 5,000 more. The
test split is not read. Two trials run at a time, one thread each. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from _arms import Job, Rows, cifar10_source, pretrained
from masked import ARMS, recipe_of
from short_presets import HELD_OUT, SCORED

RATES = (2.5e-4, 5e-4, 1e-3)
TRIED = ("mae", "mixed_ae", "simclr")  # MixedAE's ablations keep its rate


def trial(name: str, rate: float, steps: int) -> dict[str, Any]:
    data = cifar10_source("train")
    images, fit, score = (data.subset(part) for part in np.split(np.arange(len(data)), (-HELD_OUT, -SCORED)))
    recipe = replace(recipe_of(name, 1).with_budget(steps=steps), learning_rate=rate)
    return pretrained(recipe, images, fit, score, seed=0)


def best(rows: Rows) -> dict[str, str]:
    """The rate of each arm with the highest linear accuracy."""
    found: dict[str, str] = {}
    for name in TRIED:
        scores = {rate: made[0]["linear"] for rate in RATES if (made := rows.of(f"{name}/{rate:g}"))}
        if scores:
            rate = max(scores, key=scores.__getitem__)
            found[name] = f"{rate:g}: {scores[rate]:.1f} of " + ", ".join(f"{s:.1f}" for s in scores.values())
    return found


def main(steps: int, only: str) -> None:
    rows = Rows(
        "masked-rates", {"steps": steps, "rates": list(RATES), "arms": {name: ARMS[name]["method"] for name in TRIED}}
    )
    names = only.split(",") if only else TRIED
    jobs: list[Job] = [(f"{name}/{rate:g}/0", trial, (name, rate, steps)) for rate in RATES for name in names]
    rows.make(jobs, lambda: {"best": best(rows)}, together=2)
    for name, choice in best(rows).items():
        print(f"{name:10s} {choice}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--only", default="", help="arms, separated by commas")
    main(**vars(parser.parse_args()))
