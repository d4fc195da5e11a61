from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from swell.report.projection import project


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 4
    return rng.normal(size=(4, 64))[label] * 4 + rng.normal(size=(n, 64)), label


def test_neighbours_stay_neighbours_and_the_map_repeats():
    features, label = clusters(400)
    index, xy = project(features, seed=3, limit=200)
    again_index, again = project(features, seed=3, limit=200)
    assert np.array_equal(index, again_index)
    assert np.array_equal(xy, again)
    assert xy.shape == (200, 2)
    assert len(set(index.tolist())) == 200
    other, _ = project(features[:, :1], seed=4, limit=200)
    assert not np.array_equal(index, other)
    judge = KNeighborsClassifier(5).fit(xy[:100], label[index[:100]])
    assert judge.score(xy[100:], label[index[100:]]) > 0.95


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_few_rows_get_pca(n):
    features, _ = clusters(n)
    index, xy = project(features)
    assert index.tolist() == list(range(n))
    assert xy.shape == (n, 2)
    if n > 2:  # the first two principal components carry the largest two variances
        centred = features - features.mean(0)
        singular = np.linalg.svd(centred, compute_uv=False)
        ratio = np.linalg.norm(xy[:, 0]) / np.linalg.norm(xy[:, 1])
        assert ratio == pytest.approx(singular[0] / singular[1])


def test_collapsed_and_broken_features_do_not_break_the_map():
    index, xy = project(np.full((50, 16), 3.0))
    assert np.array_equal(xy, np.zeros((50, 2)))
    _, line = project(np.outer(np.arange(50.0), np.ones(16)))
    assert np.isfinite(line).all()
    features, _ = clusters(40)
    features[3], features[7, 5] = np.nan, np.inf
    features = features * 1e-20
    index, xy = project(features)
    assert set(index.tolist()) == set(range(40)) - {3, 7}
    assert np.isfinite(xy).all()
    assert np.ptp(xy) > 1
