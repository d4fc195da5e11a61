"""A narrow ResNet-18 trained by SimCLR on CIFAR-10's 50,000 images for 15 minutes of two cores; then the probe.

    python benchmarks/cifar10_15min.py [--minutes 15] [--seeds 1]

Labels are read after the training only. The recipe was chosen on losses and rates, not on test accuracy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from swell.threads import bind_threads

bind_threads()

import swell  # noqa: E402
from _common import Load, cifar10, claim, write_result  # noqa: E402
from swell.data.source import Provenance, Source  # noqa: E402
from swell.evaluation.evaluate import evaluate_baselines, evaluate_encoder  # noqa: E402
from swell.evaluation.statistics import summarise  # noqa: E402

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def source(split: str) -> Source:
    images, labels = cifar10(split)
    return Source(images, Provenance("real", f"CIFAR-10 {split}"), labels, CLASSES)


def main(minutes: float, seeds: int) -> None:
    begun = time.perf_counter()
    train, test = source("train"), source("test")
    runs, baselines = [], {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            load = Load()
            run = swell.pretrain(
                train.unlabelled(), Path(folder) / "run", recipe="cifar10-2cores", minutes=minutes, seed=seed
            )
            busy = load.read()
            recipe, ledger, metrics = run.recipe, run.ledger, run.metrics
            result = evaluate_encoder(run.encoder, train, test)
            if not baselines:
                baselines = evaluate_baselines(run.encoder, train, test)
            cost = ledger.pretraining
            runs.append({
                "seed": seed, "knn": result["knn"]["accuracy"], "linear": result["linear"]["accuracy"], "few_shot": result["few_shot"],
                "clusters": result["clusters"], "label_free": result["label_free"], "steps": metrics[-1]["step"] + 1,
                "samples": cost.samples_real, "samples_per_second": cost.samples_real / cost.seconds, "flops": cost.flops,
                "gflops_per_second": cost.flops / cost.seconds / 1e9, "peak_memory_bytes": ledger.peak_memory_bytes,
                "first_loss": metrics[0]["loss"], "last_loss": metrics[-1]["loss"], "load": busy, "probe_seconds": result["seconds"],
            })  # fmt: skip
            print(runs[-1], flush=True)
    rows = {
        name: {"knn": b["knn"]["accuracy"], "linear": b["linear"]["accuracy"], "few_shot": b["few_shot"]}
        for name, b in baselines.items()
    }
    knn, linear = (summarise([100 * r[key] for r in runs]) for key in ("knn", "linear"))
    seconds = time.perf_counter() - begun
    best = max(100 * b["linear"] for b in rows.values())
    detail = (
        f"kNN {knn[0]:.1f} %, best baseline linear {best:.1f} %, ResNet-18 width {recipe.width:g}, {minutes:g} minutes"
    )
    path = write_result("cifar10-15min", {
        "claim": claim("CIFAR-10 SimCLR linear probe", *linear, len(runs), seconds, unit="%", detail=detail),
        "runs": runs, "baselines": rows, "recipe": recipe.to_dict(), "seconds": seconds, "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    })  # fmt: skip
    for name, b in rows.items():
        print(f"{name:12s} kNN {100 * b['knn']:.1f}  linear {100 * b['linear']:.1f}")
    print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seeds", type=int, default=1)
    main(**vars(parser.parse_args()))
