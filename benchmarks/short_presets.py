"""Choose each method's short preset: the same trials of optimiser, rate and views for all, scored on training images.

    python benchmarks/short_presets.py [--steps 400] [--only simclr,byol]

CIFAR-10's training images, at half their size for speed, are split: 40,000 are trained on without labels; of the other 10,000,
kNN on 5,000 scores 5,000. The test split is not read. Two trials run at a time, one thread each. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from _arms import Rows, cifar10_source, pretrained
from methods import JOINT, recipe_of
from swell.data.source import Source
from swell.methods import find_method
from swell.views.plan import VIEWS

WIDTH = 0.125
BATCH = {"emp_ssl": 32}  # 20 patches of 32 samples: about as many views as two of 256, which the others get
OWN = "as the small preset"
TRIALS = ((OWN, 0.0), ("sgd", 0.06), ("sgd", 0.2), ("adamw", 1e-3))  # of batches of 256
OTHER_VIEWS = {"vicreg": "adainf", "emp_ssl": "emp_ssl_crops"}  # for the best of these; else VICReg's gentle crops
KEPT_VIEWS = ("swav",)  # multi-crop is the point of it
SETTINGS = {  # one more trial for those that stayed far below their like, all of these with VICReg's views
    "barlow_twins": ("sgd", 0.06, {"scale": 0.0125}),
    "byol": ("sgd", 0.2, {"tau_start": 0.9}),  # a teacher that keeps up with a few hundred steps
    "mocov2": ("sgd", 0.06, {"tau_start": 0.9}),
    "mocov3": ("sgd", 0.2, {"tau_start": 0.9}),
    "dino": ("sgd", 0.2, {"tau": 0.9}),
    "simsiam": ("sgd", 0.06, {"outputs": 256, "predictor": 64}),
}
SMALLER = {  # the best of those in smaller batches, so in more steps: batch, optimiser, rate and what else follows from it
    "simclr": (64, "sgd", 0.2, {}),
    "barlow_twins": (64, "sgd", 0.06, {"scale": 0.0125}),
    "byol": (64, "sgd", 0.2, {"tau_start": 0.97}),  # four times the steps: as slow a teacher over all of them
    "dcl": (64, "sgd", 0.06, {}),
    "dino": (64, "sgd", 0.2, {}),
    "mocov2": (64, "sgd", 0.06, {}),
    "mocov3": (64, "sgd", 0.2, {"tau_start": 0.97}),
    "nnclr": (64, "lars", 0.4, {}),
    "simsiam": (64, "sgd", 0.2, {"outputs": 256, "predictor": 64}),
    "swav": (128, "lars", 1.2, {}),  # without small crops: they cost views, and a step of two views half as much
    "vicreg": (64, "sgd", 0.06, {}),
}
PREDICTORS = {  # and of what has a predictor, once more with one that learns faster
    "byol": (64, "sgd", 0.2, {"tau_start": 0.97}),
    "mocov3": (256, "sgd", 0.2, {"tau_start": 0.9}),
    "nnclr": (256, "lars", 0.4, {}),
    "simsiam": (64, "sgd", 0.2, {"outputs": 256, "predictor": 512}),
}
PREDICTOR_RATES = (10, 30)
SECOND = {  # a second look at those still below their like, with the other views: batch, optimiser, rate, settings
    "barlow_twins": (
        (256, "adamw", 1e-3, {"scale": 0.1}),
        (256, "sgd", 0.06, {"scale": 0.025, "lambd": 0.02}),
        (64, "adamw", 2e-3, {"scale": 0.1}),
    ),
    "byol": (
        (64, "sgd", 0.2, {"tau_start": 0.9, "predictor_rate": 30}),
        (64, "sgd", 0.2, {"tau_start": 0.99, "predictor_rate": 30}),
    ),
    "dino": ((64, "sgd", 0.2, {"tau": 0.97}), (64, "sgd", 0.2, {"tau": 0.97, "norm": True}), (64, "adamw", 1e-3, {})),
    "mocov2": (
        (256, "sgd", 0.06, {"tau_start": 0.97}),
        (64, "sgd", 0.06, {"tau_start": 0.97, "queue": 1024}),
        (256, "adamw", 1e-3, {"queue": 1024}),
    ),
    "emp_ssl": (  # its views are as gentle; the rate is the ceiling of LARS, a small one makes it SGD
        (32, "lars", 24.0, {}),
        (32, "lars", 48.0, {}),
        (32, "lars", 96.0, {}),
        (32, "lars", 192.0, {}),
        (32, "lars", 96.0, {"invariance": 4.0}),
        (32, "lars_unclipped", 4.0, {}),
        (32, "lars_unclipped", 8.0, {}),
        (32, "lars_unclipped", 16.0, {}),
        (32, "lars_unclipped", 32.0, {}),
    ),
    "nnclr": (
        (256, "sgd", 0.2, {"queue": 1024}),
        (64, "sgd", 0.2, {"queue": 1024, "predictor": 512}),
        (256, "sgd", 0.06, {"temperature": 0.1}),
    ),
    "simsiam": ((64, "sgd", 0.2, {"outputs": 256, "predictor": 512, "predictor_rate": 100}),),
}
HELD_OUT, SCORED = 10_000, 5_000


def trial(
    method: str,
    optimizer: str,
    rate: float,
    steps: int,
    views: str = "",
    settings: dict[str, Any] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """One short training and kNN on held-out training images; `views` and `settings` instead of the method's own."""
    data = cifar10_source("train")
    images, fit, score = (data.subset(part) for part in np.split(np.arange(len(data)), (-HELD_OUT, -SCORED)))
    images, fit, score = map(halved, (images, fit, score))
    plan = VIEWS[views]() if views else find_method(method)().views((3, 32, 32))
    groups = tuple(g if g.size is None else replace(g, size=g.size // 2) for g in plan.groups)
    recipe = replace(
        recipe_of(method, 1).with_budget(steps=steps),
        width=WIDTH,
        batch_size=batch or BATCH.get(method, 256),
        backbone="resnet18",
        views=replace(plan, groups=groups),
    )
    recipe = replace(recipe, method_options={**recipe.method_options, **(settings or {})})
    if optimizer != OWN:
        own = find_method(method).presets["small"]
        decay = {"sgd": 5e-4, "adamw": 1e-2, "lars": own.weight_decay, "lars_unclipped": own.weight_decay}[optimizer]
        rate *= recipe.batch_size / 256
        recipe = replace(recipe, optimizer=optimizer, learning_rate=rate, weight_decay=decay, warmup=0.05)
    else:
        own = find_method(method).presets["small"]
        rate = own.learning_rate * (recipe.batch_size / 256 if own.scaled else 1)
        changes = {"optimizer": own.optimizer, "learning_rate": rate, "weight_decay": own.weight_decay}
        recipe = replace(recipe, warmup=own.warmup, **changes)
    return pretrained(recipe, images, fit, score, seed=seed)


def halved(source: Source) -> Source:
    """Images at half their side, by the mean of four pixels."""
    n, c, h, w = source.samples.shape
    small = source.samples.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)).round().astype(np.uint8)
    return replace(source, samples=small)


def main(steps: int, only: str) -> None:
    rows = Rows("short-presets", {"steps": steps, "side": 16, "width": WIDTH, "trials": [list(t) for t in TRIALS]})
    methods = only.split(",") if only else JOINT
    trials = [(method, name, rate) for method in methods for name, rate in TRIALS]
    jobs = [(f"{method}/{name} {rate:g}", trial, (method, name, rate, steps)) for method, name, rate in trials]
    rows.make(jobs, lambda: {"best": best(rows.rows)}, together=2)
    jobs = []
    first = {f"{name} {rate:g}" for name, rate in TRIALS}
    for method, choice in best({k: r for k, r in rows.rows.items() if k.partition("/")[2] in first}).items():
        name, rate = next((n, r) for n, r in TRIALS if choice.startswith(f"{n} {r:g}:"))
        if method in methods and method not in KEPT_VIEWS:
            views = OTHER_VIEWS.get(method, "vicreg")
            jobs.append((f"{method}/best with {views} views", trial, (method, name, rate, steps, views)))
    for method, (name, rate, changed) in SETTINGS.items():
        if method in methods:
            jobs.append((f"{method}/other settings", trial, (method, name, rate, steps, "vicreg", changed)))
    for method, (batch, name, rate, changed) in SMALLER.items():
        if method in methods:
            longer = steps * 256 // batch
            jobs.append((f"{method}/smaller batches", trial, (method, name, rate, longer, "vicreg", changed, batch)))
    for rate_of_predictor in PREDICTOR_RATES:
        for method, (batch, name, rate, changed) in PREDICTORS.items():
            if method in methods:
                changed = {**changed, "predictor_rate": rate_of_predictor}
                key = f"{method}/predictor x {rate_of_predictor}"
                jobs.append((key, trial, (method, name, rate, steps * 256 // batch, "vicreg", changed, batch)))
    for method, looks in SECOND.items():
        for number, (batch, name, rate, changed) in enumerate(looks, 1):
            if method in methods:
                views, longer = OTHER_VIEWS.get(method, "vicreg"), steps * BATCH.get(method, 256) // batch
                key = f"{method}/second look {number}"
                jobs.append((key, trial, (method, name, rate, longer, views, changed, batch)))
    rows.make(jobs, lambda: {"best": best(rows.rows)}, together=2)
    for method, choice in best(rows.rows).items():
        print(f"{method:14s} {choice}")


def best(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The trial of each method with the highest kNN accuracy."""
    found: dict[str, tuple[float, str]] = {}
    for key, row in rows.items():
        method, _, name = key.partition("/")
        found[method] = max(found.get(method, (-1.0, "")), (row.get("knn", 0.0), name))
    return {method: f"{name}: {knn:.1f}" for method, (knn, name) in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", default="", help="methods, separated by commas")
    main(**vars(parser.parse_args()))
