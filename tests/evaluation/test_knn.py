"""Weighted cosine votes against scikit-learn's brute-force neighbours."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from swell.evaluation import knn


@pytest.mark.parametrize(("n", "k"), [(300, 20), (7, 20)])
def test_votes_equal_brute_force(n: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "TRAIN_ROWS", 64)  # several blocks, the last one smaller than k
    monkeypatch.setattr(knn, "TEST_ROWS", 32)
    rng = np.random.default_rng(0)
    train, queries = rng.normal(size=(n, 9)), rng.normal(size=(77, 9))
    labels = rng.integers(4, size=n)
    model = NearestNeighbors(n_neighbors=min(k, n), metric="cosine", algorithm="brute").fit(train)
    distance, index = model.kneighbors(queries)
    expected = np.zeros((77, 4))
    for row in range(77):
        for d, i in zip(distance[row], index[row], strict=True):
            expected[row, labels[i]] += np.exp(-d / 0.07)
    found = knn.votes(*map(torch.from_numpy, (train, labels, queries)), classes=4, k=k, temperature=0.07)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_near_neighbour_outweighs_many_far_ones() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [-0.1, 1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    assert knn.votes(train, labels, torch.tensor([[1.0, 0.1]]), 2, k=4).argmax(1).item() == 0


def test_length_of_the_features_does_not_matter() -> None:
    g = torch.Generator().manual_seed(0)
    train, queries = torch.randn(50, 5, generator=g), torch.randn(20, 5, generator=g)
    labels = torch.randint(3, (50,), generator=g)
    plain = knn.votes(train, labels, queries, 3)
    scaled = knn.votes(train * torch.linspace(0.1, 1e30, 50)[:, None], labels, queries * 1e-30, 3)
    torch.testing.assert_close(plain, scaled, rtol=1e-4, atol=1e-12)
