"""DINO: emerging properties in self-supervised vision transformers (Caron et al. 2021, arXiv 2104.14294).

The student predicts the teacher's distribution over prototypes for another view of the sample. The teacher, a slow
copy of the student, is centred (no prototype may win every time) and sharpened (nor may all of them draw).

Published, CIFAR-10, ResNet-18: 89.5 (CIFAR-100: 66.8; 1000 epochs, two views, online linear probe, solo-learn), 84.0
(200 epochs of 128, kNN, lightly). ImageNet, linear probe: 75.3 (ResNet-50, facebookresearch/dino), 68.2 (ResNet-50, 100
epochs of 256, lightly).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 47.9 ± 0.1, linear 49.9 ± 0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from swell.methods.assignment import prototypes_used, swapped_prediction
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive, share
from swell.methods.simclr import at_least_two_views
from swell.methods.terms import cosine_between, full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP
from swell.nets.prototypes import Prototypes
from swell.nets.teacher import Teacher
from swell.views.plan import VIEWS, ViewPlan


@full_precision
def dino_loss(s: Tensor, t: Tensor, c: Tensor, tau_s: float, tau_t: float, targets: list[int]) -> Tensor:
    """Equation 3 of the paper with the centre of equation 4, averaged over all pairs of a target and another view.

        H(P_t, P_s),  P_t = softmax((t - c) / tau_t),  P_s = softmax(s / tau_s)

    Args:
        s: the student's outputs [V, B, K] for all V views of B samples.
        t: the teacher's outputs [T, B, K] for the target views.
        c: centre [K].
        tau_s, tau_t: temperatures of student and teacher.
        targets: where each target stands among the V views.
    """
    return swapped_prediction(s, ((t - c) / tau_t).softmax(-1), targets, tau_s)


class Centre(nn.Module):
    """Moving average of the teacher's mean output, equation 4: c <- m c + (1 - m) mean of t."""

    value: Tensor  # [K]

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(outputs))

    @torch.no_grad()
    def follow(self, mean: Tensor, momentum: float) -> None:
        self.value.lerp_(mean, 1 - momentum)


@METHODS.register("dino", "predicts a slow teacher's centred and sharpened prototype scores", "arXiv 2104.14294")
@dataclass(frozen=True)
class DINO(Method):
    """Settings as in solo-learn's CIFAR runs of 1000 epochs; tau goes to 1 along a cosine."""

    temperature: float = 0.1
    teacher_temperature: float = 0.07  # after the warm-up, in which it rises linearly from the one below
    teacher_temperature_start: float = 0.04
    teacher_warmup: float = 0.05  # share of the budget
    centre_momentum: float = 0.9
    tau: float = 0.9995  # of the teacher at the start
    freeze: float = 0.001  # share of the budget in which the student's prototypes stay as they are
    prototypes: int = 4096
    norm: bool = False  # batch norm in the projector
    hidden: int = 2048
    outputs: int = 256

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.3, 1e-6),
        # facebookresearch/dino, ResNet-50, 100 epochs
        "large": Preset(
            "sgd", 0.03, 1e-4, 0.1, {"tau": 0.996, "teacher_temperature": 0.04, "freeze": 0.01, "prototypes": 65536}
        ),
        # A few hundred steps: a teacher near its student, and sharp enough not to teach them all prototypes alike.
        "short": Preset(
            "sgd",
            0.2,
            5e-4,
            0.05,
            {
                "tau": 0.99,
                "teacher_temperature": 0.02,
                "teacher_temperature_start": 0.02,
                "norm": True,
                "prototypes": 256,
            },
            "vicreg",
            batch_size=64,
        ),
    }
    collapse_costs: ClassVar[bool] = False  # the teacher's centre and temperature prevent it, not the loss

    def __post_init__(self) -> None:
        positive(self, "temperature", "teacher_temperature", "teacher_temperature_start")
        share(self, "teacher_warmup", "centre_momentum", "tau", "freeze")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        side = max(shape[1:], default=32)
        return VIEWS["asymmetric"]() if side <= 64 else VIEWS["swav_imagenet"](side)

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        projector = MLP(encoder.features, self.hidden, self.outputs, layers=3, norm=self.norm)
        prototypes = Prototypes(self.outputs, self.prototypes, weight_norm=True)
        teacher = Teacher(encoder=encoder, projector=projector, prototypes=prototypes)
        centre = Centre(self.prototypes)
        return nn.ModuleDict({"projector": projector, "prototypes": prototypes, "teacher": teacher, "centre": centre})

    def teacher_tau(self, progress: float) -> float:
        """The teacher's temperature at `progress`."""
        if progress >= self.teacher_warmup:
            return self.teacher_temperature
        rise = self.teacher_temperature - self.teacher_temperature_start
        return self.teacher_temperature_start + rise * progress / self.teacher_warmup

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "dino")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        s = parts["prototypes"](z, frozen=progress < self.freeze)  # [V, B, K]
        t = views.targets.encode(parts["teacher"])  # [T, B, K]
        c, tau_t = cast(Centre, parts["centre"]).value, self.teacher_tau(progress)
        loss = dino_loss(s, t, c, self.temperature, tau_t, views.target_index)
        scalars = {"z_std": spread(z), "prototypes_used": prototypes_used(((t - c) / tau_t).softmax(-1))}
        return Outcome(loss, scalars, {"mean": t.mean((0, 1))})

    def after_step(self, encoder: nn.Module, parts: nn.ModuleDict, kept: Mapping[str, Tensor], progress: float) -> None:
        tau = cosine_between(self.tau, 1.0, progress)
        cast(Teacher, parts["teacher"]).follow(
            tau, encoder=encoder, projector=parts["projector"], prototypes=parts["prototypes"]
        )
        cast(Centre, parts["centre"]).follow(kept["mean"], self.centre_momentum)
