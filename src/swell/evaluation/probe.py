"""swell-probe-1: the one evaluation protocol, frozen and versioned, for every arm of every comparison.

It sees features that are already computed, on clean whole samples, after pre-training has ended. An online
probe, trained beside the encoder on its augmented views, differs between arms in the labelled rows it sees
and in their distortion, so its accuracies do not compare. This one has nothing to set but the seed:

- knn: cosine, k = 20 (or n_train), votes weighted by exp(cosine / 0.07).
- linear: features standardised with train statistics; multinomial logistic regression to convergence; the
  penalty is chosen by accuracy on a stratified fifth of train, then all of train is fitted again. The test
  split chooses nothing.
- few_shot: 1 and 10 labelled rows per class, 50 draws that depend on the labels and the seed only; ridge
  regression on standardised features of unit length; mean accuracy and its sd over draws.
- clusters: k-means (k = classes in train) on train features of unit length; agreement of the test rows'
  nearest centres with their labels.

On one CPU with one number of threads the same input gives the same numbers bit for bit. The order of test
rows does not matter; the order of train rows decides which of them are drawn for the few-shot score and for
choosing the penalty. A change to any of this gets a new version name.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from swell.console import Progress
from swell.evaluation import clusters, few_shot, knn, logistic
from swell.evaluation.features import (
    Array,
    Split,
    Standardiser,
    accuracy,
    as_splits,
    balanced_accuracy,
    exact_arithmetic,
    unit_rows,
)

PROBE = "swell-probe-1"
K, TEMPERATURE = 20, 0.07
SHOTS = (1, 10)


def probe(train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, seed: int = 0) -> dict[str, Any]:
    """Scores of features `train_x` [n, D], `test_x` [m, D] (float32) against labels [n], [m] (int64).

    Returns a dict ready for JSON: "knn" and "linear" hold "accuracy" and "balanced_accuracy" (mean over
    classes), "few_shot" the mean accuracy under "1" and "10" and their "sd" over "draws", "clusters" "ari"
    and "nmi". Test rows of a class that train lacks count as wrong. Work is done where `train_x` lies.

    Raises:
        InputError: features not finite or not [n, D]; labels missing, negative or no integers; a single
        class.
    """
    train, test, classes = as_splits(train_x, train_y, test_x, test_y)
    count = len(classes)
    seconds: dict[str, float] = {}
    result: dict[str, Any] = {
        "probe": PROBE,
        "n_train": len(train.x),
        "n_test": len(test.x),
        "n_classes": count,
        "only_in_test": classes[~_present(train.y, count)].tolist(),
        "only_in_train": classes[~_present(test.y, count)].tolist(),
    }
    with exact_arithmetic(), Progress("probe", total=len(_PARTS)) as bar:
        for done, (name, part) in enumerate(_PARTS.items()):
            bar.update(done, note=name)
            start = time.perf_counter()
            result[name] = part(train, test, count, seed)
            seconds[name] = time.perf_counter() - start
    result["few_shot"]["short_classes"] = {
        s: [int(classes[c]) for c in short] for s, short in result["few_shot"]["short_classes"].items()
    }
    return {**result, "seconds": seconds, "settings": _settings(seed)}


def _knn(train: Split, test: Split, classes: int, seed: int) -> dict[str, Any]:
    predicted = knn.votes(train.x, train.y, test.x, classes, K, TEMPERATURE).argmax(1)
    return {**_scores(predicted, test.y), "k": min(K, len(train.x)), "temperature": TEMPERATURE}


def _linear(train: Split, test: Split, classes: int, seed: int) -> dict[str, Any]:
    standardise = Standardiser.fit(train.x)
    fitted, how = logistic.choose_and_fit(standardise(train.x), train.y, classes, seed)
    return {**_scores(fitted.predict(standardise(test.x)), test.y), **how}


def _few_shot(train: Split, test: Split, classes: int, seed: int) -> dict[str, Any]:
    standardise = Standardiser.fit(train.x)
    a, b = unit_rows(standardise(train.x)), unit_rows(standardise(test.x))
    rows = train.y.bincount(minlength=classes)
    means, sds, short = {}, {}, {}
    for shots in SHOTS:
        found = few_shot.few_shot(a, train.y, b, test.y, classes, shots, seed=seed)
        means[str(shots)], sds[str(shots)] = found.mean().item(), found.std(correction=1).item()
        short[str(shots)] = ((rows > 0) & (rows < shots)).nonzero()[:, 0].tolist()
    return {**means, "sd": sds, "draws": few_shot.DRAWS, "short_classes": short}


def _clusters(train: Split, test: Split, classes: int, seed: int) -> dict[str, Any]:
    k = len(torch.unique(train.y))
    found, rows = clusters.assign(train.x, test.x, k, seed)
    return {**clusters.agreement(found, test.y), "k": k, "rows": rows}


_PARTS = {"knn": _knn, "linear": _linear, "few_shot": _few_shot, "clusters": _clusters}


def _scores(predicted: Tensor, truth: Tensor) -> dict[str, float]:
    return {"accuracy": accuracy(predicted, truth), "balanced_accuracy": balanced_accuracy(predicted, truth)}


def _present(y: Tensor, classes: int) -> Any:
    return (y.bincount(minlength=classes) > 0).cpu().numpy()


def _settings(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "knn": {"features": "unit length", "k": K, "temperature": TEMPERATURE},
        "linear": {
            "features": "standardised",
            "penalties": list(logistic.PENALTIES),
            "patience": logistic.PATIENCE,
            "validation_share": logistic.VALIDATION_SHARE,
            "default_penalty": logistic.DEFAULT_PENALTY,
            "tolerance": logistic.TOLERANCE,
            "max_iterations": logistic.MAX_ITERATIONS,
        },
        "few_shot": {"features": "standardised, unit length", "ridge": few_shot.RIDGE, "draws": few_shot.DRAWS},
        "clusters": {
            "features": "unit length",
            "starts": clusters.STARTS,
            "max_rows": clusters.MAX_ROWS,
            "scored_on": "test",
        },
    }
