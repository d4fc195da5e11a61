"""BYOL: bootstrap your own latent (Grill et al. 2020, arXiv 2006.07733).

A predictor foretells, from one view, what a slow teacher makes of another. No negatives: predictor, teacher and
stop-gradient together keep it from collapse.

Published, linear probe: CIFAR-10 92.58, CIFAR-100 70.46 (ResNet-18, 1000 epochs, online probe, solo-learn); ImageNet
74.3 (ResNet-50, 1000 epochs, the paper).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 47.4 ± 1.6, linear 50.7 ± 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive, share
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import cosine_between, full_precision, paired, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.nets.teacher import Teacher
from swell.views.plan import VIEWS, ViewPlan


@full_precision
def byol_loss(p: Tensor, z: Tensor) -> Tensor:
    """Squared distance of unit vectors, equation 2 of the paper, averaged over samples (and pairs of views).

        l = |p / |p| - z / |z||^2 = 2 - 2 cos(p, z)

    Args:
        p: predictions [.., B, D].
        z: the teacher's projections [.., B, D] of another view, without gradient.
    """
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1).mean()


@METHODS.register("byol", "predict what a slow teacher makes of another view; no negatives", "arXiv 2006.07733")
@dataclass(frozen=True)
class BYOL(Method):
    """Settings of solo-learn's CIFAR runs; the teacher stands still at the end (tau 1)."""

    hidden: int = 4096  # of projector and predictor
    outputs: int = 256
    tau_start: float = 0.99
    tau_end: float = 1.0
    predictor_rate: float = 1.0  # times the learning rate

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 1.0, 1e-5),  # solo-learn, CIFAR
        "large": Preset("lars", 0.2, 1.5e-6, 0.01, {"tau_start": 0.996}),  # the paper, 1000 epochs
        "short": Preset("sgd", 0.2, 5e-4, 0.05, {"tau_start": 0.9, "predictor_rate": 30.0}, "vicreg", batch_size=64),
    }
    collapse_costs: ClassVar[bool] = False  # one point is a minimum; teacher and predictor keep away from it

    def __post_init__(self) -> None:
        share(self, "tau_start", "tau_end")
        positive(self, "predictor_rate")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["asymmetric"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs, norm=True)
        predictor = MLP(self.outputs, self.hidden, self.outputs, norm=True)
        teacher = Teacher(encoder=encoder, projector=projector)
        return nn.ModuleDict({"projector": projector, "predictor": predictor, "teacher": teacher})

    def rates(self) -> Mapping[str, float]:
        return {"predictor": self.predictor_rate}

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "byol")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        target = views.targets.encode(parts["teacher"])  # [T, B, D]
        p, target = paired(parts["predictor"](z), target, views.target_index)  # [P, B, D] each
        return Outcome(2 * byol_loss(p, target), {"z_std": spread(z)})  # 2: the paper adds both directions

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        tau = cosine_between(self.tau_start, self.tau_end, progress)
        cast(Teacher, parts["teacher"]).follow(tau, encoder=encoder, projector=parts["projector"])
