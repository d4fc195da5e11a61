"""EMP-SSL against SimCLR, many-view InfoNCE and SwAV with multi-crop at 2, 8, 20 and 64 views an image, equal budgets.

    python benchmarks/patches.py [--views 200000] [--seconds 90] [--seeds 2]

Once for equal views (patches) processed, once for equal seconds. All see as many views a step, so equal views are equal steps
too; more views an image mean fewer images a batch. The learning rate does not follow the images, which would make 2 views 32
times as fast as 64: it follows the views, so that an arm has one rate for every count, which is what the linear rule gives it
at the 2 views of its own short preset (`"rate"` in the settings; earlier rows followed images); EMP-SSL's grows with neither.
The runs of equal seconds go first, on a machine that does nothing else; those of equal views may have company. The claim line
compares at 20 views for all: no count is picked by its score.

One probe for all (whole image, one forward), and bags of 16 patches on a grid beside it, both on the first 10,000 training
and 5,000 test images: a bag costs 16 forwards; the untrained encoder is probed likewise. CIFAR-10, ResNet-18 at an eighth of
its width, short presets. Two runs at a time, one thread each. Goes on where it stopped; draws docs/patches.svg.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from _arms import Job, Rows, bag, cifar10_source, pretrained
from _common import ROOT, claim
from _figure import Line, draw
from swell.data.source import Source
from swell.evaluation.evaluate import evaluate_encoder
from swell.evaluation.statistics import summarise
from swell.methods import find_method
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics
from swell.recipes import Recipe
from swell.training.build import PRESET_BATCH
from swell.views.plan import VIEWS, ViewPlan

COUNTS = (2, 8, 20, 64)
VIEWS_A_STEP = 1024
WIDTH = 0.125
CLAIMED = 20  # the claim line's views an image, for every arm
BAG = 16
PROBED = (10_000, 5_000)  # training and test images of the probes; all 50,000 are trained on
NAMES = {
    "emp_ssl": "EMP-SSL",
    "infonce_patches": "InfoNCE, patches",
    "simclr": "InfoNCE, SimCLR views",
    "swav": "SwAV, multi-crop",
}
ARMS = tuple(NAMES)
UNTRAINED = "untrained encoder"


def recipe_of(arm: str, count: int) -> Recipe:
    """The recipe of an arm at `count` views an image, without its budget."""
    if arm == "swav":  # two large crops assign, the others are small and predict
        large, small = VIEWS["swav"]().groups
        groups = (large, replace(small, count=count - 2)) if count > 2 else (large,)
        plan = ViewPlan(groups)
    else:
        name = "simclr" if arm == "simclr" else "emp_ssl"
        group = VIEWS[name]().groups[0]
        plan = ViewPlan((replace(group, count=count),))
    method = {"infonce_patches": "simclr"}.get(arm, arm)
    return Recipe(
        method=method,
        preset="short",
        width=WIDTH,
        views=plan,
        batch_size=round(VIEWS_A_STEP / count),
        method_options={"hidden": 512},
    )


def at_one_rate(recipe: Recipe) -> Recipe:
    """With the linear rule for views instead of images: the preset's rate for batches of 256 images of its own count."""
    preset = find_method(recipe.method).presets["short"]
    if not preset.scaled:
        return recipe
    own = VIEWS[preset.views]().count
    return replace(recipe, learning_rate=preset.learning_rate * VIEWS_A_STEP / (PRESET_BATCH * own))


def probed() -> tuple[Source, Source]:
    """What the probes are fitted on, and what they are scored on."""
    fit, score = (
        cifar10_source(split).subset(np.arange(n)) for split, n in zip(("train", "test"), PROBED, strict=True)
    )
    return fit, score


def run(arm: str, count: int, seed: int, budget: dict[str, float]) -> dict[str, Any]:
    recipe = at_one_rate(recipe_of(arm, count)).with_budget(**budget)
    return pretrained(recipe, cifar10_source("train"), *probed(), seed, BAG)


def untrained(seed: int) -> dict[str, Any]:
    fit, score = probed()
    torch.manual_seed(seed)
    encoder = Encoder(EncoderConfig("resnet18", WIDTH, fit.shape, *channel_statistics(fit.samples)))
    result = evaluate_encoder(encoder, fit, score)
    whole = {name: 100 * result[name]["accuracy"] for name in ("knn", "linear")}
    return {**whole, **bag(encoder, fit, score, BAG)}


def main(views: int, seconds: float, seeds: int) -> None:
    settings = {
        "views": views,
        "seconds": seconds,
        "width": WIDTH,
        "views_a_step": VIEWS_A_STEP,
        "bag": BAG,
        "probed": list(PROBED),
        "rate": "follows views",
    }
    rows = Rows("patches", settings)
    budgets = {"seconds": {"minutes": seconds / 60}, "views": {"patches": views}}
    jobs: list[Job] = [
        (f"{basis}/{arm} {count}/{seed}", run, (arm, count, seed, budget))
        for basis, budget in budgets.items()
        for seed in range(seeds)
        for arm in ARMS
        for count in COUNTS
    ]
    jobs += [(f"untrained/{seed}", untrained, (seed,)) for seed in range(seeds)]

    def more() -> dict[str, Any]:
        found = {arm: rows.of(f"views/{arm} {CLAIMED}") for arm in ARMS}
        if not all(found.values()):
            return {}
        linear = {arm: summarise([row["linear"] for row in rs]) for arm, rs in found.items()}
        others = ", ".join(f"{NAMES[arm]} {linear[arm][0]:.1f} %" for arm in ARMS if arm != "emp_ssl")
        detail = (
            f"{CLAIMED} views an image, {views:,} views in all, ResNet-18 width {WIDTH:g}, whole-image probe; {others}"
        )
        mean, sd = linear["emp_ssl"]
        n = len(found["emp_ssl"])
        return {
            "claim": claim("EMP-SSL linear probe", mean, sd, n, rows.seconds, "%", detail, threads="1 thread a run")
        }

    def figure() -> None:
        panels: dict[str, list[Line]] = {}
        for basis, title in (("views", f"equal views ({views:,})"), ("seconds", f"equal seconds ({seconds:g})")):
            for arm in ARMS:
                for key, dashed in (("linear", False), ("bag_linear", True)):
                    runs = [(c, rows.of(f"{basis}/{arm} {c}")) for c in COUNTS]
                    points = [(float(c), *summarise([r[key] for r in rs])) for c, rs in runs if rs]
                    if points:
                        panels.setdefault(title, []).append(Line(NAMES[arm], tuple(points), dashed))
            for key, dashed in (("linear", False), ("bag_linear", True)):
                if title in panels and (found := rows.of("untrained")):
                    level = summarise([r[key] for r in found])
                    panels[title].append(Line(UNTRAINED, tuple((float(c), *level) for c in COUNTS), dashed))
        note = f"solid: whole image, one forward; dashed: bag of {BAG} patches. CIFAR-10, ResNet-18 at width {WIDTH:g}"
        if panels:
            draw(ROOT / "docs" / "patches.svg", panels, "views an image", "linear accuracy, per cent", note)

    rows.make(jobs, more, together=2)
    figure()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=2)
    main(**vars(parser.parse_args()))
