"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al. 2021, arXiv 2103.03230).

The cross-correlation of the features of two views, taken over the batch, is driven to the identity: each feature is to
agree between the views and to tell something that the others do not.

Published: CIFAR-10 92.1 and CIFAR-100 70.9 (ResNet-18, 1000 epochs, solo-learn, online probe), CIFAR-10 kNN 84.2 (200
epochs of 128, best epoch, lightly); ImageNet 73.5 (ResNet-50, linear probe, official repository).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 48.8 ± 0.0, linear 49.9 ± 0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.views.plan import VIEWS, ViewPlan

EPS = 1e-5  # of the batch norm that standardises in the released code


@full_precision
def barlow_twins_loss(z: Tensor, lambd: float) -> Tensor:
    """The redundancy-reduction loss, equation 1 of the paper, averaged over all pairs of views:

        L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2,    C = (Z^A)^T Z^B / B

    with Z^A, Z^B [B, D] standardised over the batch. No C [D, D] is formed: its squared entries sum to
    <Z^A Z^A^T, Z^B Z^B^T> / B^2, and those inner products, summed over the pairs A != B, to the square of the sum of
    all Z Z^T less their own squares. So many views cost little more than their Gram matrices [V, B, B].

    Args:
        z: projections [V, B, D], V views of B samples.
        lambd: weight of the off-diagonal entries.
    """
    v, b, _ = z.shape
    z = z - z.mean(1, keepdim=True)
    z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + EPS)
    gram = z @ z.mT  # [V, B, B]
    every = (gram.sum(0).square().sum() - gram.square().sum()) / b**2  # sum of C_ij^2 over all i, j and A != B
    other_view = ~torch.eye(v, dtype=torch.bool, device=z.device)
    diagonal = (z.permute(2, 0, 1) @ z.permute(2, 1, 0) / b)[:, other_view]  # C_ii of all A != B, [D, V (V - 1)]
    off_diagonal = every - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + lambd * off_diagonal) / (v * (v - 1))


@METHODS.register("barlow_twins", "cross-correlation of the views' features driven to 1", "arXiv 2103.03230")
@dataclass(frozen=True)
class BarlowTwins(Method):
    """solo-learn's settings for CIFAR. `scale` multiplies the loss; LARS divides it out again where it adapts the
    rate, so that it sets the pace of biases and norms, and of layers at the ceiling of the rate.

    The official ImageNet code moves biases and norms at 0.0048 where matrices have 0.2: a scale of 0.024.
    """

    lambd: float = 0.005  # Python has its own lambda
    scale: float = 0.1
    hidden: int = 2048
    outputs: int = 2048

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.3, 1e-4, 0.1),
        "large": Preset("lars", 0.2, 1e-6, 0.1, {"lambd": 0.0051, "scale": 0.024, "hidden": 8192, "outputs": 8192}),
        # A loss of VICReg's size: at a scale of 0.1 SGD learnt at neither rate that was tried.
        "short": Preset("sgd", 0.06, 5e-4, 0.05, {"scale": 0.0125}, "vicreg"),
    }

    def __post_init__(self) -> None:
        positive(self, "lambd", "scale")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["asymmetric"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        return nn.ModuleDict({"projector": MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True)})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "barlow_twins")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        return Outcome(self.scale * barlow_twins_loss(z, self.lambd), {"z_std": spread(z)})
