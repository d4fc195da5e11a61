"""EMP-SSL: self-supervised learning in one training epoch (Tong et al. 2023, arXiv 2304.03977).

Many small patches of every sample are drawn to their mean by cosine, while the coding rate of each patch's batch is
kept large so that samples stay apart. A pass over the data with 20 patches costs what 10 passes with two views do.

Published, ResNet-18, linear probe on 4096 features of the head averaged over 128 random patches, best epoch on the test
set: CIFAR-10 80.6 after 1 epoch with 20 patches, 90.7 after 10, 93.1 after 30; with 200 patches 82.6, 91.5, 93.4;
CIFAR-100 72.4 (20 patches, 30 epochs); ImageNet-100 78.9 (200 patches, 10 epochs). `swell evaluate --patches` averages
over patches too, features of the backbone, and the test set chooses nothing.

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 55.0 ± 0.1, linear 59.1 ± 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.views.plan import VIEWS, ViewPlan

LEAST_EPS_SQ = 1e-3  # below it float32 cannot tell I + d / (b eps^2) Z Z^T of a collapsed batch from a singular matrix


@full_precision
def coding_rate(z: Tensor, eps_sq: float) -> Tensor:
    """Total coding rate of each view [V], equation 1 of the paper (Ma et al. 2007; MCR^2):

        R(Z) = 1/2 log det(I_d + d / (b eps^2) Z^T Z) = 1/2 log det(I_b + d / (b eps^2) Z Z^T)

    The two determinants are equal (Sylvester); the smaller matrix is the one decomposed.

    Args:
        z: unit rows [V, b, d].
        eps_sq: the squared distortion allowed, eps^2.
    """
    b, d = z.shape[-2:]
    gram = z @ z.mT if b <= d else z.mT @ z  # [V, m, m], m = min(b, d)
    factor = torch.linalg.cholesky(torch.eye(min(b, d), device=z.device, dtype=z.dtype) + d / (b * eps_sq) * gram)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def rate_bound(b: int, d: int, eps_sq: float) -> float:
    """The largest coding rate of b unit rows in d dimensions.

    With m = min(b, d), Z Z^T has at most m eigenvalues that are not 0, and they sum to b, the rows' squared lengths.
    The logarithm is concave, so the rate is largest when all m are b / m: R <= m/2 ln(1 + d / (m eps^2)). Orthogonal
    rows reach it if b <= d, with b/2 ln(1 + d / (b eps^2)); a tight frame, Z^T Z = b/d I, if b >= d, with
    d/2 ln(1 + 1 / eps^2).
    """
    m = min(b, d)
    return m / 2 * math.log1p(d / (m * eps_sq))


@full_precision
def mean_cosine(z: Tensor) -> Tensor:
    """Mean over views and samples of the cosine between a view z_i and the mean of the sample's views; z [V, B, d].

    The gradient also flows through the mean. Costs O(V B d); no pair of views is ever formed.
    """
    return F.cosine_similarity(z, z.mean(0, keepdim=True), dim=-1).mean()


@METHODS.register("emp_ssl", "many patches drawn to their mean, coding rate kept large", "arXiv 2304.03977")
@dataclass(frozen=True)
class EMPSSL(Method):
    """Loss  -invariance * mean cosine - rate / bound.

    The paper's loss is -200 mean cosine - rate. Its 200 is about the bound of the rate for its own b = 100 and d =
    1024, 197.75, and means something else at any other batch or width (389.7 at b = 256). Divided by the bound the
    two terms weigh 1.0114 : 1 there, and as much everywhere.

    Rates: the released code has LARS with eta 0.005, Nesterov momentum, decay 1e-4 and a rate of 0.3, a ceiling far
    above what eta |w| / |g| comes to with its large loss. So nearly all its steps are 0.005 of a layer's norm, whatever
    the rate and the batch. Our loss, the paper's over 197.75, has smaller gradients, and under a ceiling it would be
    trained by plain SGD. LARS without one (eta 0.02) does not see the size: at 0.5 the mean step over the cosine is as
    long as theirs. It does not grow with the batch, as theirs do not. Decay: 1e-4 / 197.75 = 5e-7.
    """

    invariance: float = 1.0114  # 200 / rate_bound(100, 1024, 0.2)
    eps_sq: float = 0.2  # eps^2 of the paper; the released code calls it eps
    hidden: int = 4096
    outputs: int = 1024

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars_unclipped", 0.5, 5e-7, 0.0, batch_size=100, scaled=False),  # tsb0601/EMP-SSL
        "large": Preset("lars_unclipped", 0.5, 5e-7, 0.0, views="emp_ssl_imagenet", batch_size=100, scaled=False),
        "short": Preset("lars_unclipped", 2.0, 5e-7, 0.05, views="emp_ssl_crops", batch_size=32, scaled=False),
    }

    def __post_init__(self) -> None:
        positive(self, "invariance")
        if not LEAST_EPS_SQ <= self.eps_sq <= 10:
            raise InputError(f"eps_sq {self.eps_sq}", f"a number from {LEAST_EPS_SQ:g} to 10", "0.2 is the paper's")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["emp_ssl"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        return nn.ModuleDict({"projector": MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True)})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "emp_ssl")
        z = F.normalize(views.encode(encoder, parts["projector"]).float(), dim=-1)  # [V, B, d]
        cosine = mean_cosine(z)
        _, b, d = z.shape
        rate = coding_rate(z, self.eps_sq).mean() / rate_bound(b, d, self.eps_sq)
        scalars = {"z_std": spread(z), "invariance": cosine.detach(), "rate": rate.detach()}
        return Outcome(-self.invariance * cosine - rate, scalars)
