"""The baselines: where their samples lie, by brute force and by other libraries' answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from swell.errors import InputError
from swell.generators.simple import BANDWIDTHS, KDE, Mixup, Neighbours, likeliest_bandwidth, log_likelihood
from swell.testing import example_samples


def table(count: int = 60) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 4)).astype(np.float32) * [1, 50, 0.1, 3] + np.float32(2)


def distance_to_segments(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest distance of each x [N, D] to any segment a .. b [M, D]."""
    way = b - a
    share = (((x[:, None] - a) * way).sum(2) / (way**2).sum(1)).clip(0, 1)  # [N, M]
    return np.linalg.norm(x[:, None] - a - share[..., None] * way, axis=2).min(1)


def test_neighbours_lie_between_a_sample_and_one_of_its_nearest() -> None:
    train = table().astype(np.float32)
    drawn = Neighbours(neighbours=3).fit(train, held_out=train[:2]).sample(500, seed=0)
    unit = train.std(0)
    near = NearestNeighbors(n_neighbors=4).fit(train / unit).kneighbors(train / unit, return_distance=False)[:, 1:]
    a = np.repeat(train / unit, 3, axis=0)
    b = (train / unit)[near.reshape(-1)]
    assert distance_to_segments(drawn / unit, a, b).max() < 1e-4
    far = distance_to_segments(Mixup().fit(train, held_out=train[:2]).sample(500, seed=0) / unit, a, b)
    assert (far > 1e-2).mean() > 0.5  # the same measure tells other pairs apart


def test_mixup_weights_follow_the_beta_distribution() -> None:
    """Between the values 0 and 1 a mixture is its own weight; scipy knows the distribution."""
    train = np.tile([[0.0], [1.0]], (20, 1)).astype(np.float32)
    for alpha in (0.4, 2.0):
        drawn = Mixup(alpha=alpha).fit(train, held_out=train[:2]).sample(20_000, seed=1)[:, 0].astype(np.float64)
        mixed = drawn[(drawn > 1e-4) & (drawn < 1 - 1e-4)]
        law = stats.beta(alpha, alpha)
        low, high = law.cdf([1e-4, 1 - 1e-4])
        assert stats.kstest(mixed, lambda x, law=law, a=low, b=high: (law.cdf(x) - a) / (b - a)).pvalue > 1e-3
        assert len(mixed) == pytest.approx(20_000 / 2 * (high - low), rel=0.05)


def test_mixup_lies_between_two_samples_in_bytes() -> None:
    train = np.array([10, 90], np.uint8).repeat(64).reshape(2, 1, 8, 8).repeat(100, axis=0)
    train[0, 0] = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # many levels: bytes are scaled linearly
    drawn = Mixup(alpha=1.0).fit(train[1:], held_out=train[:2]).sample(2000, seed=0)
    assert (drawn == drawn[:, :, :1, :1]).all()
    assert (drawn.min(), drawn.max()) == (10, 90)


def test_likelihood_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, centres = rng.standard_normal((300, 5)), rng.standard_normal((400, 5))
    for h in (0.05, 0.4, 2.0):
        got = log_likelihood(torch.from_numpy(x), torch.from_numpy(centres), h)
        each = np.stack([stats.multivariate_normal(c, h * h).logpdf(x) for c in centres])
        np.testing.assert_allclose(got, logsumexp(each, axis=0) - np.log(400), rtol=1e-7)


@pytest.mark.parametrize(("count", "size"), [(50, 2), (1000, 2), (300, 12)])
def test_bandwidth_is_the_likeliest_of_all_tried(count: int, size: int) -> None:
    rng = np.random.default_rng(size)
    centres, unseen = rng.standard_normal((count, size)), rng.standard_normal((200, size))
    tried = torch.from_numpy(unseen), torch.from_numpy(centres)
    scores = [float(log_likelihood(*tried, float(h)).mean()) for h in BANDWIDTHS]
    chosen = likeliest_bandwidth(*tried)
    assert chosen == pytest.approx(float(BANDWIDTHS[int(np.argmax(scores))]))


def test_more_samples_make_the_kernel_narrower() -> None:
    few, many = (KDE().fit(table(count).astype(np.float32)).sampler_settings()["bandwidth"] for count in (40, 2000))
    assert many < 0.8 * few


def test_kernel_spreads_as_it_says() -> None:
    """One centre far from the edges of the data, drawn often: the cloud's axes and widths, by sklearn's PCA."""
    train = table(4000).astype(np.float32)
    scaled = (train - train.mean(0)) / train.std(0)
    train = train[np.argsort(np.linalg.norm(scaled, axis=1))]
    model = KDE(bandwidth=0.05).fit(train, held_out=train[:2])
    learnt = model._ready()
    learnt.tensors["samples"][:] = torch.from_numpy(train[0])  # every kernel sits on the innermost sample
    cloud = (model.sample(20_000, seed=0) - train[0]) / train.std(0)
    pca = PCA().fit((train - train.mean(0)) / train.std(0))
    expected = pca.components_.T @ np.diag(0.05**2 * np.sqrt(pca.explained_variance_)) @ pca.components_
    np.testing.assert_allclose(np.cov(cloud.T), expected, atol=1e-4)


def test_what_lies_outside_the_axes_is_kept() -> None:
    train = example_samples("colour 16x16")
    drawn = KDE(components=4, bandwidth=1e-6).fit(train, held_out=train[:2]).sample(200, seed=0)
    known = {row.tobytes() for row in train}
    assert all(row.tobytes() in known for row in drawn)


def test_held_out_samples_are_never_part_of_a_sample() -> None:
    train, aside = table().astype(np.float32), np.full((20, 4), 1e3, np.float32)
    for make in (Neighbours, Mixup, KDE):
        drawn = make().fit(train, held_out=aside).sample(1000, seed=0)
        assert drawn.max() <= train.max()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Neighbours, {"neighbours": 0}),
        (Mixup, {"alpha": 0.0}),
        (Mixup, {"alpha": float("nan")}),
        (KDE, {"components": 0}),
        (KDE, {"bandwidth": -1.0}),
    ],
)
def test_wrong_options_are_refused(make: type, options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        make(**options)
