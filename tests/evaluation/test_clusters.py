"""Clusters: agreement with scikit-learn's scores, degenerate features."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from swell.evaluation import clusters


def test_agreement_is_scikit_learns_and_ignores_names() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, size=200), rng.integers(3, size=200)
    b[:100] = a[:100] % 3
    found = clusters.agreement(torch.from_numpy(b), torch.from_numpy(a))
    assert found == {"ari": adjusted_rand_score(a, b), "nmi": normalized_mutual_info_score(a, b)}
    renamed = clusters.agreement(torch.tensor([2, 2, 0, 0]), torch.tensor([0, 0, 1, 1]))
    assert renamed == {"ari": 1.0, "nmi": 1.0}


def test_separated_directions_are_found_and_inertia_is_no_worse_than_plain_k_means() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 5
    x = (torch.eye(8)[y] + 0.15 * torch.randn(300, 8, generator=g)) * torch.rand(300, 1, generator=g)
    found, rows = clusters.assign(x[:200], x[200:], 5)
    assert rows == 200
    assert clusters.agreement(found, y[200:])["ari"] == 1
    assert torch.equal(found, clusters.assign(x[:200], x[200:], 5)[0])
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    plain = KMeans(5, n_init=10, random_state=1).fit(unit[:200]).predict(unit[200:])
    assert adjusted_rand_score(plain, found.numpy()) == 1


def test_large_sets_are_cut_to_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MAX_ROWS", 50)
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    first, rows = clusters.assign(x, x, 3)
    assert rows == 50
    assert torch.equal(first, clusters.assign(x, x, 3)[0])


def test_collapsed_features_score_zero_without_a_warning() -> None:
    y = torch.arange(40) % 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, _ = clusters.assign(torch.ones(40, 3), torch.ones(40, 3), 4)
    assert clusters.agreement(found, y) == {"ari": 0.0, "nmi": 0.0}
