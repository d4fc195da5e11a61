"""EDM: preconditioning and loss of Karras et al. 2022 (arXiv 2206.00364), in the paper's notation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from swell.seeding import generator_for

Network = Callable[[Tensor, Tensor], Tensor]  # F(x [B, ...], c_noise [B]) -> [B, ...]


@dataclass(frozen=True)
class EDM:
    """Preconditioning and loss of Karras et al. 2022, table 1. Their noise levels are made for data of
    standard deviation 0.5; here they are in units of 2 sigma_data, which is the same there and fits
    everywhere else.
    """

    sigma_data: float
    p_mean: float = -1.2
    p_std: float = 1.2

    def denoise(self, network: Network, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma) for x [B, ...] and sigma [B] (eq. 7)."""
        s, sd = sigma.view(-1, *[1] * (x.ndim - 1)), self.sigma_data
        c_skip = sd**2 / (s**2 + sd**2)
        c_out = s * sd / (s**2 + sd**2).sqrt()
        c_in = 1 / (s**2 + sd**2).sqrt()
        c_noise = sigma.log() / 4
        return c_skip * x + c_out * network(c_in * x, c_noise)

    def loss(self, network: Network, y: Tensor, sigma: Tensor, n: Tensor) -> Tensor:
        """Weighted squared error of D(y + sigma n; sigma), y and n [B, ...], sigma [B] (eq. 8)."""
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        error = (self.denoise(network, y + sigma.view(-1, *[1] * (y.ndim - 1)) * n, sigma) - y) ** 2
        return (weight * error.flatten(1).mean(1)).mean()

    def sigma_of(self, z: Tensor) -> Tensor:
        """Noise levels for standard normal z: ln(sigma / 2 sigma_data) ~ N(p_mean, p_std^2)."""
        return 2 * self.sigma_data * (self.p_mean + self.p_std * z).exp()


class HeldOutLoss:
    """The denoising loss on samples never learnt from, always with the same noise: comparable from check to
    check.
    """

    def __init__(self, edm: EDM, y: Tensor, seed: int, device: torch.device, rows: int = 1024) -> None:
        """y [N, ...] as the network sees it; repeated or cut to `rows` of them."""
        rng = generator_for(seed, "generator", "held out")
        y = y[torch.arange(rows) % len(y)]
        quantiles = (torch.randperm(rows, generator=rng) + 0.5) / rows  # even coverage of the noise levels
        sigma, n = edm.sigma_of(torch.special.ndtri(quantiles)), torch.randn(y.shape, generator=rng)
        self.edm = edm
        self.batches = [
            tuple(part.to(device) for part in parts)
            for parts in zip(y.split(256), sigma.split(256), n.split(256), strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, network: Network) -> float:
        losses = [float(self.edm.loss(network, y, sigma, n)) for y, sigma, n in self.batches]
        return sum(losses) / len(losses)
