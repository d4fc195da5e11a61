from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from swell.report.projection import nearest_of_others, project, repulsion


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 4
    return rng.normal(size=(4, 64))[label] * 4 + rng.normal(size=(n, 64)), label


def test_neighbours_stay_neighbours_and_the_map_repeats():
    features, label = clusters(400)
    found, again = project(features), project(features)
    assert np.array_equal(found.xy, again.xy)
    assert np.array_equal(found.near, again.near)
    assert found.xy.shape == (400, 2)
    judge = KNeighborsClassifier(5).fit(found.xy[:200], label[:200])
    assert judge.score(found.xy[200:], label[200:]) > 0.95


def test_a_bent_sheet_is_flattened_better_than_by_pca():
    rng = np.random.default_rng(0)
    t, height = 4 + 9 * rng.random(600), 20 * rng.random(600)
    roll = np.stack([t * np.cos(t), height, t * np.sin(t), np.full(600, 40.0)], 1)
    found = project(roll)
    from_start = project(roll[:9]).xy  # so few get the components themselves
    assert from_start.shape == (9, 2)
    pca = (roll - roll.mean(0)) @ np.linalg.svd(roll - roll.mean(0), full_matrices=False)[2][:2].T
    ours, theirs = (trustworthiness(roll, xy, n_neighbors=10, metric="cosine") for xy in (found.xy, pca))
    assert ours > 0.98
    assert ours > theirs + 0.03


def test_the_nearest_are_those_of_the_largest_cosine():
    x = np.random.default_rng(1).normal(size=(700, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    near = nearest_of_others(x, 4)
    assert np.allclose(np.take_along_axis(cosine, near, 1), -np.sort(-cosine, axis=1)[:, :4])
    assert nearest_of_others(x[:3], 9).shape == (3, 2)
    same = nearest_of_others(np.ones((40, 3)), 5)
    assert same.shape == (40, 5)
    assert (same != np.arange(40)[:, None]).sum() >= 40 * 4  # among equals nobody is listed twice, and hardly itself


@pytest.mark.parametrize("spread", [0.01, 3.0, 20.0])
def test_repulsion_on_a_grid_is_close_to_the_sum_over_all_pairs(spread):
    y = (np.random.default_rng(2).normal(size=(300, 2)) * spread).astype(np.float32)
    apart = y[:, None].astype(float) - y[None]
    q = 1 / (1 + (apart**2).sum(-1))
    exact = (apart * (q**2)[..., None]).sum(1) / (q.sum() - len(y))
    found = repulsion(y, spacing=0.1)
    assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()
    assert np.corrcoef(repulsion(y).ravel(), exact.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_few_rows_get_pca(n):
    features, _ = clusters(n)
    found = project(features)
    assert found.xy.shape == (n, 2)
    assert found.near.shape == (n, max(0, n - 1))
    if n > 2:  # the first two principal components carry the largest two variances
        centred = features - features.mean(0)
        singular = np.linalg.svd(centred, compute_uv=False)
        ratio = np.linalg.norm(found.xy[:, 0]) / np.linalg.norm(found.xy[:, 1])
        assert ratio == pytest.approx(singular[0] / singular[1], rel=1e-4)


def test_collapsed_and_broken_features_do_not_break_the_map():
    assert np.array_equal(project(np.full((50, 16), 3.0)).xy, np.zeros((50, 2)))
    assert np.isfinite(project(np.outer(np.arange(50.0), np.ones(16))).xy).all()
    features, _ = clusters(40)
    features[3], features[7, 5] = np.nan, np.inf
    for scale in (1e-20, 1e20):
        found = project(features * scale)
        assert np.isfinite(found.xy).all()
        assert np.ptp(found.xy) > 1


@pytest.mark.parametrize("n", [10, 12, 40])
def test_small_maps_neither_explode_nor_collapse(n):
    xy = project(clusters(n)[0]).xy
    assert 0.1 < np.ptp(xy) < 200
