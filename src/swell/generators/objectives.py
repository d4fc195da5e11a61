"""What a diffusion network learns: four objectives, one denoiser D(x; sigma) for every sampler.

Samples y [B, ...] are noised to x = y + sigma n with standard normal n. All noise levels here are in units of
2 sigma_data: the published settings were made for images of standard deviation 0.5, and so they fit data of any
scale. Every objective trains the same network F(x, c_noise) with c_noise = ln(sigma) / 4; they differ in what F
predicts, in how the levels are drawn and in how errors are weighted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from swell.registry import Registry
from swell.seeding import generator_for

Network = Callable[[Tensor, Tensor], Tensor]  # F(x [B, ...], c_noise [B]) -> [B, ...]

SIGMA_DATA = 0.5  # of samples divided by their unit


def like(s: Tensor, x: Tensor) -> Tensor:
    """s [B] shaped to multiply x [B, ...]."""
    return s.view(-1, *[1] * (x.ndim - 1))


class Objective(Protocol):
    def sigma_of(self, z: Tensor) -> Tensor:
        """Training noise levels [B] for standard normal z [B]."""

    def denoise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma), the estimate of y, for x [B, ...] and sigma [B]."""

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor, reference: Tensor) -> Tensor:
        """Scalar, for y and n [B, ...], sigma [B]; `reference` [R, ...] holds y and maybe more samples."""


OBJECTIVES: Registry[type[Objective]] = Registry("objective")


@OBJECTIVES.register("edm", "predict the sample, preconditioned", "Karras et al. 2022 (arXiv 2206.00364)")
@dataclass(frozen=True)
class EDM:
    """Karras et al. 2022, table 1."""

    p_mean: float = -1.2
    p_std: float = 1.2

    def sigma_of(self, z: Tensor) -> Tensor:
        return (self.p_mean + self.p_std * z).exp()

    def denoise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        s, sd = like(sigma, x), SIGMA_DATA  # eq. 7
        c_skip = sd**2 / (s**2 + sd**2)
        c_out = s * sd / (s**2 + sd**2).sqrt()
        c_in = 1 / (s**2 + sd**2).sqrt()
        return c_skip * x + c_out * network(c_in * x, sigma.log() / 4)

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor, reference: Tensor) -> Tensor:
        return self.weighted_error(self.denoise(network, y + like(sigma, y) * n, sigma), y, sigma).mean()  # eq. 8

    @staticmethod
    def weighted_error(d: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """lambda(sigma) |d - y|^2 per sample, mean over dimensions: [B]. A perfect linear guess costs at most 1."""
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        return weight * (d - y).square().flatten(1).mean(1)


@OBJECTIVES.register("stf", "EDM with the target averaged over a reference batch", "Xu et al. 2023 (arXiv 2302.00670)")
@dataclass(frozen=True)
class STF(EDM):
    """The stable target field: EDM whose target is not the one y that x came from but the posterior mean over a
    reference batch, which has less variance at middle noise levels.
    """

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor, reference: Tensor) -> Tensor:
        x = y + like(sigma, y) * n
        target = posterior_mean(x, sigma, reference)
        return self.weighted_error(self.denoise(network, x, sigma), target, sigma).mean()


def posterior_mean(x: Tensor, sigma: Tensor, reference: Tensor) -> Tensor:
    """E[y | x] where y is one of `reference` [R, ...] with equal chances: the softmax of -|x - y|^2 / 2 sigma^2
    over y, times y (Xu et al. 2023, eq. 6). x [B, ...], sigma [B]; returns [B, ...].
    """
    distance = torch.cdist(x.flatten(1), reference.flatten(1))  # [B, R]
    w = torch.softmax(-distance.square() / (2 * sigma[:, None] ** 2), dim=1)
    return (w @ reference.flatten(1)).view_as(x)


@OBJECTIVES.register("ddpm", "predict the noise, at 1,000 fixed levels", "Ho et al. 2020 (arXiv 2006.11239)")
class DDPM:
    """beta_t rises linearly from 1e-4 to 0.02 over 1,000 steps; t is uniform and every error counts alike (L_simple).
    Their x_t = sqrt(alpha-bar) y + sqrt(1 - alpha-bar) n is our x / sqrt(1 + sigma^2) with
    sigma^2 = (1 - alpha-bar) / alpha-bar.
    """

    def __init__(self) -> None:
        alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
        self.sigmas = ((1 - alpha_bar) / alpha_bar).sqrt().float()  # [1000], rising

    def sigma_of(self, z: Tensor) -> Tensor:
        t = (1000 * torch.special.ndtr(z)).long().clamp(max=999)
        return self.sigmas.to(z.device)[t]

    def _noise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        s = like(sigma, x)
        return network(x / (1 + s**2).sqrt(), sigma.log() / 4)

    def denoise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        return x - like(sigma, x) * self._noise(network, x, sigma)

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor, reference: Tensor) -> Tensor:
        return (n - self._noise(network, y + like(sigma, y) * n, sigma)).square().mean()  # eq. 14


@OBJECTIVES.register("flow", "predict the straight path's velocity", "Liu et al. 2022 (arXiv 2209.03003)")
class Flow:
    """Rectified flow, or flow matching with the straight path x_t = (1 - t) y + t n: F predicts n - y. In our
    coordinates sigma = t / (1 - t) and x_t = x / (1 + sigma). t is logit-normal (Esser et al. 2024, arXiv 2403.03206),
    so ln(sigma) is standard normal.
    """

    def sigma_of(self, z: Tensor) -> Tensor:
        return z.exp()

    def _velocity(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        return network(x / (1 + like(sigma, x)), sigma.log() / 4)

    def denoise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        s = like(sigma, x)  # y = x_t - t v
        return x / (1 + s) - s / (1 + s) * self._velocity(network, x, sigma)

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor, reference: Tensor) -> Tensor:
        return (self._velocity(network, y + like(sigma, y) * n, sigma) - (n - y)).square().mean()


def nearest_noise(y: Tensor, candidates: Tensor) -> Tensor:
    """Of the k noises candidates [k, B, ...] offered to each sample of y [B, ...], the one nearest to it: [B, ...].

    Paths from noise to data cross less, so there is less to average over (Li et al. 2024, arXiv 2406.12303).
    """
    distance = (candidates - y).square().flatten(2).sum(2)  # [k, B]
    return candidates[distance.argmin(0), torch.arange(len(y), device=y.device)]


class HeldOutLoss:
    """EDM's weighted denoising error on samples never learnt from, always with the same noise: comparable from look
    to look and from objective to objective.
    """

    def __init__(
        self,
        objective: Objective,
        y: Tensor,
        seed: int,
        rows: int = 1024,
        bins: int = 4,
        codes: Tensor | None = None,
    ) -> None:
        """y [N, ...] in units, on the device, and the codes [N, F] that a network is told with them, if any; repeated
        or cut to `rows` of them.
        """
        rng = generator_for(seed, "generator", "held out")
        quantiles = (torch.arange(rows) + 0.5) / rows  # even coverage of EDM's noise levels, falling apart in bins
        sigma = EDM().sigma_of(torch.special.ndtri(quantiles))
        who = torch.randperm(rows, generator=rng) % len(y)
        n = torch.randn(rows, *y.shape[1:], generator=rng)
        self.objective = objective
        self.bins = [
            (
                float(s.median()),
                y[w.to(y.device)],
                s.to(y.device),
                noise.to(y.device),
                () if codes is None else (codes[w.to(y.device)],),
            )
            for s, w, noise in zip(sigma.chunk(bins), who.chunk(bins), n.chunk(bins), strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, network: Callable[..., Tensor]) -> dict[str, float]:
        """The mean as "held_out_loss", and "held_out_at_<sigma>" for every bin of noise levels. With codes, the network
        is called as network(x, c_noise, codes).
        """
        found = {}
        for middle, y, sigma, n, codes in self.bins:

            def told(x: Tensor, c_noise: Tensor, codes: tuple[Tensor, ...] = codes) -> Tensor:
                return network(x, c_noise, *codes)

            d = self.objective.denoise(told, y + like(sigma, y) * n, sigma)
            found[f"held_out_at_{middle:.2g}"] = float(EDM.weighted_error(d, y, sigma).mean())
        return {"held_out_loss": sum(found.values()) / len(found), **found}
