"""Features without an encoder."""

import numpy as np
import pytest

from swell.errors import InputError
from swell.evaluation.baselines import pca, pixels


def test_pixels_are_flattened_into_the_unit_interval() -> None:
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5) * 2
    found = pixels(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images.reshape(2, 60) / 255, rtol=1e-6)
    vectors = np.ones((3, 4), np.float32)
    assert pixels(vectors) is vectors
    with pytest.raises(InputError, match="float64"):
        pixels(np.ones((3, 4)))


@pytest.mark.parametrize("width", [6, 700])  # wider than the sample too
def test_pca_is_the_truncated_svd_of_centred_train(width: int) -> None:
    rng = np.random.default_rng(0)
    scale = np.r_[10.0, 5.0, 2.0, np.full(width - 3, 0.01)]
    train, test = ((rng.normal(size=(40, width)) * scale + 3).astype(np.float32) for _ in range(2))
    a, b = pca(train, test, dims=3)
    mean = train.astype(float).mean(0)
    _, _, v = np.linalg.svd(train - mean, full_matrices=False)
    signs = np.sign(((train - mean) @ v[:3].T * a).sum(0))
    np.testing.assert_allclose(a, (train - mean) @ v[:3].T * signs, atol=2e-3)
    np.testing.assert_allclose(b, (test - mean) @ v[:3].T * signs, atol=2e-3)  # centred by train's mean


def test_pca_has_no_more_dimensions_than_the_data_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(5, 9)).astype(np.float32), rng.normal(size=(2, 9)).astype(np.float32)
    a, b = pca(train, test, dims=128)
    assert a.shape == (5, 5)
    assert b.shape == (2, 5)
    np.testing.assert_array_equal(a, pca(train, test, dims=128)[0])
    with pytest.raises(InputError, match="dims 0"):
        pca(train, test, dims=0)
