"""Corruptions against NumPy and Pillow, by property, and on an encoder."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from swell.data.source import Provenance, Source
from swell.evaluation.corruptions import BLOCK, OF_IMAGES, OF_VECTORS, corrupted, evaluate_corruptions
from swell.evaluation.probe import FittedProbe
from swell.nets.encoder import Encoder, EncoderConfig


def pictures(n=6, side=32, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def amount(name, severity, of=OF_IMAGES):
    return of[name][1][severity - 1]


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_each_is_what_it_says(severity):
    x = pictures()
    grey = np.full((4, 3, 32, 32), 128, np.uint8)
    told = (corrupted(grey, "noise", severity).astype(float) - 128) / 255
    assert told.std() == pytest.approx(amount("noise", severity), rel=0.05)
    sigma = amount("blur", severity) * 32
    smooth = x.astype(np.float64)
    for axis in (2, 3):
        smooth = gaussian_filter1d(smooth, sigma, axis, mode="nearest", truncate=4)
    np.testing.assert_allclose(corrupted(x, "blur", severity), smooth, atol=0.51)
    luma = np.tensordot(x / 255, [0.299, 0.587, 0.114], ((1,), (0,))).mean((1, 2))[:, None, None, None]
    f = amount("contrast", severity)
    np.testing.assert_allclose(corrupted(x, "contrast", severity), 255 * (f * x / 255 + (1 - f) * luma), atol=0.51)
    small = round(32 * amount("pixelate", severity))
    blocks = corrupted(x, "pixelate", severity)
    parts = x.repeat(small, 2).repeat(small, 3).reshape(*x.shape[:2], small, 32, small, 32).mean((3, 5))
    nearest = ((np.arange(32) + 0.5) * small / 32).astype(int)
    np.testing.assert_allclose(blocks, parts[:, :, nearest][..., nearest], atol=0.51)


def test_vectors():
    x = np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    for severity in (1, 2, 3):
        assert (corrupted(x, "noise", severity) - x).std() == pytest.approx(
            amount("noise", severity, OF_VECTORS), rel=0.02
        )
        gone = corrupted(x, "missing", severity)
        assert (gone == 0).mean() == pytest.approx(amount("missing", severity, OF_VECTORS), abs=0.02)
        np.testing.assert_array_equal(gone[gone != 0], x[gone != 0])
        moved = corrupted(x, "shift", severity) - x
        np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-5)
        later = corrupted(x[:5], "shift", severity, first=BLOCK) - x[:5]
        np.testing.assert_allclose(later, moved[:5], atol=1e-5)  # all blocks alike


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 1, 1)])
def test_any_size_stays_an_image_and_is_the_same_again(name, shape):
    x = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    before = x.copy()
    for severity in (1, 2, 3):
        found = corrupted(x, name, severity)
        assert (found.dtype, found.shape) == (np.uint8, x.shape)
        np.testing.assert_array_equal(found, corrupted(x, name, severity))
    np.testing.assert_array_equal(x, before)
    if name == "noise":
        assert (corrupted(x, name, 3) != corrupted(x, name, 3, first=BLOCK)).any() or shape == (1, 1, 1)


@pytest.mark.parametrize("vectors", [False, True])
def test_an_encoder_is_scored_on_every_severity(vectors):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    if vectors:
        samples = (2 * np.eye(3, 12)[y] + rng.normal(0, 0.5, (90, 12))).astype(np.float32)
        encoder = Encoder(EncoderConfig("mlp", 0.25, (12,), (), ()))
    else:
        samples = (rng.integers(0, 60, (90, 1, 8, 8)) + 80 * y[:, None, None, None]).astype(np.uint8)
        encoder = Encoder(EncoderConfig("conv6", 0.25, (1, 8, 8), (0.5,), (0.25,)))
    source = Source(samples, Provenance("real", "array"), y, ["a", "b", "c"])
    x = encoder.encode(samples)
    probe = FittedProbe(x[:60], y[:60], x[60:], y[60:])
    result, shares = evaluate_corruptions(encoder, source.subset(np.arange(60, 90)), probe)
    kinds = OF_VECTORS if vectors else OF_IMAGES
    assert {*result} == {"protocol", "mean", "retained", "forwards", "seconds", "settings", *kinds}
    assert result["forwards"] == 3 * len(kinds) * 30
    for score in ("knn", "linear"):
        all_ = [each[score]["accuracy"] for name in kinds for each in result[name]]
        assert result["mean"][score]["accuracy"] == pytest.approx(np.mean(all_)) == pytest.approx(shares[score].mean())
        clean = probe.result[score]["accuracy"]
        assert result["retained"][score] == pytest.approx(np.mean(all_) / clean)
    first = corrupted(samples[60:], "noise", 1)
    right = probe.linear(encoder.encode(first)) == y[60:]
    assert result["noise"][0]["linear"]["accuracy"] == right.mean()
    json.dumps(result, allow_nan=False)
