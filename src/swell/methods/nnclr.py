"""NNCLR: nearest-neighbour contrastive learning of visual representations (Dwibedi et al. 2021, arXiv 2104.14548).

A view's prediction must be found, among those of the batch, by the nearest neighbour of its sample's other view in a
queue of earlier projections: another sample of the same kind stands in for the augmented copy.

Published, linear probe: CIFAR-10 91.88, CIFAR-100 69.62 (ResNet-18, 1000 epochs, online probe, queue 65,536,
solo-learn); ImageNet 75.6 (ResNet-50, 1000 epochs, the paper).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 52.4 ± 0.0, linear 55.8 ± 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.mocov2 import one_row_each
from swell.methods.mocov3 import info_nce
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import full_precision, paired, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.nets.queue import Queue
from swell.views.plan import VIEWS, ViewPlan


@full_precision
def nearest(z: Tensor, queue: Tensor) -> Tensor:
    """NN(z, Q): for every z [.., D] the one of the unit rows [K, D] with the largest cosine.

    Among unit rows the largest inner product says which, whatever the length of z.
    """
    return queue[(z.detach() @ queue.T).argmax(-1)]


def nnclr_loss(neighbours: Tensor, p: Tensor, tau: float) -> Tensor:
    """InfoNCE between the neighbour and the predictions of the batch, averaged over samples (and pairs of views).

        l_i = -log  exp(NN(z_i).p_i / tau) / sum_j exp(NN(z_i).p_j / tau)

    Args:
        neighbours: NN(z) [.., B, D].
        p: predictions of another view [.., B, D].
        tau: temperature.
    """
    return info_nce(neighbours, p, tau)


@METHODS.register("nnclr", "the nearest neighbour in a queue as the positive", "arXiv 2104.14548")
@dataclass(frozen=True)
class NNCLR(Method):
    """Settings of solo-learn's CIFAR runs, but for the queue.

    In a queue longer than the data set a sample's nearest neighbour is itself, an epoch ago. Hence 4096 instead of
    65,536 rows; keep it below the number of samples, larger sets take more. The queue gets one projection a sample and
    step, as in the paper. It starts with random unit rows.
    """

    temperature: float = 0.2
    hidden: int = 2048
    outputs: int = 256
    predictor: int = 4096  # its hidden width
    predictor_rate: float = 1.0  # times the learning rate
    queue: int = 4096

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.4, 1e-5),  # solo-learn, CIFAR
        # Temperature and queue as VISSL has them; rate and decay are SimCLR's, not checked against the paper.
        "large": Preset("lars", 0.3, 1e-6, 0.01, {"temperature": 0.1, "queue": 98304}),
        "short": Preset("sgd", 0.2, 5e-4, 0.05, {"predictor": 512, "queue": 1024}, "vicreg", batch_size=64),
    }
    collapse_costs: ClassVar[bool] = False  # not before the predictor has learnt to meet the neighbours; then it does

    def __post_init__(self) -> None:
        positive(self, "temperature", "predictor_rate")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["asymmetric"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=True, last_norm=True)
        predictor = MLP(self.outputs, self.predictor, self.outputs, norm=True)
        queue = Queue(self.queue, self.outputs, fill=True)
        return nn.ModuleDict({"projector": projector, "predictor": predictor, "queue": queue})

    def rates(self) -> Mapping[str, float]:
        return {"predictor": self.predictor_rate}

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "nnclr")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        targets = views.target_index
        support = F.normalize(torch.stack([z[v] for v in targets]).detach().float(), dim=-1)  # [T, B, D]
        neighbours = nearest(support, cast(Queue, parts["queue"]).rows)  # [T, B, D]
        scalars = {"z_std": spread(z), "neighbour_cosine": (support * neighbours).sum(-1).mean()}
        p, neighbours = paired(parts["predictor"](z), neighbours, targets)  # [P, B, D] each
        return Outcome(nnclr_loss(neighbours, p, self.temperature), scalars, {"z": one_row_each(support)})

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        cast(Queue, parts["queue"]).push(kept["z"])
