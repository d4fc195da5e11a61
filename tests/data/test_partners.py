"""Neighbours: the same as scikit-learn's, whatever the blocks; draws that depend on rows and generator alone."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from swell.data import partners
from swell.data.partners import Components, Neighbours, nearest_others
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.seeding import generator_for


def source_of(samples):
    return Source(samples, Provenance("real", "array"))


def clusters(n=300, d=20, seed=0):
    """Samples with a few strong directions, as expression has."""
    rng = np.random.default_rng(seed)
    scale = 3.0 ** -np.arange(d) if d < 30 else np.concatenate([5 * 0.8 ** np.arange(12), np.full(d - 12, 0.01)])
    return (rng.standard_normal((n, d)) * scale @ np.linalg.qr(rng.standard_normal((d, d)))[0] + 4).astype(np.float32)


def sklearn_neighbours(x, k):
    return NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(x).kneighbors(x)[1][:, 1:]


@pytest.mark.parametrize(("queries", "base"), [(1024, 16384), (37, 11), (64, 1)])
def test_neighbours_equal_scikit_learns_in_blocks_of_any_size(monkeypatch, queries, base):
    monkeypatch.setattr(partners, "QUERIES", queries)
    monkeypatch.setattr(partners, "BASE", base)
    x = clusters().astype(np.float64)
    assert np.array_equal(nearest_others(torch.from_numpy(x), 7).numpy(), sklearn_neighbours(x, 7))


def test_neighbours_of_a_source_equal_scikit_learns():
    x = clusters()
    near = Neighbours(source_of(x), k=5)
    assert np.array_equal(near.index.numpy(), sklearn_neighbours(x, 5))


def test_wide_samples_are_compared_by_principal_components():
    x = clusters(400, 300)
    near = Neighbours(source_of(x), k=5, pca=10)
    expected = sklearn_neighbours(PCA(10, svd_solver="full").fit_transform(x.astype(np.float64)), 5)
    agree = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(near.index.tolist(), expected.tolist(), strict=True)])
    assert agree > 0.999
    codes, full = Components.fit(x, 10)(x).numpy(), PCA(10, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(np.abs(codes), np.abs(full.transform(x)), rtol=1e-2, atol=1e-2)


def test_sparse_samples_have_the_neighbours_of_the_dense_ones():
    sparse = pytest.importorskip("scipy.sparse")
    from swell.data.sparse import SparseRows

    x = np.random.default_rng(0).poisson(0.4, (200, 120)).astype(np.float32)
    rows = SparseRows.from_csr(sparse.csr_array(x), np.zeros((1, 120), np.float32))
    a, b = (Neighbours(source_of(samples), k=4, pca=20) for samples in (x, rows))
    assert torch.equal(a.index, b.index)
    at = torch.arange(50)
    assert torch.equal(a.draw(at, generator_for(0)), b.draw(at, generator_for(0)))


def test_draws_are_neighbours_and_depend_on_rows_and_generator_only():
    x = clusters()
    near = Neighbours(source_of(x), k=3)
    rows = torch.tensor([5, 0, 5, 299])
    drawn = near.draw(rows, generator_for(1, "t", 0))
    assert (drawn.shape, drawn.dtype) == ((4, 20), torch.float32)
    for row, y in zip(rows.tolist(), drawn.numpy(), strict=True):
        assert any(np.array_equal(y, x[i]) for i in near.index[row].tolist())
    assert torch.equal(near.draw(rows, generator_for(1, "t", 0)), drawn)
    many = near.draw(torch.zeros(300, dtype=torch.int64), generator_for(2))
    counts = [(many == torch.from_numpy(x[i])).all(1).sum().item() for i in near.index[0].tolist()]
    assert sum(counts) == 300
    assert min(counts) > 60  # all alike


def test_images_have_neighbours_too():
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8)
    images[1] = images[0]
    near = Neighbours(source_of(images), k=1)
    assert near.index[:2, 0].tolist() == [1, 0]
    drawn = near.draw(torch.tensor([0]), generator_for(0))
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (1, 3, 8, 8))


def test_equal_samples_and_few_of_them():
    x = np.zeros((3, 4), np.float32)
    near = Neighbours(source_of(x), k=15)
    assert near.index.shape == (3, 2)
    assert all(row not in near.index[row].tolist() for row in range(3))


@pytest.mark.parametrize("kwargs", [{"k": 0}, {"pca": 0}])
def test_bad_settings_are_refused(kwargs):
    with pytest.raises(InputError, match="at least 1"):
        Neighbours(source_of(clusters()), **kwargs)
    with pytest.raises(InputError, match="at least 2"):
        Neighbours(source_of(clusters()[:1]))
