"""Every method for equal seconds on CIFAR-10, with its short preset and a narrow ResNet-18; then the one probe.

    python benchmarks/methods.py [--minutes 5] [--seeds 2] [--only simclr,byol]

Beside them pixels, PCA and the untrained encoder. Labels are read after the training only; the presets were chosen by
benchmarks/short_presets.py on training images. Seed 0 is trained by the clock, on a machine that does nothing else; the
other seeds for as many steps as that made, so that other work beside them costs them time and no accuracy. Goes on where
it stopped.
"""

from __future__ import annotations

import argparse
from typing import Any

from swell.threads import bind_threads

bind_threads()

from _arms import Job, Rows, cifar10_source, pretrained  # noqa: E402
from _common import claim  # noqa: E402
from swell.evaluation.evaluate import evaluate_baselines  # noqa: E402
from swell.evaluation.statistics import summarise  # noqa: E402
from swell.methods import METHODS, find_method  # noqa: E402
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics  # noqa: E402
from swell.recipes import Recipe  # noqa: E402

# Of one pass over the views; those that need tokens are compared in masked.py, those that train a generator in cells.py.
JOINT = tuple(
    entry.name
    for entry in METHODS
    if not (find_method(entry.name).needs_tokens or find_method(entry.name).generator_positives)
)
WIDTH = 0.25
HEADS = {"hidden": 512}  # narrow as the net


def recipe_of(method: str, minutes: float, steps: int | None = None) -> Recipe:
    """The short preset of a method at a narrow net's width; with `steps`, so many instead of the minutes."""
    recipe = Recipe(method=method, preset="short", width=WIDTH, minutes=minutes, method_options=dict(HEADS))
    return recipe if steps is None else recipe.with_budget(steps=steps)


def main(minutes: float, seeds: int, only: str) -> None:
    settings = {"data": "CIFAR-10", "backbone": "resnet18", "width": WIDTH, "minutes": minutes, "heads": HEADS}
    rows = Rows("methods", settings)
    methods = only.split(",") if only else JOINT

    def more() -> dict[str, Any]:
        arms = {name: found for name in JOINT if (found := rows.of(name))}
        if not arms:
            return {}
        best = max(arms, key=lambda name: summarise([r["linear"] for r in arms[name]])[0])
        linear = summarise([r["linear"] for r in arms[best]])
        worst = min(summarise([r["linear"] for r in found])[0] for found in arms.values())
        detail = f"best of {len(arms)} methods, {best}, in {minutes:g} minutes each; the least {worst:.1f} %"
        line = claim(
            "CIFAR-10 linear probe", *linear, len(arms[best]), rows.seconds, unit="%", detail=detail, **rows.origin()
        )
        return {"claim": line}

    jobs: list[Job] = [("baselines", baselines, ())]
    jobs += [(f"{method}/0", arm, (method, minutes, 0)) for method in methods]
    rows.make(jobs, more)
    steps = {method: rows.rows[f"{method}/0"]["steps"] for method in methods}
    later = range(1, seeds)
    jobs = [(f"{m}/{seed}", arm, (m, minutes, seed, steps[m])) for seed in later for m in methods]
    rows.make(jobs, more, together=2)


def arm(method: str, minutes: float, seed: int, steps: int | None = None) -> dict[str, Any]:
    train, test = cifar10_source("train"), cifar10_source("test")
    return pretrained(recipe_of(method, minutes, steps), train, train, test, seed)


def baselines() -> dict[str, Any]:
    """Pixels, principal components and the untrained encoder, in per cent."""
    train, test = cifar10_source("train"), cifar10_source("test")
    config = EncoderConfig("resnet18", WIDTH, train.shape, *channel_statistics(train.samples))
    found = evaluate_baselines(Encoder(config), train, test)
    return {"baselines": {n: {k: 100 * b[k]["accuracy"] for k in ("knn", "linear")} for n, b in found.items()}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="methods, separated by commas")
    main(**vars(parser.parse_args()))
