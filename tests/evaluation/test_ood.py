"""Detection of other data against scikit-learn's AUROC and nearest neighbours, and by hand."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from swell.evaluation.ood import auroc, distances, false_positives, ood


def test_distances_are_scikit_learns():
    rng = np.random.default_rng(0)
    train, queries = rng.normal(size=(90, 7)).astype(np.float32), rng.normal(size=(30, 7)).astype(np.float32)
    wanted = NearestNeighbors(n_neighbors=5, metric="cosine").fit(train).kneighbors(queries)[0][:, -1]
    np.testing.assert_allclose(distances(train, queries, 5), wanted, atol=1e-6)
    far = NearestNeighbors(n_neighbors=90, metric="cosine").fit(train).kneighbors(queries)[0][:, -1]
    np.testing.assert_allclose(distances(train, queries, 500), far, atol=1e-6)  # of fewer the farthest


@pytest.mark.parametrize("digits", [1, 8])
def test_auroc_is_scikit_learns_with_and_without_ties(digits):
    rng = np.random.default_rng(digits)
    inside, outside = np.round(rng.normal(0, 1, 200), digits), np.round(rng.normal(0.7, 1.3, 90), digits)
    scores, truth = np.concatenate([inside, outside]), np.repeat([0, 1], [200, 90])
    area, (low, high) = auroc(inside, outside)
    assert area == pytest.approx(roc_auc_score(truth, scores))
    assert low < area < high
    fpr, tpr, _ = roc_curve(1 - truth, -scores, drop_intermediate=False)  # test samples are what shall pass
    assert false_positives(inside, outside) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_by_hand():
    area, _ = auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))  # of four pairs three are right and one is tied
    assert area == 3.5 / 4
    assert auroc(np.arange(3.0), np.arange(3.0) + 5) == (1.0, [pytest.approx(0.025 ** (1 / 3)), 1.0])
    assert auroc(np.arange(3.0) + 5, np.arange(3.0))[0] == 0.0


def test_the_interval_is_as_wide_as_the_spread_of_the_area():
    rng = np.random.default_rng(0)
    found = [auroc(rng.normal(0, 1, 120), rng.normal(1, 1, 80)) for _ in range(400)]
    areas = np.array([area for area, _ in found])
    widths = np.array([high - low for _, (low, high) in found])
    assert widths.mean() / (2 * 1.96) == pytest.approx(areas.std(), rel=0.1)


def test_other_directions_are_told_and_the_same_ones_are_not():
    rng = np.random.default_rng(0)
    train, test, same = (np.abs(rng.normal(size=(n, 5))).astype(np.float32) for n in (200, 80, 80))
    apart = ood(train, test, -same)
    assert (apart["auroc"], apart["fpr95"]) == (1.0, 0.0)
    alike = ood(train, test, same)
    assert alike["interval"][0] < 0.5 < alike["interval"][1]
    assert (alike["n_known"], alike["n_other"], alike["settings"]["k"]) == (80, 80, 20)
    json.dumps([apart, alike], allow_nan=False)
