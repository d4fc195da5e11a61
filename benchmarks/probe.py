"""How long the probe takes, and its logistic regression beside scikit-learn's.

    python benchmarks/probe.py [--seeds 2] [--classes 10 100] [--no-real]

Seconds are of 50,000 x 512 train and 10,000 test features made of class means plus correlated noise through a ReLU, with a
spectrum that falls over two decades. scikit-learn's LogisticRegression (lbfgs) and ours are each fitted once from a cold
start, in turns in one process, on the same standardised features, at the penalty the probe chose: on these, and on three
real sets (10,000 of Fashion-MNIST's pixels, a fifth of CIFAR-10 through an untrained ResNet-18, the genes of CITE-CBMC). It is given
its default tolerance and, once, ours.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import swell.evaluation.logistic as logistic
from _arms import cifar10_source
from _cells import cells_source
from _common import commit, device_line, write_result
from swell.data.open import open_data
from swell.evaluation.evaluate import split
from swell.evaluation.features import Standardiser, exact_arithmetic
from swell.evaluation.probe import PROBE, probe
from swell.evaluation.statistics import summarise
from swell.ledger import peak_memory
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics
from swell.seeding import generator_for

TRAIN, TEST, WIDTH = 50_000, 10_000, 512
PARTS = ("knn", "linear", "few_shot", "clusters")
ROUNDS = 3
GOAL = 0.2  # points of accuracy between the two
Split = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # train features [n, D], labels, test ones


def made(classes: int, seed: int) -> Split:
    """Train and test features [n, 512] float32 >= 0 and labels."""
    g = generator_for(seed, "benchmark", classes)
    means = 0.25 * torch.randn(classes, WIDTH, generator=g)
    mixing = torch.randn(WIDTH, WIDTH, generator=g) / WIDTH**0.5 * torch.logspace(0.5, -1.5, WIDTH)[:, None]
    y = torch.randint(classes, (TRAIN + TEST,), generator=g)
    x = torch.relu((means[y] + torch.randn(TRAIN + TEST, WIDTH, generator=g)) @ mixing + 0.1)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def flat(train: Any, test: Any) -> Split:
    parts: list[torch.Tensor] = []
    for source in (train, test):
        rows = torch.as_tensor(np.asarray(source.samples)).flatten(1).float()
        parts += [rows, torch.as_tensor(source.labels).long()]
    return parts[0], parts[1], parts[2], parts[3]


def fashion() -> Split:
    parts = (("train", 10_000), ("test", 10_000))
    return flat(
        *(open_data(f"builtin:fashion-mnist:{part}", labels=True, quiet=True).subset(np.arange(n)) for part, n in parts)
    )


def cifar() -> Split:
    train, test = (cifar10_source(part).subset(np.arange(n)) for part, n in (("train", 10_000), ("test", 2_000)))
    torch.manual_seed(0)
    net = Encoder(EncoderConfig("resnet18", 1.0, train.shape, *channel_statistics(train.samples))).eval()
    x, y, test_x, test_y = flat(train, test)
    with torch.inference_mode():
        a, b = (
            torch.cat([net(part.unflatten(1, train.shape).to(torch.uint8)) for part in rows.split(500)])
            for rows in (x, test_x)
        )
    return a, y, b, test_y


def cells() -> Split:
    return flat(*split(cells_source("cite_cbmc")))


REAL = {"Fashion-MNIST": fashion, "CIFAR-10": cifar, "CITE-CBMC": cells}


def chosen_penalty(data: Split) -> float:
    """What the probe would choose."""
    x, y = data[:2]
    with exact_arithmetic():
        return float(logistic.choose_and_fit(Standardiser.fit(x)(x), y, int(y.max()) + 1, seed=0)[1]["penalty"])


def against_scikit_learn(data: Split, penalty: float, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds and test accuracy, in per cent, of one cold fit at `penalty`: ours, and scikit-learn's at two tolerances."""
    train_x, train_y, test_x, test_y = data
    standardise = Standardiser.fit(train_x)
    a, b, classes = standardise(train_x), standardise(test_x), int(train_y.max()) + 1
    seconds: dict[str, list[float]] = {"ours": [], "scikit-learn": [], "scikit-learn at our tolerance": []}
    accuracy: dict[str, float] = {}
    iterations: dict[str, int] = {}
    for number in range(rounds):
        for name, spent in seconds.items():
            if number and "tolerance" in name:
                continue
            start = time.perf_counter()
            if name == "ours":
                with exact_arithmetic():
                    found = logistic.fit(a, train_y, classes, penalty, moment=logistic.second_moment(a))
                spent.append(time.perf_counter() - start)
                iterations[name] = found.iterations
                accuracy[name] = 100 * (found.predict(b) == test_y).double().mean().item()
                continue
            own = {"tol": logistic.TOLERANCE} if "our" in name else {}
            model = LogisticRegression(C=1 / (len(a) * penalty), max_iter=300, **own)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(a.numpy(), train_y.numpy())
            spent.append(time.perf_counter() - start)
            iterations[name] = int(model.n_iter_.max())
            accuracy[name] = 100 * float(model.score(b.numpy(), test_y.numpy()))
    ratios = {
        name: summarise([theirs / ours for theirs, ours in zip(spent, seconds["ours"], strict=False)])
        for name, spent in seconds.items()
        if name != "ours"
    }
    shape = [*a.shape, classes]
    return {"shape": shape, "penalty": penalty, "seconds": seconds, "ratio": ratios, "iterations": iterations,
            "accuracy": accuracy}  # fmt: skip


def measure(classes: int, seeds: int) -> dict[str, Any]:
    runs = [probe(*made(classes, seed)) for seed in range(seeds)]
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


def told(row: dict[str, Any]) -> str:
    def part(name: str) -> str:
        s = row["seconds"][name]
        return f"{name} {s['mean']:.1f}" + ("" if s["sd"] is None else f" +- {s['sd']:.1f}") + " s"

    return (
        f"{row['classes']} classes: {', '.join(map(part, PARTS))} (n={row['seconds']['knn']['n']}), peak "
        f"{row['peak_bytes'] / 2**30:.2f} GiB"
    )


def times(ratio: tuple[float, float | None]) -> str:
    return f"{ratio[0]:.2f}" + ("" if ratio[1] is None else f" +- {ratio[1]:.2f}")


def main(seeds: int, classes: list[int], no_real: bool) -> None:
    start = time.perf_counter()
    rows = [measure(count, seeds) for count in classes]
    fits = {
        f"{r['classes']} classes": against_scikit_learn(made(r["classes"], 0), r["linear"]["penalty"]) for r in rows
    }
    for name, read in {} if no_real else REAL.items():
        data = read()
        fits[name] = against_scikit_learn(data, chosen_penalty(data))
        print(name, fits[name], flush=True)
    far = {name: abs(fit["accuracy"]["ours"] - fit["accuracy"]["scikit-learn"]) for name, fit in fits.items()}
    beside = "; ".join(
        f"{name} {times(fit['ratio']['scikit-learn'])} x, at our tolerance "
        f"{times(fit['ratio']['scikit-learn at our tolerance'])} x, {far[name]:.2f} points apart"
        for name, fit in fits.items()
    )
    line = (
        f"{PROBE}, {TRAIN:,} x {WIDTH} train, {TEST:,} test. {'. '.join(map(told, rows))}. One logistic fit as many times "
        f"as fast as scikit-learn's: {beside} (goal {GOAL} points); n={ROUNDS} rounds, "
        f"{time.perf_counter() - start:.0f} s, {device_line()}, commit {commit()}"
    )
    print(line)
    print(write_result("probe", {"claim": line, "probe": PROBE, "train": TRAIN, "test": TEST, "width": WIDTH,
                                 "rows": rows, "fits": fits, "seconds": time.perf_counter() - start}))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="feature sets per number of classes (default 2)")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="numbers of classes (default 10 100)")
    parser.add_argument("--no-real", action="store_true", help="leave out the three real sets")
    main(**vars(parser.parse_args()))
