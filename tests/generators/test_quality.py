"""The judge against independent computations and against data whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm  # type: ignore[import-untyped]
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from swell.generators.quality import classifier_accuracy, exact_copies, frechet_distance, judge, nearest_real


def digits() -> np.ndarray:
    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]
    return images[np.random.default_rng(0).permutation(len(images))]


def test_frechet_distance_agrees_with_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((200, 5)), rng.standard_normal((150, 5)) @ rng.standard_normal((5, 5)) + 1
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s_a + s_b - 2 * sqrtm(s_a @ s_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_real_agrees_with_sklearn_across_blocks(k: int) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (9000, 1, 3, 4), dtype=np.uint8)
    generated = rng.integers(0, 256, (600, 1, 3, 4), dtype=np.uint8)
    generated[7] = real[8500]
    index, distance = nearest_real(generated, real, k)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(real.reshape(9000, -1).astype(np.float64))
    expected, where = search.kneighbors(generated.reshape(600, -1).astype(np.float64))
    np.testing.assert_allclose(distance, expected / np.sqrt(12), rtol=1e-4, atol=1e-6)
    assert (index == where).mean() > 0.99  # ties may fall either way
    assert (index[7, 0], distance[7, 0]) == (8500, 0.0)


def test_vectors_are_compared_in_standard_deviations_and_large_images_at_32_pixels() -> None:
    real = np.array([[0, 0], [1, 1000], [0, 1000], [1, 0]], np.float32)
    index, distance = nearest_real(np.array([[0.9, 100]], np.float32), real)
    assert index[0, 0] == 3
    assert distance[0, 0] == pytest.approx(np.sqrt((0.2**2 + 0.2**2) / 2), rel=1e-5)
    large = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 48), dtype=np.uint8)
    assert nearest_real(large, large)[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_judge_orders_real_shuffled_and_copied_digits() -> None:
    images = digits()
    train, held_out, unseen = images[:1000], images[1000:1100], images[1100:1700]
    real = judge(unseen, train, held_out)
    rng = np.random.default_rng(1)
    shuffled = np.stack([rng.permutation(pixel) for pixel in train[:600].reshape(600, 64).T], axis=1).reshape(
        600, 1, 8, 8
    )
    control, copies = judge(shuffled, train, held_out), judge(train[:600], train, held_out)
    assert real["c2st"] < 0.56
    assert control["c2st"] > 0.9
    assert 0.8 < real["frechet_ratio"] < 1.3 < 5 < control["frechet_ratio"]
    assert real["copy_distance_ratio"] == pytest.approx(1, abs=0.12)
    assert (copies["copy_distance_ratio"], copies["exact_copies"]) == (0, 1)
    assert (real["exact_copies"], control["exact_copies"]) == (0, 0)
    assert set(real["meaning"]) <= set(real)


def test_judge_takes_few_samples_and_vectors() -> None:
    rng = np.random.default_rng(0)
    few = judge(
        rng.integers(0, 256, (3, 3, 5, 5), dtype=np.uint8),
        *np.split(rng.integers(0, 256, (16, 3, 5, 5), dtype=np.uint8), [14]),
    )
    assert all(np.isfinite(few[name]) for name in ("frechet_ratio", "c2st", "copy_distance_ratio"))
    table = rng.standard_normal((900, 6)).astype(np.float32)
    same, other = (
        judge(table[600:], table[:500], table[500:600]),
        judge(table[600:] * 0.5, table[:500], table[500:600]),
    )
    assert same["c2st"] < 0.58
    assert same["frechet_ratio"] < 1.5 < 5 < other["frechet_ratio"]


def test_classifier_and_exact_copies_on_plain_cases() -> None:
    rng = np.random.default_rng(0)
    assert classifier_accuracy(rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 8) == 1
    some = rng.integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
    assert exact_copies(np.concatenate([some[:3], 255 - some[:1]]), some) == 0.75
