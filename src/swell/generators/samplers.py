"""Samplers: integrate the probability-flow ODE dx/dsigma = (x - D(x; sigma)) / sigma from noise to data.

Notation of Karras et al. 2022 (arXiv 2206.00364). A denoiser takes x [B, ...] and one noise level sigma (a
float) and returns its estimate of the clean x [B, ...].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from swell.registry import Registry

Denoiser = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Denoiser, Tensor, int, float, float], Tensor]
SAMPLERS: Registry[Sampler] = Registry("sampler")


def noise_levels(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` levels from sigma_max down to sigma_min, then 0 (eq. 5): dense where the noise is small."""
    if steps == 1:
        return [sigma_max, 0.0]
    i = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    levels = (sigma_max ** (1 / rho) + i * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


@SAMPLERS.register("heun", "second order, two evaluations a step (the last has one)", "Karras et al. 2022, algorithm 1")
def heun(denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float) -> Tensor:
    """x [B, ...]: noise of standard deviation sigma_max. An odd number of evaluations is used up exactly."""
    sigmas = noise_levels((evaluations + 1) // 2, sigma_min, sigma_max)
    for sigma, following in itertools.pairwise(sigmas):
        d = (x - denoise(x, sigma)) / sigma
        euler = x + (following - sigma) * d
        if following > 0:
            d_following = (euler - denoise(euler, following)) / following
            x = x + (following - sigma) * (d + d_following) / 2
        else:
            x = euler
    return x


_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@SAMPLERS.register(
    "ipndm",
    "multistep, one evaluation a step: the best below some 15",
    "Zhang and Chen 2023 (arXiv 2204.13902)",
)
def ipndm(denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float) -> Tensor:
    """x [B, ...]: noise of standard deviation sigma_max. Euler steps along up to four stored derivatives."""
    sigmas = noise_levels(evaluations, sigma_min, sigma_max)
    stored: list[Tensor] = []  # derivatives, the newest first
    for sigma, following in itertools.pairwise(sigmas):
        stored = [(x - denoise(x, sigma)) / sigma, *stored[:3]]
        weights = _ADAMS_BASHFORTH[len(stored) - 1] if following > 0 else (1.0,)  # the step to 0 is x = D(x; sigma_min)
        for weight, d in zip(weights, stored, strict=False):
            x = x + (following - sigma) * weight * d
    return x
