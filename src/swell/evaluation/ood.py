"""Do the features tell samples of another kind from those they know? Out-of-distribution detection by the distance to
the k-th nearest train sample (Sun et al. 2022, arXiv 2204.06507). No labels, nothing fitted.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from swell.evaluation import knn
from swell.evaluation.features import Array, as_features, exact_arithmetic, unit_rows
from swell.evaluation.intervals import mean_interval

OOD = "swell-ood-1"
K = 20  # as the probe's neighbours; of fewer train samples the farthest
MOST = 10_000  # samples of the other set that are encoded, evenly spaced
LEVEL_Z = 1.959963984540054  # of a normal interval at 0.95


def distances(train: Array, queries: Array, k: int = K) -> np.ndarray:
    """1 - cosine to the k-th nearest of `train` [n, D], float64 [m], for `queries` [m, D]."""
    a, b = as_features(train, "train"), as_features(queries, "further")
    with exact_arithmetic():
        known, found = unit_rows(a), []
        for rows in torch.split(b.to(a.device), knn.TEST_ROWS):
            cosine, _ = knn.neighbours(known, unit_rows(rows), min(k, len(known)))
            found.append(1 - cosine[:, -1].double())
    return torch.cat(found).cpu().numpy()


def auroc(inside: np.ndarray, outside: np.ndarray) -> tuple[float, list[float]]:
    """The share of pairs in which the one from `outside` [o] has the larger score than the one from `inside` [m], equal
    ones counting half, and its 95 % interval after DeLong et al. 1988.
    """
    a, b = np.sort(inside), np.sort(outside)
    of_outside = (np.searchsorted(a, outside, "left") + np.searchsorted(a, outside, "right")) / (2 * len(a))
    of_inside = 1 - (np.searchsorted(b, inside, "left") + np.searchsorted(b, inside, "right")) / (2 * len(b))
    area = float(of_outside.mean())
    if area in (0.0, 1.0):  # no pair goes the other way: the open end as of an accuracy of the smaller set
        return area, mean_interval(np.full(min(len(a), len(b)), area))
    parts = (p.var(ddof=1) / len(p) if len(p) > 1 else 0.0 for p in (of_inside, of_outside))
    half = LEVEL_Z * float(np.sqrt(sum(parts)))
    return area, [max(0.0, area - half), min(1.0, area + half)]


def false_positives(inside: np.ndarray, outside: np.ndarray, kept: float = 0.95) -> float:
    """The share of `outside` that is taken for known where the threshold lets the share `kept` of `inside` pass."""
    limit = np.sort(inside)[int(np.ceil(kept * len(inside))) - 1]
    return float((outside <= limit).mean())


def ood(train: Array, test: Array, other: Array) -> dict[str, Any]:
    """How well the distance to the known tells test samples (known) from samples of another set, ready for JSON.

    "auroc" 0.5 is chance, below it the others seem more familiar than the test samples; "fpr95" is the share of them
    that passes for known where 95 % of the test samples do.

    Raises:
        InputError: features that are not finite, not [n, D].
    """
    started = time.perf_counter()
    known, strange = distances(train, test), distances(train, other)
    area, interval = auroc(known, strange)
    return {
        "protocol": OOD,
        "auroc": area,
        "interval": interval,
        "fpr95": false_positives(known, strange),
        "n_known": len(known),
        "n_other": len(strange),
        "seconds": time.perf_counter() - started,
        "settings": {"k": K, "features": "unit length", "distance": "1 - cosine", "most": MOST, "interval": "DeLong"},
    }
