"""The samplers against a distribution whose best denoiser is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from swell.errors import InputError
from swell.generators.samplers import SAMPLERS, _exponential_weights, noise_levels

MEAN, STD = 1.5, 0.5


def best_denoiser(x: Tensor, sigma: float) -> Tensor:
    """E[y | y + sigma n = x] for y ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def exact_end(x: Tensor, sigma_max: float) -> Tensor:
    """Where the ODE ends: distances from the mean shrink with the marginal's standard deviation."""
    return MEAN + (x - MEAN) * STD / math.sqrt(STD**2 + sigma_max**2)


def no_noise(step: int) -> Tensor:
    raise AssertionError("this sampler is deterministic")


def error_of(sampler: str, evaluations: int) -> float:
    start = MEAN + 20.0 * torch.linspace(-2, 2, 9, dtype=torch.float64)
    end = SAMPLERS[sampler](best_denoiser, start, evaluations, 0.002, 20.0, no_noise)
    return float((end - exact_end(start, 20.0)).abs().max())


@pytest.mark.parametrize(("sampler", "evaluations"), [("heun", 79), ("ipndm", 40), ("dpmpp", 40), ("ancestral", 400)])
def test_mean_and_spread_of_a_gaussian_come_out(sampler: str, evaluations: int) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = 20.0 * torch.randn(20_000, generator=rng, dtype=torch.float64)
    end = SAMPLERS[sampler](
        best_denoiser, noise, evaluations, 0.002, 20.0, lambda step: torch.randn(noise.shape, generator=rng).double()
    )
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.06)  # noise starts at 0, which the ODE does not quite forget
    assert float(end.std()) == pytest.approx(STD, rel=0.02)


@pytest.mark.parametrize("sampler", ["heun", "ipndm", "dpmpp"])
def test_error_falls_with_the_square_of_the_steps(sampler: str) -> None:
    """At least: on these uneven steps the Adams-Bashforth weights, those of even ones, are of second order."""
    per_step = 2 if sampler == "heun" else 1
    coarse, fine = error_of(sampler, 25 * per_step - 1), error_of(sampler, 100 * per_step - 1)
    assert math.log(coarse / fine) / math.log(4) > 1.7
    assert fine < 1e-3


def test_multistep_beats_heun_at_ten_evaluations() -> None:
    assert error_of("ipndm", 10) < error_of("heun", 11)
    assert error_of("dpmpp", 10) < error_of("heun", 11)


def test_third_order_weights_are_exact_for_quadratics() -> None:
    """Against the integral of exp(l - end) (a + b l + c l^2) over [l_0, end], by a fine sum."""
    at, end = [0.3, -0.4, -1.3], 1.1
    weights = _exponential_weights(at, end)
    lam = torch.linspace(at[0], end, 200_001, dtype=torch.float64)
    for k in range(3):
        integral = float(torch.trapezoid((lam - end).exp() * lam**k, lam))
        assert sum(w * a**k for w, a in zip(weights, at, strict=True)) == pytest.approx(integral, rel=1e-8)


def test_ancestral_steps_are_the_papers_posterior() -> None:
    """One step between two noise levels, against mean and variance of q(x_s | x_t, y) in Ho et al.'s coordinates."""
    sigma, following, y, x = 3.0, 0.9, 0.4, 2.2
    bar_t, bar_s = 1 / (1 + sigma**2), 1 / (1 + following**2)  # alpha-bar
    alpha = bar_t / bar_s
    x_t = math.sqrt(bar_t) * x
    mean = (math.sqrt(bar_s) * (1 - alpha) * y + math.sqrt(alpha) * (1 - bar_s) * x_t) / (1 - bar_t)  # eq. 7
    std = math.sqrt((1 - bar_s) / (1 - bar_t) * (1 - alpha))
    seen: list[float] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen.append(float(x))
        return torch.full_like(x, y)

    SAMPLERS["ancestral"](denoise, torch.tensor(x), 2, following, sigma, lambda step: torch.tensor(0.7))
    assert seen[1] == pytest.approx((mean + std * 0.7) / math.sqrt(bar_s))


@pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("sampler", [entry.name for entry in SAMPLERS])
def test_no_more_evaluations_than_asked_for(sampler: str, evaluations: int) -> None:
    seen: list[float] = []

    def counting(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return best_denoiser(x, sigma)

    end = SAMPLERS[sampler](counting, torch.ones(3), evaluations, 0.002, 20.0, lambda step: torch.ones(3))
    assert torch.isfinite(end).all()
    assert evaluations - 1 <= len(seen) <= evaluations
    assert min(seen) > 0


def test_noise_levels_follow_the_paper() -> None:
    levels = noise_levels(5, 0.002, 80.0)
    assert levels[0] == pytest.approx(80.0)
    assert levels[4] == pytest.approx(0.002)
    assert levels[5] == 0.0
    assert levels[2] == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)


def test_unknown_sampler_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="ipndm"):
        SAMPLERS["ipdnm"]
