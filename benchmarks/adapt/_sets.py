"""The sets of the proof: unlabelled samples to train on, a reference of them held out, and labels that only judge.

What the chooser goes by was settled on the five of `SETS`; on those of `HELD_OUT` nothing was.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _panels import ROOT  # noqa: F401  (puts benchmarks/ on the path)

from _arms import cifar10_source
from _cells import cells_source, cross_validated
from swell.data.open import open_data
from swell.data.source import Source
from swell.evaluation.evaluate import evaluate_encoder
from swell.evaluation.reference import Reference
from swell.nets.encoder import Encoder
from swell.recipes import Recipe, load_recipe

SETS = ("digits", "fashion", "cifar10", "paul15", "pbmc4k")
HELD_OUT = ("fashion_1k", "cifar10_2k", "bladder", "pancreas", "pbmc68k")
CELLS = ("paul15", "pbmc4k", "bladder", "pancreas", "pbmc68k")
IMAGES, TESTED = 5000, 5000  # training and test images of the larger sets
FURTHER = {"fashion_1k": 1000, "cifar10_2k": 2000}  # images that come after those
STEPS = 300


@dataclass(frozen=True)
class Task:
    """One set. The first three sources have no labels."""

    real: Source
    rest: Source  # what candidates are trained on
    reference: Reference
    recipe: Recipe
    train: Source  # labelled, for the probe
    test: Source | None  # None: cross-validated

    def judged(self, encoder: Encoder, seed: int) -> dict[str, float]:
        """Linear and kNN accuracy in per cent."""
        if self.test is None:
            assert self.train.labels is not None
            found = cross_validated(encoder.encode(self.train.samples), self.train.labels, seed)
            return {name: float(np.mean(found[name])) for name in ("linear", "knn")}
        result = evaluate_encoder(encoder, self.train, self.test)
        return {name: 100 * result[name]["accuracy"] for name in ("linear", "knn")}


def task(name: str) -> Task:
    train, test = _labelled(name)
    real = train.unlabelled()
    reference, rest = Reference.of(real)
    return Task(real, rest, reference, _recipe(name), train, test)


def _labelled(name: str) -> tuple[Source, Source | None]:
    if name in CELLS:
        return cells_source(name), None
    if name == "digits":
        parts = [open_data(f"builtin:digits:{part}", labels=True) for part in ("train", "test")]
    elif name.startswith("fashion"):
        parts = [open_data(f"builtin:fashion-mnist:{part}", labels=True) for part in ("train", "test")]
    else:
        parts = [cifar10_source(part) for part in ("train", "test")]
    first = IMAGES if name in FURTHER else 0
    train = parts[0].subset(np.arange(first, min(len(parts[0]), first + FURTHER.get(name, IMAGES))))
    return halved(train), halved(parts[1].subset(np.arange(min(len(parts[1]), TESTED))))


def halved(source: Source) -> Source:
    """Images of more than 16 pixels at half their side, by the mean of four pixels."""
    n, c, h, w = source.samples.shape
    if h <= 16:
        return source
    wide = np.asarray(source.samples, np.float32).reshape(n, c, h // 2, 2, w // 2, 2)
    return replace(source, samples=wide.mean((3, 5)).round().astype(np.uint8))


def _recipe(name: str) -> Recipe:
    """SimCLR at full strength; only weight, strength and amount are searched."""
    if name in CELLS:
        return Recipe(method="simclr", views="cells", steps=STEPS)
    flat = replace(load_recipe("digits"), steps=STEPS)
    return flat if name == "digits" else replace(flat, views="simclr", width=0.5)


def scratch() -> Path:
    """Where generated samples and features wait between rows: not results, and too large to keep."""
    return Path(tempfile.gettempdir()) / "swell-benchmarks" / "adapt"


def settings(sets: tuple[str, ...] = SETS) -> dict[str, Any]:
    return {"sets": list(sets), "images": IMAGES, "tested": TESTED, "steps": STEPS}
