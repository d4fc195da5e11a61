"""DiffAug: positives from a diffusion model, and a contrast with soft targets (Zang et al. 2024, arXiv 2309.07909).

Two samples whose encodings lie close may lie close in the head's output too: the target of a pair is not 0 or 1 but a
kernel of the distance between the encodings. There is no temperature; the degrees of freedom of the kernels take its
part. This file is the loss. Where the positives come from is another switch: hand-made views, neighbours, or a
generator that is trained in turn with the encoder (`swell.training.alternate`); any method takes any of them.

Published, CIFAR-10 93.4, CIFAR-100 69.9, STL-10 92.5 (a leaderboard's account of the ICML version; backbone not
stated there). The body of that paper was not read; the loss is as in the authors' repository, with these changes. The
constants are exact (they write 3.14) and logarithms are taken in log space (they add 1e-5 inside). Its values,
nu 0.01 and nu_code 100 on encodings as they are, leave the soft part next to no effect, so the defaults differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, share
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP

DEGREES = (1e-3, 1e4)  # of freedom; beyond, the kernel at 0 is 0 or 1 to single precision
OCTAVES, BISECTIONS = (-4.0, 12.0), 12  # range of the mean distance that P sees, in powers of 2, and its halvings


def log_kernel(d2: Tensor, nu: float) -> Tensor:
    """log k(d2; nu) of squared distances d2, elementwise:

        k(d2; nu) = 2 pi g(nu)^2 (1 + d2 / nu)^-(nu + 1),   g(nu) = Gamma((nu + 1) / 2) / (sqrt(nu pi) Gamma(nu / 2))

    the squared density of Student's t times 2 pi, which is largest at 0 and below 1 there.
    """
    log_g = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    return math.log(2 * math.pi) + 2 * log_g - (nu + 1) * torch.log1p(d2 / nu)


def log_complement(log_q: Tensor) -> Tensor:
    """log(1 - q) of log q < 0, to full precision at both ends."""
    return torch.where(log_q > -math.log(2), torch.log(-torch.expm1(log_q)), torch.log1p(-torch.exp(log_q)))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[N, D], [M, D] -> [N, M]; rows are moved by their common mean first, where the products would cancel."""
    origin = torch.cat([a, b]).mean(0).detach()
    a, b = a - origin, b - origin
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


@full_precision
def code_distances(h: Tensor) -> Tensor:
    """Squared distances [V, B, B] between the encodings h [V, B, F] of each view, exactly 0 on the diagonal."""
    same = torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
    return torch.stack([squared_distances(one, one) for one in h]).masked_fill(same, 0.0)


def off_diagonal_share(p: Tensor) -> Tensor:
    """How much of the mass of P [V, B, B] lies on pairs of different samples [V]: 0 is a contrast of hard positives."""
    return 1 - p.diagonal(dim1=1, dim2=2).sum(1) / p.sum((1, 2))


@torch.no_grad()
def softening(d2: Tensor, nu: float, soft: float) -> Tensor:
    """Factors [V, 1, 1] by which distances d2 [V, B, B] give a P with the share `soft` off the diagonal.

    By bisection of the factor's logarithm; where no factor does, the nearest end of the range is taken.
    """
    b = d2.shape[1]
    usual = d2.sum((1, 2), keepdim=True) / (b * (b - 1))
    low, high = (torch.full_like(usual, octave) for octave in OCTAVES)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        softer = off_diagonal_share(log_kernel(d2 * _factor(middle, usual), nu).exp()).view_as(usual) > soft
        low, high = torch.where(softer, middle, low), torch.where(softer, high, middle)
    return _factor((low + high) / 2, usual)


def _factor(octave: Tensor, usual: Tensor) -> Tensor:
    return octave.exp2() / usual.clamp_min(torch.finfo(usual.dtype).tiny ** 0.5)


@full_precision
def soft_contrastive(p: Tensor, a: Tensor, b: Tensor, nu: float) -> Tensor:
    """Mean over the B x B matrix of  -[P log Q + (1 - P) log(1 - Q)],  Q_ij = k(|a_i - b_j|^2; nu).

    Args:
        p: targets [B, B]; the diagonal belongs to the pairs of views of one sample.
        a, b: the head's outputs [B, D] for two views.
    """
    log_q = log_kernel(squared_distances(a, b), nu)
    return -(p * log_q + (1 - p) * log_complement(log_q)).mean()


@METHODS.register("diffaug", "soft targets from encodings; positives from a conditional diffusion", "arXiv 2309.07909")
@dataclass(frozen=True)
class DiffAug(Method):
    """The soft contrastive loss, averaged over all ordered pairs of views (u, v): P from view u, Q between u and v.

    As P is symmetric and Q of (v, u) is that of (u, v) transposed, both orders together are one term with the mean of
    the two P. `nu` and `nu_code` are the degrees of freedom of Q and P. `detach` keeps the gradient from P, which
    otherwise falls wherever encodings move apart.

    How soft P is depends on how far apart encodings lie, so with `scaled` their distances in each batch are multiplied
    by what puts the share `soft` of P's mass on pairs of different samples; 0 is a hard contrast. Without, they are
    taken as they are, as in the authors' code, and `soft` says nothing. The scalar of that name tells the share that
    came of it, and `attainable` the largest Q as a share of the largest P. `head_scale` is the mean squared distance
    between outputs of the head that Q sees; 0 leaves them at unit variance, which is 2 `outputs`.

    The head is three layers with batch norm, the last without scale and shift, so that distances have a unit. Features
    for the probe, and the condition of the generator, are the encoder's: h.
    """

    nu: float = 1.0
    nu_code: float = 100.0
    soft: float = 0.15
    scaled: bool = True
    head_scale: float = 16.0
    detach: bool = True
    hidden: int = 512
    outputs: int = 64

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("adamw", 1e-3, 1e-4, 0.05),  # AdamW at 1e-3 is the authors' for vectors
        "large": Preset("adamw", 1e-3, 1e-4, 0.1),
        "short": Preset("adamw", 1e-3, 1e-4, 0.05),
    }
    generator_positives: ClassVar[str] = "conditional"

    def __post_init__(self) -> None:
        low, high = DEGREES
        for name in ("nu", "nu_code"):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} {getattr(self, name)}", f"degrees of freedom from {low:g} to {high:g}")
        share(self, "soft")
        if not 0 <= self.head_scale < math.inf:
            raise InputError(f"head_scale {self.head_scale}", "a finite number from 0 up", "0 scales nothing")

    @property
    def attainable(self) -> float:
        """The largest Q over the largest P: at nu 0.01 the best pair reaches 0.0155 where 0.99 is asked."""
        zero = torch.zeros((), dtype=torch.float64)
        return (log_kernel(zero, self.nu) - log_kernel(zero, self.nu_code)).exp().item()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        head = MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True, last_norm=True)
        return nn.ModuleDict({"projector": head})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "diffaug")
        h = views.encode(encoder)  # [V, B, F]
        z = parts["projector"](h)  # [V, B, D], unit variance: two samples lie 2 D apart
        if self.head_scale:
            z = z * math.sqrt(self.head_scale / (2 * self.outputs))
        d2 = code_distances(h.detach() if self.detach else h)  # [V, B, B]
        if self.scaled:
            d2 = d2 * softening(d2, self.nu_code, self.soft)
        p = log_kernel(d2, self.nu_code).exp()
        pairs = [(u, v) for u in range(len(z)) for v in range(u)]
        terms = [soft_contrastive((p[u] + p[v]) / 2, z[u], z[v], self.nu) for u, v in pairs]
        loss = torch.stack(terms).mean()
        soft = off_diagonal_share(p.detach()).mean()
        attainable = torch.full_like(soft, self.attainable)
        return Outcome(loss, {"z_std": spread(z), "soft": soft, "attainable": attainable})
