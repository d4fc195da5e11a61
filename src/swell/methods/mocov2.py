"""MoCo v2: momentum contrast (He et al. 2019, arXiv 1911.05722) with a projector (Chen et al. 2020, arXiv 2003.04297),
here in the symmetric form called v2+ (solo-learn, SimSiam's appendix): every view asks, every view is a key.

A view must find the key a slow teacher makes of its sample's other view among the keys of earlier batches, kept in a
queue; so the number of negatives does not depend on the batch.

Published, linear probe: CIFAR-10 92.94, CIFAR-100 69.89 (ResNet-18, 1000 epochs, online probe, queue 32,768,
solo-learn); ImageNet 67.7 and 71.1 (ResNet-50, 200 and 800 epochs, facebookresearch/moco).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 46.9 ± 0.4, linear 46.9 ± 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive, share
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import cosine_between, full_precision, other_pairs, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.nets.queue import Queue
from swell.nets.teacher import Teacher
from swell.views.plan import VIEWS, ViewPlan


@full_precision
def moco_loss(q: Tensor, k: Tensor, queue: Tensor, tau: float, targets: list[int]) -> Tensor:
    """InfoNCE against a queue, equation 1 of the MoCo paper, averaged over samples and pairs of views.

        l(q, k) = -log  exp(q.k / tau) / (exp(q.k / tau) + sum_{n in queue} exp(q.n / tau))

    Args:
        q: the student's projections [V, B, D] of all views. Need not be normalised, nor need k.
        k: the teacher's [T, B, D] of the target views.
        queue: unit rows [K, D].
        tau: temperature.
        targets: where each target stands among the V views.
    """
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    negatives = (q @ queue.T / tau).logsumexp(-1)  # [V, B]
    losses = []
    for t, v in other_pairs(len(q), targets):
        match = (q[v] * k[t]).sum(-1) / tau  # [B]
        losses.append(F.softplus(negatives[v] - match))  # -log of match's share of the sum
    return torch.stack(losses).mean()


def one_row_each(x: Tensor) -> Tensor:
    """Of [T, B, D] one row a sample, [B, D]: sample b's from view b mod T, so that all views have their share."""
    t, b, _ = x.shape
    sample = torch.arange(b, device=x.device)
    return x[sample % t, sample]


@METHODS.register("mocov2", "views find their partner among a queue of a slow teacher's keys", "arXiv 2003.04297")
@dataclass(frozen=True)
class MoCoV2(Method):
    """Settings of solo-learn's CIFAR runs, but for the queue.

    A queue longer than the data set holds every sample's own keys of earlier epochs, which count as negatives though
    they are none. Hence 4096 instead of 32,768 rows; keep it below the number of samples, larger sets take more. The
    queue gets one key a sample and step, as in the paper. It starts with random unit rows.
    """

    temperature: float = 0.2
    hidden: int = 2048
    outputs: int = 256
    queue: int = 4096
    tau_start: float = 0.99
    tau_end: float = 0.999

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("sgd", 0.3, 1e-4),  # solo-learn, CIFAR
        "large": Preset(
            "sgd", 0.03, 1e-4, 0.0, {"outputs": 128, "queue": 65536, "tau_start": 0.999}
        ),  # facebookresearch/moco, v2
        "short": Preset("sgd", 0.06, 5e-4, 0.05),
    }
    collapse_costs: ClassVar[bool] = False  # not against the random rows of a new queue; against a full one it does

    def __post_init__(self) -> None:
        positive(self, "temperature")
        share(self, "tau_start", "tau_end")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["symmetric_weak"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs)
        teacher = Teacher(encoder=encoder, projector=projector)
        queue = Queue(self.queue, self.outputs, fill=True)
        return nn.ModuleDict({"projector": projector, "teacher": teacher, "queue": queue})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "mocov2")
        q = views.encode(encoder, parts["projector"])  # [V, B, D]
        k = views.targets.encode(parts["teacher"])  # [T, B, D]
        loss = moco_loss(q, k, cast(Queue, parts["queue"]).rows, self.temperature, views.target_index)
        return Outcome(loss, {"z_std": spread(q)}, {"keys": F.normalize(one_row_each(k).float(), dim=-1)})

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        tau = cosine_between(self.tau_start, self.tau_end, progress)
        cast(Teacher, parts["teacher"]).follow(tau, encoder=encoder, projector=parts["projector"])
        cast(Queue, parts["queue"]).push(kept["keys"])
