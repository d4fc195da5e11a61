"""How long the probe takes: 50,000 x 512 train, 10,000 test, 10 and 100 classes, two threads.

    python benchmarks/probe.py [--out benchmarks/results/DATE-probe] [--threads 2] [--seeds 2] [--classes 10 100]

Features are synthetic: class means plus correlated noise through a ReLU, with a spectrum that falls over two decades.
scikit-learn's LogisticRegression (lbfgs) is fitted once per number of classes, on the same standardised features, at
the penalty the probe chose; it is compared with our single fit at that penalty from a cold start, in the same process.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import swell.evaluation.logistic as logistic
from swell.evaluation.features import Standardiser, exact_arithmetic
from swell.evaluation.probe import PROBE, probe
from swell.evaluation.statistics import summarise
from swell.files import write_json
from swell.ledger import peak_memory
from swell.seeding import generator_for

TRAIN, TEST, WIDTH = 50_000, 10_000, 512
PARTS = ("knn", "linear", "few_shot", "clusters")


def features(classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train and test features [n, 512] float32 >= 0 and labels."""
    g = generator_for(seed, "benchmark", classes)
    means = 0.25 * torch.randn(classes, WIDTH, generator=g)
    mixing = torch.randn(WIDTH, WIDTH, generator=g) / WIDTH**0.5 * torch.logspace(0.5, -1.5, WIDTH)[:, None]
    y = torch.randint(classes, (TRAIN + TEST,), generator=g)
    x = torch.relu((means[y] + torch.randn(TRAIN + TEST, WIDTH, generator=g)) @ mixing + 0.1)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def against_scikit_learn(classes: int, penalty: float, seed: int) -> dict[str, float]:
    """Seconds and test accuracy of one cold fit at `penalty`, ours and scikit-learn's at its default tolerance."""
    train_x, train_y, test_x, test_y = features(classes, seed)
    standardise = Standardiser.fit(train_x)
    a, b = standardise(train_x), standardise(test_x)
    with exact_arithmetic():
        start = time.perf_counter()
        ours = logistic.fit(a, train_y, classes, penalty, moment=logistic.second_moment(a))
        ours_s = time.perf_counter() - start
        accuracy = (ours.predict(b) == test_y).double().mean().item()
    model = LogisticRegression(C=1 / (TRAIN * penalty), max_iter=300)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(a.numpy(), train_y.numpy())
    theirs_s = time.perf_counter() - start
    theirs = float(model.score(b.numpy(), test_y.numpy()))
    return {
        "penalty": penalty,
        "seconds": ours_s,
        "iterations": ours.iterations,
        "accuracy": accuracy,
        "sklearn_seconds": theirs_s,
        "sklearn_iterations": int(model.n_iter_.max()),
        "sklearn_accuracy": theirs,
        "ratio": theirs_s / ours_s,
    }


def measure(classes: int, seeds: int) -> dict[str, Any]:
    runs = [probe(*features(classes, seed)) for seed in range(seeds)]
    seconds = {part: summarise([run["seconds"][part] for run in runs]) for part in PARTS}
    return {
        "classes": classes,
        "seconds": {part: {"mean": mean, "sd": sd, "n": seeds} for part, (mean, sd) in seconds.items()},
        "accuracy": {
            "knn": runs[0]["knn"]["accuracy"],
            "linear": runs[0]["linear"]["accuracy"],
            "few_shot_1": runs[0]["few_shot"]["1"],
            "few_shot_10": runs[0]["few_shot"]["10"],
            "ari": runs[0]["clusters"]["ari"],
        },
        "linear": {"penalty": runs[0]["linear"]["penalty"], "converged": [r["linear"]["converged"] for r in runs]},
        "peak_bytes": peak_memory(),
    }


def device() -> str:
    """Processor and threads, in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    return f"{name}, {torch.get_num_threads()} threads"


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + ("+changes" if changed.stdout.strip() else "")


def claim(row: dict[str, Any]) -> str:
    def told(part: str) -> str:
        s = row["seconds"][part]
        return f"{part} {s['mean']:.1f}" + ("" if s["sd"] is None else f" +- {s['sd']:.1f}") + " s"

    fit = row["logistic"]
    return (
        f"{row['classes']} classes: {', '.join(map(told, PARTS))} (n={row['seconds']['knn']['n']}); one cold "
        f"logistic fit {fit['seconds']:.1f} s against scikit-learn's {fit['sklearn_seconds']:.1f} s (n=1); "
        f"peak {row['peak_bytes'] / 2**30:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent / "results"
    out = here / f"{datetime.date.today()}-probe"
    parser.add_argument("--out", type=Path, default=out, help="folder of result.json")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use (default 2)")
    parser.add_argument("--seeds", type=int, default=2, help="feature sets per number of classes (default 2)")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="numbers of classes (default 10 100)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load, start = os.getloadavg()[0], time.perf_counter()
    rows = [measure(classes, args.seeds) for classes in args.classes]
    for row in rows:  # last, so that scikit-learn's memory does not count as ours
        row["logistic"] = against_scikit_learn(row["classes"], row["linear"]["penalty"], seed=0)
    seconds = time.perf_counter() - start
    line = (
        f"{PROBE}, {TRAIN:,} x {WIDTH} train, {TEST:,} test. "
        + ". ".join(map(claim, rows))
        + f". {seconds:.0f} s in all, {device()}, load of others {load:.1f}, commit {commit()}"
    )
    write_json(
        args.out / "result.json",
        {
            "claim": line,
            "probe": PROBE,
            "train": TRAIN,
            "test": TEST,
            "width": WIDTH,
            "rows": rows,
            "seconds": seconds,
            "device": device(),
            "commit": commit(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "date": str(datetime.date.today()),
            "load_before": load,
        },
    )
    print(line)


if __name__ == "__main__":
    main()
