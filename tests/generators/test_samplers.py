"""The samplers against a distribution whose best denoiser is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from swell.errors import InputError
from swell.generators.samplers import SAMPLERS, noise_levels

MEAN, STD = 1.5, 0.5


def best_denoiser(x: Tensor, sigma: float) -> Tensor:
    """E[y | y + sigma n = x] for y ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def exact_end(x: Tensor, sigma_max: float) -> Tensor:
    """Where the ODE ends: distances from the mean shrink with the marginal's standard deviation."""
    return MEAN + (x - MEAN) * STD / math.sqrt(STD**2 + sigma_max**2)


def error_of(sampler: str, evaluations: int) -> float:
    start = MEAN + 20.0 * torch.linspace(-2, 2, 9, dtype=torch.float64)
    end = SAMPLERS[sampler](best_denoiser, start, evaluations, 0.002, 20.0)
    return float((end - exact_end(start, 20.0)).abs().max())


@pytest.mark.parametrize(("sampler", "evaluations"), [("heun", 79), ("ipndm", 40)])
def test_mean_and_spread_of_a_gaussian_come_out(sampler: str, evaluations: int) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = 20.0 * torch.randn(20_000, generator=rng, dtype=torch.float64)
    end = SAMPLERS[sampler](best_denoiser, noise, evaluations, 0.002, 20.0)
    assert float(end.mean()) == pytest.approx(MEAN * (1 - STD / 20), abs=0.02)  # noise starts at 0, not at the mean
    assert float(end.std()) == pytest.approx(STD, rel=0.02)


@pytest.mark.parametrize("sampler", ["heun", "ipndm"])
def test_error_falls_with_the_square_of_the_steps(sampler: str) -> None:
    """Both are of second order on these uneven steps (the Adams-Bashforth weights are those of even ones)."""
    per_step = 2 if sampler == "heun" else 1
    coarse, fine = error_of(sampler, 100 * per_step - 1), error_of(sampler, 400 * per_step - 1)
    assert math.log(coarse / fine) / math.log(4) > 1.7
    assert fine < 1e-4


def test_multistep_beats_heun_at_ten_evaluations() -> None:
    assert error_of("ipndm", 10) < error_of("heun", 11)


@pytest.mark.parametrize("evaluations", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("sampler", ["heun", "ipndm"])
def test_no_more_evaluations_than_asked_for(sampler: str, evaluations: int) -> None:
    seen: list[float] = []

    def counting(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return best_denoiser(x, sigma)

    end = SAMPLERS[sampler](counting, torch.ones(3), evaluations, 0.002, 20.0)
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
