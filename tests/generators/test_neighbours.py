"""The search for neighbours and copies against brute force, across the blocks it works in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from swell.generators.neighbours import (
    CopyTest,
    closeness,
    exact_copies,
    low_quantile,
    nearest,
    nearest_pairs,
    nearest_real,
)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_real_agrees_with_sklearn_across_blocks(k: int) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (9000, 1, 3, 4), dtype=np.uint8)
    generated = rng.integers(0, 256, (1100, 1, 3, 4), dtype=np.uint8)
    generated[7] = real[8500]
    index, distance = nearest_real(generated, real, k)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(real.reshape(9000, -1).astype(np.float64))
    expected, where = search.kneighbors(generated.reshape(1100, -1).astype(np.float64))
    np.testing.assert_allclose(distance, expected / np.sqrt(12), rtol=1e-4, atol=1e-6)
    assert (index == where).mean() > 0.99  # ties may fall either way
    assert (index[7, 0], distance[7, 0]) == (8500, 0.0)


def test_nearest_among_themselves_leaves_out_the_row_itself_only() -> None:
    rows = torch.randn(8200, 3, generator=torch.Generator().manual_seed(0))  # the last rows lie in a second block
    rows[8195] = rows[10]
    index, distance = nearest(rows, rows, 2, among_themselves=True)
    expected, where = NearestNeighbors(n_neighbors=2).fit(rows.numpy()).kneighbors()
    np.testing.assert_allclose(distance.numpy(), expected, rtol=1e-3, atol=1e-6)
    assert (index.numpy() == where).mean() > 0.999
    assert (index[8195, 0], index[10, 0], float(distance[10, 0])) == (10, 8195, 0.0)


def test_k_shrinks_to_what_there_is() -> None:
    rows = torch.arange(3.0)[:, None]
    assert nearest(rows, rows, 9)[0].shape == (3, 3)
    index, distance = nearest(rows, rows, 9, among_themselves=True)
    assert index[0].tolist() == [1, 2]
    assert torch.isfinite(distance).all()


def test_vectors_are_compared_in_standard_deviations_and_large_images_at_32_pixels() -> None:
    real = np.array([[0, 0], [1, 1000], [0, 1000], [1, 0]], np.float32)
    index, distance = nearest_real(np.array([[0.9, 100]], np.float32), real)
    assert index[0, 0] == 3
    assert distance[0, 0] == pytest.approx(np.sqrt((0.2**2 + 0.2**2) / 2), rel=1e-5)
    large = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 48), dtype=np.uint8)
    assert nearest_real(large, large)[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_nearest_pairs_are_the_closest_first() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    made = rng.integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    made[3], made[8] = train[40], train[5]
    made[8, 0, 0, 0] ^= 1
    assert nearest_pairs(made, train, 2).tolist() == [[3, 40], [8, 5]]
    assert nearest_pairs(made, train, 99).shape == (20, 2)


def test_exact_copies() -> None:
    some = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
    assert exact_copies(np.concatenate([some[:3], 255 - some[:1]]), some) == 0.75


def test_the_threshold_leaves_five_unseen_samples_or_one_per_cent_below() -> None:
    assert low_quantile(torch.arange(100.0)) == (4, 0.05)
    assert low_quantile(torch.arange(100.0), 10) == (9, 0.1)
    assert low_quantile(torch.arange(2000.0)) == (19, 0.01)
    assert low_quantile(torch.arange(3.0)) == (2, 1)
    assert low_quantile(torch.zeros(100)) == (0, 1)  # all are twins of training samples: that is no suspicion


def test_copy_test_finds_copies_and_spares_new_samples() -> None:
    draws = torch.Generator().manual_seed(0)
    train, held_out, new = (torch.randn(n, 6, generator=draws) for n in (2000, 1000, 1000))
    test = CopyTest.fit(train, held_out)
    assert test.unseen_below == pytest.approx(0.01)
    assert test.suspects(new).double().mean() < 0.03
    assert test.suspects(train[:100] + 1e-3).all()


def test_what_is_merely_pale_is_no_copy() -> None:
    draws = torch.Generator().manual_seed(1)
    train, held_out, new = (torch.randn(n, 6, generator=draws) for n in (2000, 1000, 1000))
    pale = 0.7 * new  # nearer to everything
    test = CopyTest.fit(train, held_out)
    assert nearest(pale, train)[1].mean() < 0.9 * nearest(held_out, train)[1].mean()
    assert test.suspects(pale).double().mean() < 0.02
    assert closeness(torch.tensor([[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]])).tolist() == [0, 0, 1]
