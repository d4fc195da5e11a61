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
choosing the penalty. A change to any of this gets a new version name. Intervals and calibration are told beside the
scores and have versions of their own.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.evaluation import clusters, few_shot, knn, logistic
from swell.evaluation.calibration import calibration, confidences
from swell.evaluation.features import (
    Array,
    Standardiser,
    accuracy,
    as_features,
    as_splits,
    balanced_accuracy,
    exact_arithmetic,
    unit_rows,
)
from swell.evaluation.intervals import balanced_interval, mean_interval
from swell.evaluation.predictions import Predictions

PROBE = "swell-probe-1"
K, TEMPERATURE = 20, 0.07
SHOTS = (1, 10)


class FittedProbe:
    """The probe, fitted on train and scored on test, and ready for samples to come.

    Attributes:
        result: what `probe` returns.
        predictions: what it said of every test row, by the labels that were given.
        calibration: how far the probabilities of "linear" can be trusted, see `swell.evaluation.calibration`.
    """

    def __init__(self, train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, seed: int = 0) -> None:
        self.train, self.test, self.classes = as_splits(train_x, train_y, test_x, test_y)
        self.seed = seed
        count = len(self.classes)
        seconds: dict[str, float] = {}
        self._right: dict[str, np.ndarray] = {}  # per test row, by score
        self.result: dict[str, Any] = {
            "probe": PROBE,
            "n_train": len(self.train.x),
            "n_test": len(self.test.x),
            "n_classes": count,
            "only_in_test": self.classes[~_present(self.train.y, count)].tolist(),
            "only_in_train": self.classes[~_present(self.test.y, count)].tolist(),
        }
        parts = {"knn": self._knn, "linear": self._linear, "few_shot": self._few_shot, "clusters": self._clusters}
        with exact_arithmetic(), Progress("probe", total=len(parts)) as bar:
            for done, (name, part) in enumerate(parts.items()):
                bar.update(done, note=name)
                start = time.perf_counter()
                self.result[name] = part()
                seconds[name] = time.perf_counter() - start
        self.result |= {"seconds": seconds, "settings": _settings(seed)}
        self.calibration = calibration(self._confidences, self._right["linear"], seed)
        given = {name: self.classes[found.cpu().numpy()] for name, found in self._predicted.items()}
        shares = {f"few_shot_{shots}": self._right[f"few_shot_{shots}"].astype(np.float32) for shots in SHOTS}
        truth = self.classes[self.test.y.cpu().numpy()]
        self.predictions = Predictions(truth, given, self._confidences.confidence.astype(np.float32), shares)

    def knn(self, x: Array) -> np.ndarray:
        """Labels [k] that the nearest neighbours in train give to features `x` [k, D]."""
        with exact_arithmetic():
            return self._labels(self._nearest(self._features(x)))

    def linear(self, x: Array) -> np.ndarray:
        """Labels [k] by the linear probe of features `x` [k, D]."""
        with exact_arithmetic():
            return self._labels(self.fit.predict(self.standardise(self._features(x))))

    def _features(self, x: Array) -> Tensor:
        return as_features(x, "further").to(self.train.x.device)

    def _labels(self, found: Tensor) -> np.ndarray:
        return np.asarray(self.classes[found.cpu().numpy()])

    def _nearest(self, x: Tensor) -> Tensor:
        return knn.votes(self.train.x, self.train.y, x, len(self.classes), K, TEMPERATURE).argmax(1)

    def _knn(self) -> dict[str, Any]:
        predicted = self._nearest(self.test.x)
        self._predicted = {"knn": predicted}
        return {**self._scores("knn", predicted), "k": min(K, len(self.train.x)), "temperature": TEMPERATURE}

    def _linear(self) -> dict[str, Any]:
        self.standardise = Standardiser.fit(self.train.x)
        self.fit, how = logistic.choose_and_fit(
            self.standardise(self.train.x), self.train.y, len(self.classes), self.seed
        )
        logits = self.fit.logits(self.standardise(self.test.x))
        self._predicted["linear"] = predicted = logits.argmax(1)
        self._confidences = confidences(logits, self.test.y)
        return {**self._scores("linear", predicted), **how}

    def _few_shot(self) -> dict[str, Any]:
        train, test, count = self.train, self.test, len(self.classes)
        a, b = unit_rows(self.standardise(train.x)), unit_rows(self.standardise(test.x))
        rows = train.y.bincount(minlength=count)
        means, sds, intervals, short = {}, {}, {}, {}
        for shots in SHOTS:
            hits = few_shot.few_shot_hits(a, train.y, b, test.y, count, shots, seed=self.seed)
            found = hits.double().mean(1)
            means[str(shots)], sds[str(shots)] = found.mean().item(), found.std(correction=1).item()
            self._right[f"few_shot_{shots}"] = share = hits.double().mean(0).cpu().numpy()
            intervals[str(shots)] = mean_interval(share, self.seed)
            short[str(shots)] = self.classes[((rows > 0) & (rows < shots)).cpu().numpy()].tolist()
        more = {"sd": sds, "interval": intervals, "draws": few_shot.DRAWS, "short_classes": short}
        return {**means, **more}

    def _clusters(self) -> dict[str, Any]:
        k = len(torch.unique(self.train.y))
        found, rows = clusters.assign(self.train.x, self.test.x, k, self.seed)
        return {**clusters.agreement(found, self.test.y), "k": k, "rows": rows}

    def _scores(self, name: str, predicted: Tensor) -> dict[str, Any]:
        """Accuracies with their intervals over test rows."""
        truth = self.test.y
        self._right[name] = right = (predicted == truth).cpu().numpy()
        return {
            "accuracy": accuracy(predicted, truth),
            "balanced_accuracy": balanced_accuracy(predicted, truth),
            "interval": mean_interval(right, self.seed),
            "balanced_interval": balanced_interval(right, truth.cpu().numpy(), self.seed),
        }


def probe(train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, seed: int = 0) -> dict[str, Any]:
    """Scores of features `train_x` [n, D], `test_x` [m, D] (float32) against labels [n], [m] (int64).

    Returns a dict ready for JSON: "knn" and "linear" hold "accuracy" and "balanced_accuracy" (mean over
    classes), each with its interval over test rows, "few_shot" the mean accuracy under "1" and "10" and their "sd"
    over "draws", "clusters" "ari" and "nmi". Test rows of a class that train lacks count as wrong. Work is done where
    `train_x` lies.

    Raises:
        InputError: features not finite or not [n, D]; labels missing, negative or no integers; a single
        class.
    """
    return FittedProbe(train_x, train_y, test_x, test_y, seed=seed).result


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
