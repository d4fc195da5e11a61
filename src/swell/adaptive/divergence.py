"""How far generated samples lie from real ones: total variation, bounded from below by a classifier.

The optimal classifier tells equally many samples of P and Q apart with accuracy (1 + TV(P, Q)) / 2, any other one with
less, and features can only lose: so TV >= 2 accuracy - 1 for every classifier on every features. The test is
Lopez-Paz and Oquab's (arXiv 1610.06545); that it bounds the total variation is the Neyman-Pearson lemma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.generators.metrics import classifier_test
from swell.seeding import generator_for

MOST_ROWS = 2500  # of each kind, as in the verdict on generated samples
Encode = Callable[[np.ndarray], Tensor | np.ndarray]  # samples [N, ...] -> features [N, d]


@dataclass(frozen=True)
class Divergence:
    """`value` = 2 accuracy - 1, cut to [0, 1], with the ends of its interval.

    All three bound the total variation from below, `low` with confidence; a better encoder or classifier may find more.
    """

    value: float
    low: float
    high: float
    accuracy: float
    rows: int  # of each kind

    @classmethod
    def from_accuracy(cls, accuracy: float, rows: int, level: float = 0.95) -> Divergence:
        """From the held-out `accuracy` of a two-sample test on `rows` rows of each kind, say `c2st` of quality.json.

        The interval is Wilson's for 2 `rows` independent trials. Two things make it a little too narrow: folds share
        their training rows, and the accuracy is the better one of two classifiers.

        Raises:
            InputError: an accuracy outside [0, 1], or no rows.
        """
        if not 0 <= accuracy <= 1 or rows < 1:
            raise InputError(f"accuracy {accuracy} on {rows} rows", "one from 0 to 1 on at least 1 row of each kind")
        z, n = NormalDist().inv_cdf((1 + level) / 2), 2 * rows
        middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
        value, low, high = (min(max(2 * a - 1, 0.0), 1.0) for a in (accuracy, middle - half, middle + half))
        return cls(value, low, high, accuracy, rows)


def divergence(real: Any, generated: Any, encode: Encode, seed: int = 0) -> Divergence:
    """Of `generated` from `real` samples, [N, ...] and [M, ...], in the features of a reference encoder.

    At most 2,500 of each are used, chosen at random. `encode` should know real samples only (`Reference.features` of
    the generator's folder is such a one): an encoder trained on generated samples may have learnt to overlook what
    tells them apart. `real` should not hold what the generator has learnt from: beside its training samples a
    generator that copies looks perfect, and this number does not see copies in any case.

    Raises:
        InputError: fewer than ten samples of a kind.
    """
    rows = min(len(real), len(generated), MOST_ROWS)
    if rows < 10:
        raise InputError(f"{len(real)} real and {len(generated)} generated samples", "at least 10 of each")
    a = torch.as_tensor(encode(some(real, rows, seed, "real")))
    b = torch.as_tensor(encode(some(generated, rows, seed, "generated")))
    return Divergence.from_accuracy(classifier_test(a, b, most=MOST_ROWS, seed=seed).accuracy, rows)


def some(samples: Any, count: int, seed: int, name: str) -> np.ndarray:
    """`count` of `samples` [N, ...] (an array or SparseRows) in random order, dense; all where N is no more."""
    order = torch.randperm(len(samples), generator=generator_for(seed, "adapt", name))[:count]
    return np.asarray(samples[order.numpy()])
