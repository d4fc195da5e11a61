"""SwAV: unsupervised learning by contrasting cluster assignments (Caron et al. 2020, arXiv 2006.09882).

Every view predicts to which prototypes another view of the sample is assigned; the assignments share the samples of
a batch (and of a queue) equally among the prototypes, so that they cannot all fall into one. Small crops only predict.

Published, CIFAR-10, ResNet-18: 89.2 (CIFAR-100: 64.9; 1000 epochs, two views, online linear probe, solo-learn), 81.2
(200 epochs of 128, kNN, lightly). ImageNet, ResNet-50, linear probe: 75.3 (800 epochs of 4096, 2 + 6 crops), 72.7 (200
epochs of 256, 2 + 6 crops), 70.1 (400 epochs of 4096, two views), all facebookresearch/swav.

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 54.7 ± 0.3, linear 59.5 ± 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.assignment import prototypes_used, sinkhorn, swapped_prediction
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive, share
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.nets.prototypes import Prototypes
from swell.nets.queue import Queue
from swell.views.plan import VIEWS, ViewPlan


def codes(scores: Tensor, queued: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assignments q [T, B, K] of the target views by their scores [T, B, K], each view's batch on its own but for
    the scores [N, K] of older samples, which join every batch so that B may be smaller than K.
    """
    batch = scores.shape[1]
    return torch.stack([sinkhorn(torch.cat([s, queued]), epsilon, iterations)[:batch] for s in scores])


@METHODS.register(
    "swav", "views predict each other's assignment to prototypes; made for many crops", "arXiv 2006.09882"
)
@dataclass(frozen=True)
class SwAV(Method):
    """Settings as in solo-learn's CIFAR runs of 1000 epochs. The authors advise 10 to 300 prototypes for small sets."""

    temperature: float = 0.1
    epsilon: float = 0.05  # of Sinkhorn; smaller is sharper (the authors' remedy for a loss that stays at ln K: 0.03)
    iterations: int = 3
    prototypes: int = 3000
    freeze: float = 0.002  # share of the budget in which the prototypes stay as they are
    queue: int = 3840  # embeddings of targets in the assignments beside the batch
    queue_start: float = 0.05  # share of the budget after which the queue is filled and, once full, used; 1: never
    hidden: int = 2048
    outputs: int = 128

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.6, 1e-6),
        # facebookresearch/swav, 200 epochs of 256
        "large": Preset("lars", 0.6, 1e-6, 0.0, {"freeze": 0.005, "queue_start": 0.075}),
        # Two gentle crops instead of eight: in few minutes it is the steps that count.
        "short": Preset(
            "lars", 1.2, 1e-6, 0.05, {"prototypes": 100, "epsilon": 0.03, "queue_start": 1.0}, "vicreg", batch_size=128
        ),
    }

    def __post_init__(self) -> None:
        positive(self, "temperature", "epsilon", "iterations")
        share(self, "freeze", "queue_start")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        side = max(shape[1:], default=32)
        return VIEWS["swav" if side <= 64 else "swav_imagenet"](side)

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                "projector": MLP(encoder.features, self.hidden, self.outputs, norm=True),
                "prototypes": Prototypes(self.outputs, self.prototypes),
                "queue": Queue(self.queue, self.outputs),
            }
        )

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "swav")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        scores = parts["prototypes"](z, frozen=progress < self.freeze)  # [V, B, K]
        targets = views.target_index
        with torch.no_grad():
            queue = cast(Queue, parts["queue"])
            in_use = progress >= self.queue_start and queue.full
            older = parts["prototypes"](queue.rows if in_use else queue.rows[:0])
            of_targets = torch.stack([scores[v] for v in targets])
            q = codes(of_targets, older, self.epsilon, self.iterations)
            used = prototypes_used((of_targets / self.temperature).softmax(-1))
            kept = F.normalize(torch.stack([z[v] for v in targets]).flatten(0, 1).float(), dim=1)  # [T B, D]
        loss = swapped_prediction(scores, q, targets, self.temperature)
        return Outcome(loss, {"z_std": spread(z), "prototypes_used": used}, {"z": kept})

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        cast(Prototypes, parts["prototypes"]).renormalise()
        # One queue for all targets: its rows are views drawn like theirs, whichever target they were, so that the
        # order of the views does not matter and a plan may have any number of them.
        if progress >= self.queue_start:
            cast(Queue, parts["queue"]).push(kept["z"])
