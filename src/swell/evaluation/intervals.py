"""Bootstrap intervals of what is a mean over test samples: accuracies, average precision, differences of two runs.

    mean_interval(predicted == truth)                 # [low, high] of the accuracy

They say how much a score would move with other test samples from where these came from (Efron 1979); that another seed
of the training would give another encoder is not in them. Percentiles of the resampled means are taken. Resampling n
rows with replacement depends on the rows through their values alone, and those of an accuracy are few, so whole counts
are drawn (multinomially) instead of rows: the same distribution at a cost that does not grow with n. Of values that are
many, such as average precisions, neighbours are pooled first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from swell.errors import InputError
from swell.seeding import seed_for

INTERVALS = "swell-intervals-1"
LEVEL, RESAMPLES = 0.95, 2000
MOST_LEVELS = 256  # more different values than these, and rows are drawn
_BLOCK = 1 << 22  # counts drawn at a time: 32 MiB


def settings() -> dict[str, Any]:
    """What `evaluation.json` says of every interval in it."""
    return {
        "protocol": INTERVALS,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "of": "test samples, given the encoder and the train samples",
        "kind": "bootstrap percentiles",
    }


def mean_interval(values: Any, seed: int = 0) -> list[float]:
    """The interval at `LEVEL` of the mean of `values` [n], one of each test sample: [low, high].

    Where all values are 0, or all 1, resampling knows no other: then the open end is that of Clopper & Pearson (1934),
    1 - ((1 - LEVEL) / 2)^(1 / n) away.

    Raises:
        InputError: no values, or some that are not finite.
    """
    x = checked(values)
    if x.min() == x.max() and x[0] in (0.0, 1.0):
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / len(x))
        return [0.0, reach] if x[0] == 0 else [1 - reach, 1.0]
    return percentiles(resampled_means(x, seed))


def balanced_interval(right: Any, truth: Any, seed: int = 0) -> list[float]:
    """The same of the balanced accuracy: `right` [n] says of each sample whether it was named correctly.

    A class that a resample lacks is left out of its mean, as one that the test lacks is.
    """
    hit, y = checked(right), np.unique(np.asarray(truth), return_inverse=True)[1]
    if hit.min() == hit.max():
        return mean_interval(hit, seed)
    cells = np.bincount(2 * y + hit.astype(np.int64), minlength=2 * (y.max() + 1))  # wrong and right of each class
    means: list[np.ndarray] = []
    for size in _blocks(RESAMPLES, len(cells)):
        drawn = _rng(seed, len(means), "balanced").multinomial(len(hit), cells / len(hit), size)
        wrong, correct = drawn[:, ::2], drawn[:, 1::2]  # [size, C]
        rows = wrong + correct
        share = np.divide(correct, rows, out=np.zeros(rows.shape), where=rows > 0)
        means.append(share.sum(1) / (rows > 0).sum(1))
    return percentiles(np.concatenate(means))


def resampled_means(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Means [resamples] of as many resamples of `values` [n], float64."""
    n = len(values)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > MOST_LEVELS:  # neighbours in order of size are taken for their mean: the spread left out is tiny
        groups = np.array_split(np.sort(values), MOST_LEVELS)
        levels, counts = np.array([group.mean() for group in groups]), np.array([len(group) for group in groups])
    parts: list[np.ndarray] = []
    for size in _blocks(resamples, len(levels)):
        parts.append(_rng(seed, len(parts), "levels").multinomial(n, counts / n, size) @ levels / n)
    return np.concatenate(parts)


def percentiles(means: np.ndarray) -> list[float]:
    """[low, high], what lies between is `LEVEL` of `means`."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def checked(values: Any) -> np.ndarray:
    """`values` as finite float64 [n], n >= 1. Raises InputError for others."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise InputError(f"values {list(x.shape)} to resample", "finite numbers [n], one of each test sample")
    return x


def _blocks(count: int, width: int) -> list[int]:
    """`count` in parts of so many rows of `width` numbers as are made at a time."""
    each = max(1, _BLOCK // width)
    return [min(each, count - start) for start in range(0, count, each)]


def _rng(seed: int, block: int, what: str) -> np.random.Generator:
    return np.random.default_rng(seed_for(seed, "intervals", what, block))
