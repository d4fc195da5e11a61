"""MoCo v3: an empirical study of training self-supervised vision transformers (Chen et al. 2021, arXiv 2104.02057).

A view's prediction must find the key a slow teacher makes of its sample's other view among the keys of the batch. No
queue; a predictor instead.

Published, linear probe: CIFAR-10 93.10, CIFAR-100 68.83 (ResNet-18, 1000 epochs, online probe, solo-learn); ImageNet
68.9, 72.8 and 74.6 (ResNet-50, 100, 300 and 1000 epochs, facebookresearch/moco-v3).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 53.3 ± 0.1, linear 53.6 ± 0.8.
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
def info_nce(q: Tensor, k: Tensor, tau: float) -> Tensor:
    """InfoNCE within a batch, equation 1 of the paper, averaged over samples (and pairs of views).

        l_i = -log  exp(q_i.k_i / tau) / sum_j exp(q_i.k_j / tau)

    Args:
        q: queries [.., B, D]. Need not be normalised, nor need k.
        k: keys [.., B, D]; row i is the match of query i, the other rows are its negatives.
        tau: temperature.
    """
    logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / tau  # [.., B, B]
    return (logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)).mean()


@METHODS.register("mocov3", "predictions find their partner among a slow teacher's keys", "arXiv 2104.02057")
@dataclass(frozen=True)
class MoCoV3(Method):
    """Settings of solo-learn's CIFAR runs. Batch norm without scale and shift ends the projector, not the predictor."""

    temperature: float = 0.2
    hidden: int = 4096  # of projector and predictor
    outputs: int = 256
    tau_start: float = 0.99
    tau_end: float = 1.0
    predictor_rate: float = 1.0  # times the learning rate

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.3, 1e-6),  # solo-learn, CIFAR
        "large": Preset("lars", 0.3, 1.5e-6, 0.01, {"temperature": 1.0, "tau_start": 0.996}),  # moco-v3, 1000 epochs
        "short": Preset("sgd", 0.2, 5e-4, 0.05, {"tau_start": 0.9}, "vicreg"),
    }
    collapse_costs: ClassVar[bool] = False  # not before the predictor has learnt to meet the keys; then it does

    def __post_init__(self) -> None:
        positive(self, "temperature", "predictor_rate")
        share(self, "tau_start", "tau_end")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["asymmetric"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs, norm=True, last_norm=True)
        predictor = MLP(self.outputs, self.hidden, self.outputs, norm=True)
        teacher = Teacher(encoder=encoder, projector=projector)
        return nn.ModuleDict({"projector": projector, "predictor": predictor, "teacher": teacher})

    def rates(self) -> Mapping[str, float]:
        return {"predictor": self.predictor_rate}

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "mocov3")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        k = views.targets.encode(parts["teacher"])  # [T, B, D]
        q, k = paired(parts["predictor"](z), k, views.target_index)  # [P, B, D] each
        # 2 tau keeps the gradient's size at any temperature; the paper adds both directions, hence the other 2.
        return Outcome(2 * 2 * self.temperature * info_nce(q, k, self.temperature), {"z_std": spread(z)})

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        tau = cosine_between(self.tau_start, self.tau_end, progress)
        cast(Teacher, parts["teacher"]).follow(tau, encoder=encoder, projector=parts["projector"])
