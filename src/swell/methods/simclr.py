"""SimCLR: a simple framework for contrastive learning of visual representations (Chen et al. 2020, arXiv 2002.05709).

Two views of every sample, or more; each view must find its partners among all other views of the batch.

Published, CIFAR-10, ResNet-18, linear probe: 90.7 (1000 epochs, solo-learn, online probe), 91.6 (AdaInf's baseline,
100,000 steps of 512, online probe), 83.3 (100 epochs of 256, temperature 0.1, in the DCL paper's repository).

Ours, CIFAR-10, ResNet-18 at width 0.25, 5 minutes on two cores: kNN 58.4 ± 0.1, linear 60.2 ± 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, positive
from swell.methods.terms import full_precision, spread
from swell.nets.backbones import Backbone
from swell.nets.heads import MLP


@full_precision
def nt_xent(z: Tensor, tau: float) -> Tensor:
    """The normalised temperature-scaled cross entropy, equation 1 of the paper, averaged over all views.

        l(i, j) = -log  exp(sim(z_i, z_j) / tau) / (exp(sim(z_i, z_j) / tau) + sum_{k not of i's sample} exp(...))

    With two views the denominator is the paper's sum over all k != i. With more, every other view of the sample is a
    positive j in its turn, and the remaining ones are left out of its denominator: they are no negatives.

    Args:
        z: projections [V, B, D], V views of B samples. Need not be normalised.
        tau: temperature.
    """
    positives, negatives = similarities(z, tau)
    return (torch.logaddexp(positives, negatives.unsqueeze(1)) - positives).mean()


def similarities(z: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """For views z [V, B, D]: sim / tau with each other view of the sample [V, V - 1, B], and the log of the summed
    exponentials of sim / tau with all views of other samples [V, B].
    """
    v, b, _ = z.shape
    z = F.normalize(z, dim=-1)
    flat = z.flatten(0, 1)  # [V B, D]
    sim = (flat @ flat.T / tau).view(v, b, v, b)
    same_sample = torch.eye(b, dtype=torch.bool, device=z.device).view(1, b, 1, b)
    negatives = sim.masked_fill(same_sample, float("-inf")).flatten(2).logsumexp(-1)
    other_view = ~torch.eye(v, dtype=torch.bool, device=z.device)
    positives = sim.diagonal(dim1=1, dim2=3)[other_view].view(v, v - 1, b)
    return positives, negatives


def at_least_two_views(views: Views, name: str) -> None:
    """Raises InputError for a single view: there is no pair."""
    if views.count < 2:
        raise InputError(f"a view plan of {views.count} view", f"at least 2 views for {name}", "choose another --views")


@METHODS.register("simclr", "every view finds its partners among all views of the batch", "arXiv 2002.05709")
@dataclass(frozen=True)
class SimCLR(Method):
    """Settings as in AdaInf's CIFAR runs: temperature 0.2, projector 2048-256 without batch norm."""

    temperature: float = 0.2
    hidden: int = 2048
    outputs: int = 256
    norm: bool = False  # batch norm after each layer of the projector, as in the paper's code

    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("lars", 0.4, 1e-4),  # solo-learn, CIFAR
        "large": Preset("lars", 0.3, 1e-6, 0.1, {"temperature": 0.1, "outputs": 128}),  # google-research/simclr
        "short": Preset("sgd", 0.2, 5e-4, 0.05, {"norm": True}, "vicreg", batch_size=64),
        "vectors": Preset("adamw", 1e-3, 1e-4, 0.05, {"hidden": 512}),
    }

    def __post_init__(self) -> None:
        positive(self, "temperature")

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        head = MLP(encoder.features, self.hidden, self.outputs, norm=self.norm, last_norm=self.norm)
        return nn.ModuleDict({"projector": head})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        at_least_two_views(views, "simclr")
        z = views.encode(encoder, parts["projector"])  # [V, B, D]
        return Outcome(nt_xent(z, self.temperature), {"z_std": spread(z)})
