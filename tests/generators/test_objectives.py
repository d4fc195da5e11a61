"""The objectives against derivations in float64, and all four against the one denoiser they must agree on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from swell.generators.objectives import EDM, OBJECTIVES, HeldOutLoss, nearest_noise, posterior_mean

SD = 0.5


def linear_network(x: Tensor, c_noise: Tensor) -> Tensor:
    return 0.3 * x + 0.1 * c_noise.view(-1, *[1] * (x.ndim - 1))


def batch(sigma: tuple[float, ...], size: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    y, n = (torch.tensor(rng.standard_normal((len(sigma), size))) for _ in range(2))
    return y, torch.tensor(sigma, dtype=torch.float64), n


def loss_by_hand(name: str, y: float, n: float, s: float) -> float:
    """One element, plain floats, from each paper's own formula."""
    c = 0.1 * math.log(s) / 4
    x = y + s * n
    if name == "edm":  # table 1: lambda = 1 / c_out^2
        c_out = s * SD / math.sqrt(SD * SD + s * s)
        f = 0.3 * x / math.sqrt(SD * SD + s * s) + c
        return (SD * SD / (s * s + SD * SD) * x + c_out * f - y) ** 2 / c_out**2
    if name == "ddpm":
        bar = 1 / (1 + s * s)
        return (n - (0.3 * (math.sqrt(bar) * y + math.sqrt(1 - bar) * n) + c)) ** 2
    t = s / (1 + s)
    return ((0.3 * ((1 - t) * y + t * n) + c) - (n - y)) ** 2


@pytest.mark.parametrize("name", ["edm", "ddpm", "flow"])
def test_loss_is_the_papers_in_float64(name: str) -> None:
    y, sigma, n = batch((0.01, 0.7, 30.0))
    want = [
        loss_by_hand(name, float(y[b, j]), float(n[b, j]), float(sigma[b])) for b in range(3) for j in range(y.shape[1])
    ]
    assert float(OBJECTIVES[name]().loss(linear_network, y, sigma, n, y)) == pytest.approx(np.mean(want), rel=1e-10)


def test_stable_target_is_the_posterior_mean() -> None:
    """By the plain sum over three candidates; and with a single candidate it is EDM's own loss."""
    y, sigma, n = batch((0.4, 1.5))
    reference = torch.cat([y, torch.tensor(np.random.default_rng(1).standard_normal((1, 4)))])
    x = y + sigma[:, None] * n
    for b in range(2):
        p = [math.exp(-float((x[b] - r).square().sum()) / (2 * float(sigma[b]) ** 2)) for r in reference]
        want = sum(w * r for w, r in zip(p, reference, strict=True)) / sum(p)
        torch.testing.assert_close(posterior_mean(x, sigma, reference)[b], want)
    stf, edm = OBJECTIVES["stf"](), OBJECTIVES["edm"]()
    one = (y[:1], sigma[:1], n[:1])
    torch.testing.assert_close(stf.loss(linear_network, *one, y[:1]), edm.loss(linear_network, *one, y[:1]))


def test_stable_target_has_the_same_mean_and_less_variance() -> None:
    """Over many draws of the pair (y, n): the target's mean over x is that of y, its spread around E[y | x] smaller."""
    rng = torch.Generator().manual_seed(0)
    y = torch.randn(4000, 2, generator=rng, dtype=torch.float64) * SD
    sigma = torch.full((4000,), 0.7, dtype=torch.float64)
    x = y + 0.7 * torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    target, truth = posterior_mean(x, sigma, y), SD**2 / (SD**2 + 0.49) * x
    assert (target - truth).square().mean() < (y - truth).square().mean() / 4
    assert (target - truth).mean(0).abs().max() < 0.02


@pytest.mark.parametrize("name", [entry.name for entry in OBJECTIVES])
def test_the_best_network_gives_the_best_denoiser(name: str) -> None:
    """For y ~ N(0, SD^2) the network that minimises the loss is linear; fitted by least squares at one noise level,
    it must give E[y | x] = SD^2 / (SD^2 + sigma^2) x.
    """
    rng = torch.Generator().manual_seed(0)
    objective = OBJECTIVES[name]()
    sigma = objective.sigma_of(torch.tensor([0.3], dtype=torch.float64)).double()
    y, n = (torch.randn(20_000, 1, generator=rng, dtype=torch.float64) for _ in range(2))
    y, s = SD * y, sigma.expand(20_000)
    a = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective.loss(lambda x, c: a * x, y, s, n, y[:500]), a, create_graph=True)
    (curve,) = torch.autograd.grad(slope, a)
    best = float((-slope / curve).detach())  # the loss is quadratic in a
    x = torch.ones(1, 1, dtype=torch.float64)
    d = float(objective.denoise(lambda x, c: best * x, x, sigma))
    assert d == pytest.approx(SD**2 / (SD**2 + float(sigma) ** 2), abs=0.02)


@pytest.mark.parametrize("name", [entry.name for entry in OBJECTIVES])
def test_denoiser_keeps_clean_input(name: str) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.full((4,), 1e-7, dtype=torch.float64)
    torch.testing.assert_close(OBJECTIVES[name]().denoise(linear_network, x, sigma), x, atol=1e-5, rtol=0)


def test_noise_levels_are_the_papers() -> None:
    z = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(EDM().sigma_of(z).log(), -1.2 + 1.2 * z)
    t = torch.sigmoid(z)
    torch.testing.assert_close(OBJECTIVES["flow"]().sigma_of(z), t / (1 - t))
    ends = OBJECTIVES["ddpm"]().sigma_of(torch.tensor([-9.0, 9.0]))
    alpha_bar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * t / 999) for t in range(1000))
    torch.testing.assert_close(ends, torch.tensor([math.sqrt(1e-4 / 0.9999), math.sqrt(1 / alpha_bar - 1)]))


def test_nearest_of_several_noises_is_taken() -> None:
    y = torch.tensor([[0.0], [5.0]])
    candidates = torch.tensor([[[1.0], [1.0]], [[-0.5], [4.0]]])
    torch.testing.assert_close(nearest_noise(y, candidates), torch.tensor([[-0.5], [4.0]]))


def test_held_out_loss_of_the_ideal_network_is_one_in_every_bin() -> None:
    y = SD * torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))
    found = HeldOutLoss(EDM(), y, seed=0, rows=4096)(lambda x, c: torch.zeros_like(x))
    assert len(found) == 5
    assert list(found.values()) == pytest.approx([1.0] * 5, rel=0.05)
