"""VICReg: variance-invariance-covariance regularization (Bardes et al. 2022, arXiv 2105.04906).

Views of a sample are to lie close, every feature must keep a standard deviation of at least 1 over the batch, and
features must not covary: collapse is forbidden feature by feature, with neither negatives nor a teacher.

Published: CIFAR-10 92.1 and CIFAR-100 68.5 (ResNet-18, 1000 epochs, solo-learn, online probe), CIFAR-10 69.7 after 10
epochs and 78.1 after 30 (in EMP-SSL's repository, linear probe); ImageNet 73.2 (ResNet-50, linear probe, official
repository).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 55.5 ± 0.3, linear 55.9 ± 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.views.plan import VIEWS, ViewPlan

EPS = 1e-4  # under the square root of the standard deviation


@full_precision
def invariance(z: Tensor) -> Tensor:
    """s(Z, Z'): mean squared distance of two views of a sample, averaged over all pairs of views; z [V, B, D].

    A mean over the D features too, as in the paper's own pseudo-code. The mean square of the differences between V
    numbers is twice their variance, so no pair need be formed.
    """
    return 2 * z.var(0, correction=1).mean()


@full_precision
def variance(z: Tensor) -> Tensor:
    """v(Z) of each view [V]:  1/D sum_j max(0, 1 - sqrt(Var(z_j) + eps)), the variance over the batch; z [V, B, D]."""
    return F.relu(1 - (z.var(1) + EPS).sqrt()).mean(-1)


@full_precision
def covariance(z: Tensor) -> Tensor:
    """c(Z) of each view [V]:  1/D sum_{i != j} C(Z)_ij^2 with C the covariance over the batch; z [V, B, D].

    The squared entries of Z^T Z [D, D] and of Z Z^T [B, B] have the same sum; the smaller of the two is made.
    """
    _, b, d = z.shape
    z = z - z.mean(1, keepdim=True)
    gram = z @ z.mT if b < d else z.mT @ z
    diagonal = z.square().sum(1)  # of Z^T Z
    return (gram.square().sum((1, 2)) - diagonal.square().sum(1)) / (b - 1) ** 2 / d


@METHODS.register("vicreg", "views close, features varied and uncorrelated", "arXiv 2105.04906")
@dataclass(frozen=True)
class VICReg(Method):
    """Equation 6 of the paper, averaged over all pairs of views:

        l(Z, Z') = 25 s(Z, Z') + 25 [v(Z) + v(Z')] + 1 [c(Z) + c(Z')]

    as solo-learn has it; the official code halves the term of v. Settings are solo-learn's for CIFAR.
    """

    similarity_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    hidden: int = 2048
    outputs: int = 2048

    presets: ClassVar[Mapping[str, Preset]] = {
        # solo-learn and the official code warm up for a hundredth, which in runs of a few hundred steps ends in NaN.
        "small": Preset("lars", 0.3, 1e-4, 0.1),
        "large": Preset("lars", 0.2, 1e-6, 0.1, {"hidden": 8192, "outputs": 8192}),
        "short": Preset("sgd", 0.06, 5e-4, 0.05, batch_size=64),  # batches of 256 diverge in a hundred steps
        "vectors": Preset("adamw", 1e-3, 1e-4, 0.05, {"hidden": 512, "outputs": 512}),
    }

    def __post_init__(self) -> None:
        positive(self, "similarity_weight", "variance_weight", "covariance_weight")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["vicreg"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        return nn.ModuleDict({"projector": MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True)})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "vicreg")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        s, v, c = invariance(z), 2 * variance(z).mean(), 2 * covariance(z).mean()
        loss = self.similarity_weight * s + self.variance_weight * v + self.covariance_weight * c
        scalars = {"z_std": spread(z), "invariance": s, "variance": v / 2, "covariance": c / 2}
        return Outcome(loss, {name: value.detach() for name, value in scalars.items()})
