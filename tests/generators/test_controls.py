"""The controls lose exactly what they say they lose."""

from __future__ import annotations

import numpy as np

from swell.generators.controls import Copies, Shuffled, Zeros
from swell.testing import example_samples


def test_copies_are_training_samples_all_equally_often() -> None:
    train, aside = example_samples("grey 8x8")[:80], example_samples("grey 8x8")[80:]
    drawn = Copies().fit(train, held_out=aside).sample(8000, seed=0)
    rows, counts = np.unique(drawn.reshape(8000, -1), axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, np.unique(train.reshape(80, -1), axis=0))
    assert ((counts - 100) ** 2 / 100).sum() < 130  # chi squared with 79 degrees of freedom, p about 0.0003


def test_shuffled_images_keep_their_colours_and_lose_their_places() -> None:
    train = example_samples("colour 16x16")
    drawn = Shuffled().fit(train, held_out=train[:2]).sample(2000, seed=0)

    def colours(images: np.ndarray) -> set[bytes]:
        pixels = images.transpose(0, 2, 3, 1).reshape(len(images), -1, 3).astype(np.int64) @ [1, 256, 65536]
        return {row.tobytes() for row in np.sort(pixels, axis=1)}

    assert colours(drawn) <= colours(train)
    assert len(colours(drawn)) == len(train)

    def smoothness(images: np.ndarray) -> float:
        steps = np.diff(images.astype(float), axis=3)
        return float((steps**2).mean() / images.astype(float).var((1, 2, 3)).mean())

    assert smoothness(train) < 0.3
    assert smoothness(drawn) > 5 * smoothness(train)
    means = drawn.mean((0, 1))  # [H, W]: every place alike
    assert means.std() < 3


def test_shuffled_vectors_keep_each_feature_and_lose_what_ties_them() -> None:
    x = np.random.default_rng(0).standard_normal(500)
    train = np.stack([x, 100 * x + 7, -x], axis=1).astype(np.float32)
    drawn = Shuffled().fit(train, held_out=train[:2]).sample(20_000, seed=0)
    for j in range(3):
        assert np.isin(drawn[:, j], train[:, j]).all()
    np.testing.assert_allclose(drawn.std(0), train.std(0), rtol=0.03)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.03


def test_zeros_are_zeros() -> None:
    for kind in ("grey 8x8", "vectors"):
        samples = example_samples(kind)
        drawn = Zeros().fit(samples).sample(300, seed=4, first=100)
        assert (drawn.shape, drawn.dtype, drawn.any()) == ((300, *samples.shape[1:]), samples.dtype, False)
