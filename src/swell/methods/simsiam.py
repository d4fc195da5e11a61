"""SimSiam: exploring simple Siamese representation learning (Chen and He 2021, arXiv 2011.10566).

A predictor foretells, from one view, the projection of another, through which no gradient flows. Neither negatives nor
a teacher.

Published, linear probe: CIFAR-10 90.51, CIFAR-100 66.04 (ResNet-18, 1000 epochs, online probe, solo-learn); ImageNet
68.1 (ResNet-50, 100 epochs, facebookresearch/simsiam).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 47.4 ± 1.4, linear 50.4 ± 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, paired, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.views.plan import VIEWS, ViewPlan


@full_precision
def simsiam_loss(p: Tensor, z: Tensor) -> Tensor:
    """Negative cosine similarity, equations 1 and 3 of the paper, averaged over samples (and pairs of views).

        l = -cos(p, stopgrad(z))

    Args:
        p: predictions [.., B, D].
        z: projections [.., B, D] of another view.
    """
    return -F.cosine_similarity(p, z.detach(), dim=-1).mean()


@METHODS.register("simsiam", "predict another view's projection; no negatives, no teacher", "arXiv 2011.10566")
@dataclass(frozen=True)
class SimSiam(Method):
    """The paper's heads: three layers with batch norm after each, and a predictor with a narrow middle.

    The official code keeps the predictor's learning rate constant while the rest decays. Here all parts share one
    schedule. In short runs it is the predictor that lags, and `predictor_rate` helps more than any other setting did
    (trials in docs/methods.md).
    """

    hidden: int = 2048
    outputs: int = 2048
    predictor: int = 512  # its hidden width
    predictor_rate: float = 1.0  # times the learning rate

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("sgd", 0.5, 1e-5),  # solo-learn, CIFAR
        "large": Preset("sgd", 0.05, 1e-4, 0.0),  # facebookresearch/simsiam
        "short": Preset("sgd", 0.2, 5e-4, 0.05, {"outputs": 256, "predictor_rate": 30.0}, "vicreg", batch_size=64),
    }
    collapse_costs: ClassVar[bool] = False  # one point is a minimum of the loss; predictor and stop-gradient prevent it

    def __post_init__(self) -> None:
        positive(self, "predictor_rate")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["symmetric_weak"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True, last_norm=True)
        predictor = MLP(self.outputs, self.predictor, self.outputs, norm=True)
        return nn.ModuleDict({"projector": projector, "predictor": predictor})

    def rates(self) -> Mapping[str, float]:
        return {"predictor": self.predictor_rate}

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "simsiam")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        targets = views.target_index
        target = torch.stack([z[v] for v in targets])  # [T, B, D]
        p, target = paired(parts["predictor"](z), target, targets)  # [P, B, D] each
        return Outcome(simsiam_loss(p, target), {"z_std": spread(z)})
