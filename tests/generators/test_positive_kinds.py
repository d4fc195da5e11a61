"""Where the positives of each kind of generator lie, by geometry and by other libraries' answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from swell.generators.base import rotation
from swell.generators.controls import Copies, Shuffled, Zeros
from swell.generators.simple import KDE, Mixup, Neighbours
from swell.generators.vae import VAE
from swell.testing import example_samples


def table(count: int = 80) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, 4)) * [1, 50, 0.1, 3] + 2
    return rows.astype(np.float32)


def test_a_neighbours_positive_lies_on_the_way_to_one_of_its_nearest() -> None:
    train = table()
    model, unit = Neighbours(neighbours=3).fit(train, held_out=train[:2]), train.std(0)
    near = NearestNeighbors(n_neighbors=4).fit(train / unit).kneighbors(train / unit, return_distance=False)[:, 1:]
    for strength in (0.3, 1.0):
        taken = set()
        for number in range(30):
            way = (model.positives(train, strength, 0, number=number) - train) / unit
            ends = train[near] / unit - (train / unit)[:, None]  # [N, 3, D]
            share = (ends * way[:, None]).sum(2) / (ends**2).sum(2)  # [N, 3]
            left = np.linalg.norm(way[:, None] - share[..., None] * ends, axis=2)
            which = left.argmin(1)
            taken |= set(which)
            assert left.min(1).max() < 1e-4
            along = share[np.arange(len(train)), which]
            assert (along > -1e-5).all()
            assert (along <= strength + 1e-5).all()
        assert taken == {0, 1, 2}


def test_a_sample_that_was_not_learnt_has_neighbours_too() -> None:
    train, new = table(), table(200)[150:]
    made = (
        Neighbours(neighbours=1).fit(train, held_out=train[:2]).positives(new.clip(train.min(0), train.max(0)), 1.0, 0)
    )
    assert (np.abs(made - new) > 1e-4).any(1).all()


def test_in_a_mixup_positive_the_anchor_is_the_larger_part() -> None:
    """Between the values 0 and 1 a mixture is its own weight: min(lambda, 1 - lambda) times the strength."""
    train = np.tile([[0.0], [1.0]], (500, 1)).astype(np.float32)
    for strength in (0.5, 1.0):
        made = Mixup(alpha=0.7).fit(train, held_out=train[:2]).positives(train, strength, 3)
        weight = np.abs(made - train)[:, 0].astype(np.float64)
        mixed = weight[weight > 1e-4] / strength
        assert mixed.max() <= 0.5
        assert len(mixed) == pytest.approx(500, rel=0.15)  # the other sample has the other value half of the time
        assert stats.kstest(mixed, lambda w: (2 * stats.beta(0.7, 0.7).cdf(w)).clip(0, 1)).pvalue > 1e-3


def test_a_kernel_positive_spreads_as_the_kernel_does() -> None:
    train = table(3000)
    model = KDE(bandwidth=0.05).fit(train, held_out=train[:2])
    axes, middle = model._ready().tensors["axes"].double(), np.abs((train - train.mean(0)) / train.std(0)).max(1) < 2
    for strength in (0.4, 1.0):
        spread = ((model.positives(train, strength, 0) - train) / train.std(0))[middle]
        np.testing.assert_allclose(np.cov(spread.T), strength**2 * (axes.T @ axes), atol=4e-4)


def test_a_vaes_positive_turns_from_its_sample_to_a_draw() -> None:
    """At strength 1 nothing of the anchor is left and the law is that of the model's own samples; in between, the share
    kept of a feature that z does not hold is the cosine.
    """
    rng = np.random.default_rng(0)
    train = (rng.standard_normal((400, 2)) @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((400, 5))).astype(
        np.float32
    )
    model = VAE(latent=2, width=32, device="cpu").fit(train, steps=300, quiet=True)
    anchors = np.repeat(train[:4], 250, axis=0)
    drawn, made = model.sample(1000, 0), model.positives(anchors, 1.0, 0)
    for j in range(5):
        assert stats.ks_2samp(drawn[:, j], made[:, j]).pvalue > 1e-3
    assert np.abs(np.corrcoef(anchors.T, made.T)[:5, 5:]).max() < 0.12
    keeps, _ = rotation(0.5)
    near = model.positives(anchors, 0.5, 0)
    slopes = [np.polyfit(anchors[:, j], near[:, j], 1)[0] for j in range(5)]
    assert np.mean(slopes) == pytest.approx(keeps, abs=0.12)


def test_controls_are_what_they_say_at_every_strength() -> None:
    for kind in ("vectors", "colour 16x16"):
        samples = example_samples(kind)
        for strength in (0.2, 1.0):
            np.testing.assert_array_equal(Copies().fit(samples).positives(samples, strength, 0), samples)
            assert not Zeros().fit(samples).positives(samples, strength, 0).any()
    images, model = samples, Shuffled().fit(samples)
    made = model.positives(images, 0.5, 0)
    assert np.array_equal(np.sort(made.reshape(96, 3, -1), 2), np.sort(images.reshape(96, 3, -1), 2))
    assert (made != images).mean() > 0.5
    pairs = [{tuple(pixel) for pixel in image.reshape(3, -1).T.tolist()} for image in (images[7], made[7])]
    assert pairs[0] == pairs[1]  # the channels of a pixel stay together
    vectors = example_samples("vectors")
    mixed = Shuffled().fit(vectors, held_out=vectors[:5]).positives(np.repeat(vectors, 20, 0), 0.5, 0)
    for j in range(vectors.shape[1]):
        assert np.isin(mixed[:, j], vectors[:, j]).all()
    assert np.abs(np.corrcoef(mixed.T, np.repeat(vectors, 20, 0).T)[:6, 6:]).max() < 0.1


def test_rotation_keeps_the_variance() -> None:
    for strength in np.linspace(0, 1, 11):
        c, s = rotation(float(strength))
        assert c * c + s * s == pytest.approx(1)
    assert rotation(0.0) == (1, 0)
    assert rotation(1.0) == pytest.approx((0, 1))
    assert rotation(0.5) == pytest.approx((2**-0.5, 2**-0.5))
    assert torch.tensor(rotation(0.25)).diff() < 0
