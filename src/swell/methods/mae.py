"""MAE: masked autoencoders are scalable vision learners (He et al. 2022, arXiv 2111.06377).

Three quarters of an image's patches are left out, a vision transformer encodes the rest, and a light decoder must tell
the pixels of what is missing. The encoder sees a quarter of the tokens, so a step is cheap; no pairs, no negatives.

Published, ImageNet, ViT-B/16: fine-tuned 83.6, linear probe 68.0; ViT-L/16 85.9 and 75.8. ViT-B, 100 epochs of 256
(lightly): fine-tuned 81.3, linear 46.0, kNN 11.2. CIFAR: none in the paper; solo-learn has a setting (ViT-S, patches of
4, 1000 epochs) without a number.

Ours, CIFAR-10, vit_tiny at width 0.5, 4 minutes on two cores: kNN 37.0 ± 1.6, linear 44.3 ± 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.gallery import Gallery
from swell.methods.masked_pictures import SHOWN_SAMPLES, masked_gallery
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views
from swell.methods.terms import PATCH_EPSILON, full_precision, spread
from swell.methods.token_plans import Kept
from swell.nets.backbones import Backbone
from swell.nets.decoder import Decoder
from swell.nets.vit import patchify
from swell.views.plan import VIEWS, ViewPlan

PAPER_DECODER: Mapping[str, Any] = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}


@full_precision
def normalised(patches: Tensor) -> Tensor:
    """Every patch [.., C p p] with mean 0 and variance 1: (x - mean) / sqrt(var + 1e-6), var over C p p - 1."""
    return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + PATCH_EPSILON).sqrt()


@full_precision
def masked_error(predicted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the pixels of the hidden patches; predicted and target [B, L, C p p], hidden [B, L]."""
    error = (predicted - target).square().mean(-1)  # [B, L]
    return (error * hidden).sum() / hidden.sum()


def make_decoder(encoder: nn.Module, width: int, depth: int, heads: int, normalise: bool) -> Decoder:
    """The decoder of an encoder's patches.

    Raises:
        InputError: targets to normalise that are single numbers, which have no spread.
    """
    decoder = Decoder(encoder, width, depth, heads)
    if normalise and decoder.head.out_features < 2:
        raise InputError("normalised patches of one number", "two at least", "give larger patches, or normalise=false")
    return decoder


def encoded_and_error(
    encoder: nn.Module, decoder: Decoder, x: Tensor, plan: Kept, normalise: bool
) -> tuple[Tensor, Tensor]:
    """For images [B, C, H, W]: the encoded patch tokens [N, M, D], and the error of what the plan does not show."""
    tokens = encoder(x, plan)  # [N, extra + M, D]
    predicted = decoder(tokens, plan, decoder.grid_of(x))  # [B, L, C p p]
    target = patchify(x, decoder.patch)
    error = masked_error(predicted, normalised(target) if normalise else target, plan.hidden)
    return tokens[:, decoder.extra :], error


def mean_over_images(values: list[Tensor], views: Views) -> Tensor:
    """The mean of one value a group of views, each counted by its images."""
    weights = [len(group) / sum(map(len, views.groups)) for group in views.groups]
    return torch.stack([value * weight for value, weight in zip(values, weights, strict=True)]).sum()


@METHODS.register("mae", "tell the pixels of the patches that were left out", "arXiv 2111.06377")
@dataclass(frozen=True)
class MAE(Method):
    """A sample's views are samples of their own: one is enough.

    The decoder is light beside ViT-tiny, as the paper's is beside ViT-L; solo-learn's for CIFAR, of 512 features and 8
    blocks, would take most of the work. Targets are pixels in [0, 1], not standardised by channel as in the paper's
    code; normalised patch by patch they differ from those only by the channels' relative scale.
    """

    mask: float = 0.75  # share of the patches left out
    normalise: bool = True  # targets, patch by patch
    decoder_width: int = 128
    decoder_depth: int = 4
    decoder_heads: int = 4

    backbone: ClassVar[str] = "vit_tiny"
    needs_tokens: ClassVar[bool] = True
    collapse_costs: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Preset]] = {
        "small": Preset("adamw", 2e-4, 0.05, 0.01, beta2=0.95),  # solo-learn, CIFAR
        # The paper's: ViT-B/16, 800 epochs of 4096, 40 of them warm-up. Untested by us at that scale.
        "large": Preset("adamw", 1.5e-4, 0.05, 0.05, PAPER_DECODER, beta2=0.95),
        "short": Preset("adamw", 5e-4, 0.05, 0.05, {"decoder_depth": 2}, beta2=0.95),  # benchmarks/masked_rates.py
    }

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise InputError(f"mask {self.mask}", "a number between 0 and 1", "0.75 is the paper's")

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        return VIEWS["mae"]()

    def parts(self, encoder: Backbone) -> nn.ModuleDict:
        decoder = make_decoder(encoder, self.decoder_width, self.decoder_depth, self.decoder_heads, self.normalise)
        return nn.ModuleDict({"decoder": decoder})

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
        decoder = parts["decoder"]
        assert isinstance(decoder, Decoder)
        errors, means = [], []
        for x in views.groups:
            h, w = decoder.grid_of(x)
            plan = Kept.draw(len(x) * views.ranks.count, h * w, self.mask, x.device)  # of the whole batch
            plan, _ = plan.only(views.places(x))
            tokens, error = encoded_and_error(encoder, decoder, x, plan, self.normalise)
            errors.append(error)
            means.append(tokens.detach().mean(1))  # [B, D]
        loss = mean_over_images(errors, views)
        z_std = spread(views.ranks.gather(torch.cat(means)))
        return Outcome(loss, {"z_std": z_std, "reconstruction": loss.detach()})

    def pictures(self, encoder: nn.Module, parts: nn.ModuleDict, samples: Tensor) -> Sequence[Gallery]:
        decoder = parts["decoder"]
        assert isinstance(decoder, Decoder)
        x = samples[:SHOWN_SAMPLES]
        h, w = decoder.grid_of(x)
        plan = Kept.draw(len(x), h * w, self.mask, x.device)
        return [masked_gallery(encoder, decoder, x, plan, self.normalise)]
