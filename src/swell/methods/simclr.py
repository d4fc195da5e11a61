"""SimCLR: a simple framework for contrastive learning of visual representations (Chen et al. 2020, arXiv 2002.05709).

Two views of every sample; each view must find its partner among all other views of the batch.

Published, CIFAR-10, ResNet-18, linear probe: 90.7 (1000 epochs, solo-learn, online probe), 91.6 (AdaInf's baseline,
100,000 steps of 512, online probe). Ours are in benchmarks/results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError
from swell.methods.registry import METHODS, Outcome, encode_views
from swell.nets.heads import MLP
from swell.views.plan import VIEWS, ViewPlan


def nt_xent(z: Tensor, tau: float) -> Tensor:
    """The normalised temperature-scaled cross entropy, equation 1 of the paper, averaged over all 2B views.

        l(i, j) = -log  exp(sim(z_i, z_j) / tau) / sum_{k != i} exp(sim(z_i, z_k) / tau)

    Args:
        z: projections [2, B, D]; z[0, b] and z[1, b] are the two views of sample b. Need not be normalised.
        tau: temperature.
    """
    z = F.normalize(z.float(), dim=-1).flatten(0, 1)  # [2B, D]
    n = len(z)
    sim = z @ z.T / tau  # [2B, 2B]
    sim = sim.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), float("-inf"))
    partner = torch.arange(n, device=z.device).roll(n // 2)  # i -> i +- B
    return F.cross_entropy(sim, partner)


@METHODS.register("simclr", "two views; each finds its partner among all views of the batch", "arXiv 2002.05709")
@dataclass(frozen=True)
class SimCLR:
    """Settings as in AdaInf's CIFAR runs: temperature 0.2, projector 2048-256 without batch norm."""

    temperature: float = 0.2
    hidden: int = 2048
    outputs: int = 256

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature {self.temperature}", "a number above 0")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["simclr"]()

    def parts(self, features: int) -> nn.ModuleDict:
        return nn.ModuleDict({"projector": MLP(features, self.hidden, self.outputs)})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: list[Tensor], batch: int) -> Outcome:
        z = parts["projector"](encode_views(encoder, views)).unflatten(0, (-1, batch))  # [2, B, D]
        if len(z) != 2:
            raise InputError(f"a view plan of {len(z)} views", "2 views for simclr", "choose another --views plan")
        return nt_xent(z, self.temperature), {"z_std": spread(z)}


def spread(z: Tensor) -> Tensor:
    """Mean over dimensions of the sd of unit vectors [.., B, D], times sqrt(D): 1 spread, 0 collapsed."""
    unit = F.normalize(z.detach().float(), dim=-1).flatten(0, -2)
    return unit.std(dim=0).mean() * unit.shape[-1] ** 0.5
