"""The lower bound on the total variation, where that is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from swell.adaptive.divergence import Divergence, divergence
from swell.errors import InputError


def as_they_are(samples: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(samples)


def normal(n: int, shift: float, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    x[:, 0] += shift
    return x


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_shifted_normals(shift):
    """TV = 2 Phi(shift / 2) - 1, which a logistic classifier reaches."""
    truth = 2 * NormalDist().cdf(shift / 2) - 1
    found = divergence(normal(2500, 0, 1), normal(2500, shift, 2), as_they_are)
    assert found.low <= truth + 0.02
    assert found.value == pytest.approx(truth, abs=0.05)
    assert found.low < found.value < found.high


def test_equal_sets_and_sets_apart():
    same = divergence(normal(1500, 0, 1), normal(1500, 0, 2), as_they_are)
    assert same.value < 0.06
    assert same.low == 0
    apart = divergence(normal(300, 0, 1), normal(300, 20, 2), as_they_are)
    assert apart.value == 1
    assert apart.low > 0.95


def test_it_does_not_depend_on_the_order_of_sorted_samples_and_is_repeatable():
    """The first rows alone would be the smallest: a set sorted by its first value is drawn from at random."""
    x = normal(6000, 0, 1)
    found = divergence(x[np.argsort(x[:, 0])], normal(6000, 0, 2), as_they_are)
    assert found.value < 0.06
    assert found == divergence(x[np.argsort(x[:, 0])], normal(6000, 0, 2), as_they_are)


def test_a_hold_out_of_scikit_learn_agrees():
    a, b = normal(1000, 0, 3), normal(1000, 0.8, 4)
    x, y = np.concatenate([a, b]), np.repeat([0, 1], 1000)
    order = np.random.default_rng(0).permutation(2000)
    train, test = order[:1600], order[1600:]
    score = LogisticRegression(C=0.1).fit(x[train], y[train]).score(x[test], y[test])
    assert divergence(a, b, as_they_are).accuracy == pytest.approx(score, abs=0.05)


def test_wilsons_interval():
    found = Divergence.from_accuracy(0.6, 500)
    z, n = 1.959964, 1000
    # the ends of Wilson's interval solve (p - accuracy)^2 = z^2 p (1 - p) / n
    for end in (found.low, found.high):
        p = (1 + end) / 2
        assert (p - 0.6) ** 2 == pytest.approx(z * z * p * (1 - p) / n, rel=1e-4)
    assert Divergence.from_accuracy(0.45, 500).value == 0  # worse than chance is chance
    assert Divergence.from_accuracy(1.0, 500).high == pytest.approx(1.0)
    assert math.isclose(Divergence.from_accuracy(0.75, 10**6).low, 0.5, abs_tol=0.01)


def test_bad_input():
    with pytest.raises(InputError, match="at least 10"):
        divergence(normal(9, 0, 1), normal(50, 0, 1), as_they_are)
    with pytest.raises(InputError, match="accuracy"):
        Divergence.from_accuracy(1.2, 10)
