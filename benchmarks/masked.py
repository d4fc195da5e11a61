"""MAE, MixedAE, naive mixing and SimCLR on one small ViT for equal minutes of CIFAR-10, then every measure of it.

    python benchmarks/masked.py [--minutes 5] [--seeds 2] [--only mae,mixed_ae] [--samples 0] [--rates-only]

Linear probe and kNN, fine-tuning on a tenth of the labels, mean IoU on mosaics of test images, and what each cost.
Beside them pixels, PCA and the untrained net, and fine-tuning from scratch. No setting was chosen on test images: all
have AdamW, at the rate that masked_rates.py found best of three on training images (SimCLR too: the SGD of its own preset
is for ResNets). How many steps fit into the minutes is measured first, by the clock, on a machine that does nothing
else: half a minute of every arm on all cores. Then all train so many steps, two at a time, so that other work beside
them costs no accuracy. Goes on where it stopped; `samples` takes the first so many images only, to try it out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402

import swell  # noqa: E402
from _arms import Job, Rows, cifar10_source, pretrained  # noqa: E402
from _common import claim  # noqa: E402
from swell.data.source import Source  # noqa: E402
from swell.evaluation.dense import evaluate_dense, mosaics_of  # noqa: E402
from swell.evaluation.evaluate import evaluate_baselines  # noqa: E402
from swell.evaluation.finetune import finetune  # noqa: E402
from swell.evaluation.statistics import summarise  # noqa: E402
from swell.methods.mixed_ae import MixedAE, attended_recall  # noqa: E402
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics  # noqa: E402
from swell.recipes import Recipe  # noqa: E402
from swell.views.plan import VIEWS  # noqa: E402

BACKBONE, WIDTH, BACKBONE_OPTIONS = "vit_tiny", 0.5, {"patch": 4, "depth": 6}
BATCH = 256
FRACTION = 0.1  # of the labels, for fine-tuning
RATED_MINUTES = 0.5  # of training, to see how many steps fit into a minute
RECALLED = 512  # test images in which attention is looked at
MIXED = {"method": "mixed_ae", "learning_rate": 2.5e-4}  # its ablations keep its rate
ARMS: dict[str, dict[str, Any]] = {
    "mae": {"method": "mae", "learning_rate": 5e-4},
    "mixed_ae": MIXED,
    "no_segments": {**MIXED, "method_options": {"segments": False}},  # nothing tells a token's image
    "naive": {**MIXED, "method_options": {"homologous": False, "contrast": 0.0, "segments": False}},
    "simclr": {
        "method": "simclr",
        "method_options": {"hidden": 512},
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
    },
}
PAPER = ("mixed_ae", "mae", "naive")  # its order on dense tasks, best first
COLUMNS = ("linear", "knn", "finetune", "dense_miou", "dense_accuracy", "recall", "steps", "samples", "teraflops")


def recipe_of(arm: str, minutes: float) -> Recipe:
    """The short preset of an arm's method on the small ViT."""
    return Recipe(
        preset="short", backbone=BACKBONE, width=WIDTH, backbone_options=dict(BACKBONE_OPTIONS), minutes=minutes,
        batch_size=BATCH, **ARMS[arm],
    )  # fmt: skip


def main(minutes: float, seeds: int, only: str, samples: int, rates_only: bool) -> None:
    settings = {"data": "CIFAR-10", "backbone": BACKBONE, "width": WIDTH, "options": BACKBONE_OPTIONS, "arms": ARMS}
    rows = Rows("masked", {**settings, "minutes": minutes, "batch": BATCH, "fraction": FRACTION, "samples": samples})
    arms = only.split(",") if only else list(ARMS)

    def more() -> dict[str, Any]:
        found = {arm: rows.of(arm) for arm in (*ARMS, "from_scratch") if rows.of(arm)}
        table = {arm: columns(made) for arm, made in found.items()}
        if any("dense_miou" not in table.get(arm, {}) for arm in PAPER):
            return {"table": table}
        dense = {arm: table[arm]["dense_miou"] for arm in PAPER}
        order = sorted(PAPER, key=lambda arm: -dense[arm][0])
        verdict = "the paper's order" if tuple(order) == PAPER else f"not the paper's order but {' > '.join(order)}"
        others = ", ".join(f"{arm} {dense[arm][0]:.1f}" for arm in PAPER[1:])
        detail = f"{others} in {minutes:g} minutes each: {verdict}"
        count = len(found["mixed_ae"])
        mean, sd = dense["mixed_ae"]
        line = claim(
            "MixedAE, mIoU on CIFAR-10 mosaics", mean, sd, count, rows.seconds, unit="%", detail=detail, **rows.origin()
        )
        return {"claim": line, "table": table, "paper_order": tuple(order) == PAPER}

    rows.make([(f"rate/{name}", rate, (name, samples)) for name in arms], more)
    if rates_only:
        return
    steps = {name: round(minutes * rows.rows[f"rate/{name}"]["steps_a_minute"]) for name in arms}
    jobs: list[Job] = [(f"{n}/{seed}", arm, (n, steps[n], seed, samples)) for seed in range(seeds) for n in arms]
    jobs += [("baselines", baselines, (samples,))]
    jobs += [(f"from_scratch/{seed}", from_scratch, (seed, samples)) for seed in range(seeds)]
    rows.make(jobs, more, together=2)


def columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sd of every column that the rows have; a diverged row has none."""
    values = {name: [row[name] for row in rows if name in row] for name in COLUMNS}
    return {name: summarise(found) for name, found in values.items() if found}


def splits(samples: int) -> tuple[Source, Source]:
    """CIFAR-10's train and test images, or the first so many of each."""
    both = cifar10_source("train"), cifar10_source("test")
    train, test = (source.subset(np.arange(samples)) for source in both) if samples else both
    return train, test


def rate(name: str, samples: int) -> dict[str, Any]:
    """How many steps of an arm fit into a minute, but for the first, in which memory is claimed."""
    train, _ = splits(samples)
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(name, RATED_MINUTES)
        out = Path(folder) / "run"
        run = swell.pretrain(train.unlabelled(), out, recipe=recipe, quiet=True, report=False)
        first, last = run.metrics[0], run.metrics[-1]
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
    return {"steps_a_minute": 60 * steps / seconds, "wall_seconds": seconds}


def arm(name: str, steps: int, seed: int, samples: int) -> dict[str, Any]:
    train, test = splits(samples)

    def further(run: swell.Run) -> dict[str, float]:
        dense, _ = evaluate_dense(run.encoder, *mosaics_of(train, test), baselines=False)
        last = run.metrics[-1]
        return {
            **tuned(run.encoder, train, test, seed),
            "dense_miou": 100 * dense["miou"],
            "dense_accuracy": 100 * dense["accuracy"],
            **{key: last[key] for key in ("reconstruction", "contrast", "recall") if key in last},
            **recalls(run, test),
        }

    return pretrained(recipe_of(name, 1).with_budget(steps=steps), train, train, test, seed, also=further)


@torch.no_grad()
def recalls(run: swell.Run, test: Source) -> dict[str, float]:
    """How often a token's own are among those it attends to most, block by block, on mixed test images; chance 1 / G."""
    method, parts = run.parts() or (None, None)
    if not isinstance(method, MixedAE) or parts is None:
        return {}
    torch.manual_seed(0)
    x = torch.from_numpy(test.samples[:RECALLED]).float() / 255
    plan = method.plan(parts, x)
    found = [attended_recall(run.encoder, x, plan, block).mean().item() for block in range(BACKBONE_OPTIONS["depth"])]
    return {f"attended_recall_{block + 1}": recall for block, recall in enumerate(found)}


def tuned(encoder: Encoder, train: Source, test: Source, seed: int, scratch: bool = False) -> dict[str, Any]:
    """Fine-tuning with the same views for every arm, in per cent, and what it cost."""
    found = finetune(
        encoder, train, test, fraction=FRACTION, plan=VIEWS["mae"](), scratch=scratch, seed=seed, quiet=True
    )
    return {
        "finetune": 100 * found["accuracy"],
        "finetune_seconds": found["seconds"],
        "finetune_steps": found["steps"],
        "finetune_teraflops": found["flops"] / 1e12,
    }


def untrained(train: Source) -> Encoder:
    statistics = channel_statistics(train.samples)
    return Encoder(EncoderConfig(BACKBONE, WIDTH, train.shape, *statistics, options=dict(BACKBONE_OPTIONS)))


def from_scratch(seed: int, samples: int) -> dict[str, Any]:
    """Fine-tuning without pre-training: what the labels alone are worth."""
    train, test = splits(samples)
    found = tuned(untrained(train), train, test, seed, scratch=True)
    return {**found, "wall_seconds": found["finetune_seconds"]}


def baselines(samples: int) -> dict[str, Any]:
    """Pixels, principal components and the untrained net, in per cent."""
    train, test = splits(samples)
    encoder = untrained(train)
    found = evaluate_baselines(encoder, train, test)
    dense, _ = evaluate_dense(encoder, *mosaics_of(train, test))
    return {
        "baselines": {n: {k: 100 * b[k]["accuracy"] for k in ("knn", "linear")} for n, b in found.items()},
        "dense": {n: {k: 100 * b[k] for k in ("miou", "accuracy")} for n, b in dense["baselines"].items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="arms, separated by commas")
    parser.add_argument("--samples", type=int, default=0, help="the first so many images only")
    parser.add_argument("--rates-only", action="store_true", help="only see how many steps fit into a minute")
    main(**vars(parser.parse_args()))
