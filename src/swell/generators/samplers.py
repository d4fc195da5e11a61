"""Samplers: from noise to data along dx/dsigma = (x - D(x; sigma)) / sigma, the probability-flow ODE, or its
stochastic twin.

Notation of Karras et al. 2022 (arXiv 2206.00364). A denoiser takes x [B, ...] and one noise level sigma (a
float) and returns its estimate of the clean x [B, ...].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from swell.registry import Registry

Denoiser = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]  # step number -> fresh standard normal noise shaped like x, for stochastic samplers
Sampler = Callable[[Denoiser, Tensor, int, float, float, Noise], Tensor]
SAMPLERS: Registry[Sampler] = Registry("sampler")


def noise_levels(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` levels from sigma_max down to sigma_min, then 0 (eq. 5): dense where the noise is small."""
    if steps == 1:
        return [sigma_max, 0.0]
    i = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    levels = (sigma_max ** (1 / rho) + i * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


@SAMPLERS.register("heun", "second order, two evaluations a step (the last has one)", "Karras et al. 2022, algorithm 1")
def heun(denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float, noise: Noise) -> Tensor:
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


@SAMPLERS.register("ipndm", "fourth-order multistep, one evaluation a step", "Zhang and Chen 2023 (arXiv 2204.13902)")
def ipndm(denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float, noise: Noise) -> Tensor:
    """x [B, ...]: noise of standard deviation sigma_max. Euler steps along up to four stored derivatives."""
    sigmas = noise_levels(evaluations, sigma_min, sigma_max)
    stored: list[Tensor] = []  # derivatives, the newest first
    for sigma, following in itertools.pairwise(sigmas):
        stored = [(x - denoise(x, sigma)) / sigma, *stored[:3]]
        weights = _ADAMS_BASHFORTH[len(stored) - 1] if following > 0 else (1.0,)  # the step to 0 is x = D(x; sigma_min)
        for weight, d in zip(weights, stored, strict=False):
            x = x + (following - sigma) * weight * d
    return x


@SAMPLERS.register("dpmpp", "DPM-Solver++(3M): third-order multistep", "Lu et al. 2022 (arXiv 2211.01095)")
def dpmpp(denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float, noise: Noise) -> Tensor:
    """x [B, ...]: noise of standard deviation sigma_max.

    With lambda = -ln(sigma) the solution is x_t = (sigma_t / sigma_s) x_s + integral over lambda from s to t of
    exp(lambda - lambda_t) D. D is taken as the polynomial through its last three values, the integral is then exact.
    """
    sigmas = noise_levels(evaluations, sigma_min, sigma_max)
    known: list[tuple[float, Tensor]] = []  # (lambda, D), the newest first
    for sigma, following in itertools.pairwise(sigmas):
        known = [(-math.log(sigma), denoise(x, sigma)), *known[:2]]
        if following == 0:
            return known[0][1]
        weights = _exponential_weights([at for at, _ in known], -math.log(following))
        x = following / sigma * x
        for weight, (_, d) in zip(weights, known, strict=True):
            x = x + weight * d
    return x


def _exponential_weights(at: list[float], end: float) -> list[float]:
    """Weights w_k with sum_k w_k D(at_k) = integral from at_0 to `end` of exp(lambda - end) D for every polynomial D
    of degree below len(at).
    """
    h = end - at[0]
    moments = [-math.expm1(-h)]  # of u = lambda - at_0: integral of exp(u - h) u^k over [0, h]
    for k in range(1, len(at)):
        moments.append(h**k - k * moments[-1])
    u = torch.tensor(at, dtype=torch.float64) - at[0]
    vandermonde = torch.stack([u**k for k in range(len(at))])  # [degree, point]
    return torch.linalg.solve(vandermonde, torch.tensor(moments, dtype=torch.float64)).tolist()


@SAMPLERS.register("ancestral", "stochastic, one evaluation a step: needs many", "Ho et al. 2020, algorithm 2")
def ancestral(
    denoise: Denoiser, x: Tensor, evaluations: int, sigma_min: float, sigma_max: float, noise: Noise
) -> Tensor:
    """x [B, ...]: noise of standard deviation sigma_max. Draws from the posterior of the next level given x and the
    denoised x, with their lower variance (beta-tilde); evenly spaced in ln(sigma) rather than in their t.
    """
    ratio = (sigma_min / sigma_max) ** (1 / max(evaluations - 1, 1))
    sigmas = [sigma_max * ratio**i for i in range(evaluations)] + [0.0]
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        clean = denoise(x, sigma)
        x = clean + (following / sigma) ** 2 * (x - clean)
        if following > 0:
            x = x + following * math.sqrt(1 - (following / sigma) ** 2) * noise(step)
    return x
