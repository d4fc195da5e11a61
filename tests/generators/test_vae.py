"""The VAE: its bound against torch's distributions and against an exact likelihood, its learning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from swell.data.open import open_data
from swell.errors import InputError
from swell.generators.controls import Shuffled
from swell.generators.metrics import frechet_distance
from swell.generators.vae import VAE, negative_elbo
from swell.testing import example_samples


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bound_is_the_one_torchs_distributions_give() -> None:
    x, mean, log_variance = random(5, 3), random(5, 3, seed=1), random(3, seed=2)
    mu, log_sigma2 = random(5, 2, seed=3), random(5, 2, seed=4)
    likelihood = Normal(mean, (log_variance / 2).exp()).log_prob(x).sum(1)
    divergence = kl_divergence(
        Normal(mu, (log_sigma2 / 2).exp()), Normal(torch.zeros(2).double(), torch.ones(2).double())
    ).sum(1)
    for beta in (1.0, 0.0, 4.0):
        got = negative_elbo(x, mean, log_variance, mu, log_sigma2, beta)
        torch.testing.assert_close(got, (beta * divergence - likelihood).mean())


def test_bound_is_tight_for_the_exact_posterior_and_loose_for_others() -> None:
    """x | z ~ N(w z, s^2) has x ~ N(0, w^2 + s^2) and a Gaussian posterior; z by Gauss-Hermite quadrature."""
    w, s, x = 1.7, 0.6, 0.9
    points, weights = np.polynomial.hermite_e.hermegauss(40)

    def bound(mu: float, variance: float) -> float:
        each = [
            negative_elbo(
                *(torch.tensor([[value]], dtype=torch.float64) for value in (x, w * (mu + math.sqrt(variance) * p))),
                torch.tensor([2 * math.log(s)], dtype=torch.float64),
                *(torch.tensor([[value]], dtype=torch.float64) for value in (mu, math.log(variance))),
            )
            for p in points
        ]
        return float(np.dot(weights, each) / weights.sum())

    total = w * w + s * s
    exact = (x * x / total + math.log(2 * math.pi * total)) / 2
    mu, variance = w * x / total, s * s / total
    assert bound(mu, variance) == pytest.approx(exact, rel=1e-9)
    for other in ((mu + 0.2, variance), (mu, 2 * variance), (0.0, 1.0)):
        assert bound(*other) > exact + 0.01


def test_linear_data_are_learnt_with_their_noise() -> None:
    """Two directions in five numbers plus noise: covariance of the samples, and what output noise adds to it."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 2)) @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((3000, 5))
    rows = rows.astype(np.float32)
    made = {}
    for noise in (True, False):
        model = VAE(latent=4, width=32, output_noise=noise, device="cpu").fit(rows, steps=800, quiet=True)
        made[noise] = np.cov(model.sample(5000, seed=0).T)
    std = np.sqrt(np.diag(np.cov(rows.T)))
    np.testing.assert_allclose(made[True] / np.outer(std, std), np.corrcoef(rows.T), atol=0.3)
    smallest = np.linalg.eigvalsh(np.cov(rows.T))[0]
    assert np.linalg.eigvalsh(made[True])[0] > 0.6 * smallest
    assert np.linalg.eigvalsh(made[False])[0] < 0.4 * smallest


def test_digits_beat_shuffled_pixels_and_the_bound_rises() -> None:
    digits = open_data("builtin:digits").samples
    train, unseen = digits[:1000], digits[1000:]
    vae = VAE(width=128, device="cpu").fit(train, held_out=unseen, steps=500, quiet=True)
    shuffled = Shuffled().fit(train, held_out=unseen)
    losses = [row["held_out_loss"] for row in vae.history]
    assert min(losses) < losses[0] - 0.5  # nats a pixel
    a, b, real = (
        torch.from_numpy(x.reshape(257, 64) / 16.0) for x in (vae.sample(257, 0), shuffled.sample(257, 0), unseen)
    )
    assert frechet_distance(a, real) < frechet_distance(b, real) / 3


def test_best_bound_is_the_one_kept() -> None:
    """On few samples the held-out bound falls again; the kept network has the best one."""
    digits = open_data("builtin:digits").samples[:60]
    model = VAE(width=128, lr=1e-2, beta=0.1, device="cpu").fit(
        digits[:40], held_out=digits[40:], steps=400, quiet=True
    )
    losses = [row["held_out_loss"] for row in model.history]
    assert losses[-1] > min(losses)
    learnt = model._ready()
    x = model._codec.shown(model._codec.stored(digits[40:])).repeat(50, 1) / learnt.settings["unit"]
    noise = torch.randn(len(x), model.options["latent"], generator=torch.Generator().manual_seed(0))
    assert float(model._model.loss(x, noise, 0.1).detach()) == pytest.approx(min(losses), rel=0.05)


def test_constant_features_come_back_and_do_not_run_away() -> None:
    rows = example_samples("vectors")
    rows[:, 2] = 7
    model = VAE(width=16, device="cpu").fit(rows, steps=200, quiet=True)
    assert (model.sample(50, seed=0)[:, 2] == 7).all()
    assert all(math.isfinite(row["held_out_loss"]) for row in model.history)


def test_wrong_settings_are_refused() -> None:
    for options in ({"latent": 0}, {"width": 0}, {"depth": 0}, {"beta": -1.0}, {"beta": math.nan}):
        with pytest.raises(InputError):
            VAE(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="budget"):
        VAE(device="cpu").fit(example_samples("vectors"), steps=0, quiet=True)
