"""Labelling error and connectivity estimated on real data, over strength and number of samples.

    python benchmarks/adapt/estimated.py [--seeds 1] [--steps 150]

Labelling error: how often a view leaves its sample's cluster in the features of one reference encoder a set. Connectivity:
1 - the k-th canonical correlation between views, of an encoder trained on so many samples at that strength, on its own
training samples (their graph) and on unseen ones (the population's). Labels are not used. Goes on where it stopped; writes
benchmarks/results/DATE-adapt-estimated/result.json and docs/adapt-estimated.svg.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _panels import ROOT, Line, Panel, claim, draw
from safetensors.torch import load_file, save_file

import swell
from _arms import Rows, cifar10_source
from _cells import cells_source
from swell.adaptive.overlap import view_features as seen_by
from swell.data.source import Source
from swell.evaluation.graph_scores import K, connectivity, label_error
from swell.evaluation.reference import Reference, view_features
from swell.evaluation.statistics import summarise
from swell.files import atomic_path
from swell.generators.reference import Reference as Eyes
from swell.recipes import Recipe
from swell.views.plan import VectorGroup, ViewPlan
from swell.views.presets import simclr

AMOUNTS = {"CIFAR-10": [500, 1400, 4000], "pbmc4k": [500, 1200, 3000]}
TITLES = {"CIFAR-10": "CIFAR-10 at 16 x 16", "pbmc4k": "blood cells (PBMC 4k)"}
STRENGTHS = [0.25, 0.5, 1.0]
HELD_OUT, JUDGED = 1000, 500  # samples; as many are judged whatever was trained on, as estimates lean with their number
VIEWS = 4
CELLS = ViewPlan((VectorGroup(count=2, mask=0.8),))  # strong; half of the features hidden is usual, at strength 0.6


def samples_of(name: str) -> tuple[Source, Source]:
    """Samples to train on, in random order, and unseen ones."""
    if name == "CIFAR-10":
        images = np.asarray(cifar10_source("train").samples[:5000], np.float32)
        small = images.reshape(*images.shape[:2], 16, 2, 16, 2).mean((3, 5)).round().astype(np.uint8)
        source = replace(cifar10_source("train"), samples=small, labels=None, classes=())
    else:
        source = cells_source(name).unlabelled()
    order = np.random.default_rng(0).permutation(len(source))
    return source.subset(order[HELD_OUT:]), source.subset(order[:HELD_OUT])


def eyes_of(name: str, train: Source) -> Eyes:
    """The reference encoder of a set, fitted once."""
    file = Path(tempfile.gettempdir()) / "swell-benchmarks" / f"eyes-{train.fingerprint}.safetensors"
    if not file.exists():
        made = Eyes.fit(train.samples[:], 0, device="cpu")
        with atomic_path(file) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in made.to_tensors().items()}, temporary)
    return Eyes.from_tensors(load_file(file), "cpu")


def plan_of(name: str, strength: float) -> ViewPlan:
    return (simclr() if name == "CIFAR-10" else CELLS).at_strength(strength)


def run(name: str, amount: int, strength: float, steps: int, seed: int) -> dict[str, Any]:
    begun = time.perf_counter()
    train, unseen = samples_of(name)
    eyes, plan = eyes_of(name, train), plan_of(name, strength)
    part = train.subset(np.arange(amount))
    recipe = Recipe(views=plan, width=0.5, batch_size=128, steps=steps, preset="auto", seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = swell.pretrain(part, Path(folder) / "run", recipe=recipe, seed=seed, quiet=True, report=False)
        encoder = run.encoder
    group = replace(plan.groups[0], count=VIEWS)
    some = part.samples[amount - JUDGED : amount]
    graphs = {"own": some, "unseen": unseen.samples[:JUDGED]}
    found = {
        where: connectivity(view_features(encoder, Reference(x, ViewPlan((group,)), seed)).cpu())
        for where, x in graphs.items()
    }
    views = seen_by(some, plan, eyes.features, seed)
    return {
        "connectivity": found["own"],
        "connectivity_unseen": found["unseen"],
        "label_error": label_error(eyes.features(some), views, seed),
        "steps": steps,
        "wall_seconds": time.perf_counter() - begun,
    }


def figure(rows: Rows, seeds: int, steps: int) -> None:
    panels = []
    for name, amounts in AMOUNTS.items():
        for what, label in (("label_error", "labelling error"), ("connectivity", "connectivity")):
            lines = []
            for key, n in enumerate(amounts):
                points = []
                for s in STRENGTHS:
                    if found := rows.of(f"{name}/{n}/{s:g}"):
                        mean, sd = summarise([row[what] for row in found])
                        points.append((s, mean, sd or 0.0))
                if points:
                    lines.append(Line(f"{n}", tuple(points), key))
            panels.append(Panel(f"{TITLES[name]}: {label}", "strength of the views", label, tuple(lines)))
    note = (
        f"Labelling error: share of views that leave their sample's cluster, over chance, in one reference encoder. "
        f"Connectivity: 1 - the {K}th canonical correlation between views in an encoder trained for {steps} steps at that "
        f"strength on so many samples, on {JUDGED} of them. {seeds} seed{'s' * (seeds > 1)}; whiskers one standard deviation."
    )
    legends = {
        TITLES[name].split()[0] + ":": {key: f"{n:,} samples" for key, n in enumerate(amounts)}
        for name, amounts in AMOUNTS.items()
    }
    draw(ROOT / "docs" / "adapt-estimated.svg", panels, legends, note)


def rises(rows: Rows, what: str) -> tuple[int, int, int, int]:
    """Of neighbouring strengths and of neighbouring amounts, in how many the quantity rises: (rises, all) of each."""
    mean = {key.rpartition("/")[0]: row[what] for key, row in rows.rows.items() if key.endswith("/0")}
    strength, amount = [0, 0], [0, 0]
    for name, amounts in AMOUNTS.items():
        for i, n in enumerate(amounts):
            for j, s in enumerate(STRENGTHS):
                here = mean.get(f"{name}/{n}/{s:g}")
                for count, key in (
                    (strength, f"{name}/{n}/{STRENGTHS[j + 1]:g}" if j + 1 < len(STRENGTHS) else ""),
                    (amount, f"{name}/{amounts[i + 1]}/{s:g}" if i + 1 < len(amounts) else ""),
                ):
                    if here is not None and key in mean:
                        count[0] += mean[key] > here
                        count[1] += 1
    return (*strength, *amount)


def main(seeds: int, steps: int) -> None:
    settings = {"steps": steps, "amounts": AMOUNTS, "strengths": STRENGTHS, "k": K, "views": VIEWS, "judged": JUDGED}
    rows = Rows("adapt-estimated", settings)
    jobs = [
        (f"{name}/{n}/{s:g}/{seed}", run, (name, n, s, steps, seed))
        for seed in range(seeds)
        for name, amounts in AMOUNTS.items()
        for n in amounts
        for s in STRENGTHS
    ]

    def more() -> dict[str, Any]:
        told = {what: rises(rows, what) for what in ("label_error", "connectivity")}
        detail = "; ".join(
            f"{what.replace('_', ' ')} rises with strength in {a} of {b} steps and with the amount in {c} of {d}"
            for what, (a, b, c, d) in told.items()
        )
        mean, sd = summarise([row["connectivity"] for row in rows.rows.values()])
        text = claim("Estimated connectivity", mean, sd, len(rows.rows), rows.seconds, "", detail, "1 thread a run")
        return {"claim": text, "rises": told}

    rows.make(jobs, more, together=2)
    figure(rows, seeds, steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=150)
    main(**vars(parser.parse_args()))
