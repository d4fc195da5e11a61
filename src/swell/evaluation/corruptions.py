"""How much of the probe's accuracy survives when the test samples are corrupted? Probes are fitted on clean ones.

Images: noise, blur, contrast and pixelate, four of the fifteen corruptions of Hendrycks & Dietterich 2019 (arXiv
1903.12261), each at three severities of our own. What has a length is told as a share of the image's side, so that it
means the same at every size. Vectors: noise, missing features, and a shift of all samples alike, as between batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from swell.console import Progress
from swell.data.source import Source
from swell.evaluation.intervals import mean_interval
from swell.evaluation.probe import FittedProbe
from swell.nets.encoder import Encoder
from swell.seeding import generator_for
from swell.views import colour

CORRUPTIONS = "swell-corruptions-1"
BLOCK = 512  # samples corrupted at a time, and drawn for

Corrupt = Callable[[Tensor, float, torch.Generator], Tensor]


def noise(x: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise on every number: of pixels in [0, 1], or of standardised features."""
    return x + sd * torch.randn(x.shape, generator=generator).to(x.device)


def blur(x: Tensor, share: float, _: torch.Generator) -> Tensor:
    """A Gaussian whose sd is that share of the longer side; edges replicated."""
    sigma = share * max(x.shape[-2:])
    return colour.blur(x, torch.full((len(x),), sigma, device=x.device), sigma)


def contrast(x: Tensor, factor: float, _: torch.Generator) -> Tensor:
    """Distances from the image's mean grey shrink to that factor."""
    return colour.contrast(x, torch.full((len(x),), factor, device=x.device))


def pixelate(x: Tensor, share: float, _: torch.Generator) -> Tensor:
    """Blocks of one colour: averaged to that share of the height and width, and back without smoothing."""
    rows, columns = (_averages(side, max(1, round(share * side))).to(x) for side in x.shape[-2:])
    return F.interpolate(rows @ x @ columns.T, x.shape[-2:], mode="nearest-exact")


def _averages(side: int, small: int) -> Tensor:
    """[small, side]: how much of each of `side` pixels lies in each of `small` equal parts; rows sum to 1."""
    edge = torch.arange(small + 1, dtype=torch.float64)[:, None] * (side / small)
    pixel = torch.arange(side)
    within = torch.minimum(edge[1:], pixel + 1) - torch.maximum(edge[:-1], pixel)
    return within.clamp_min(0) * (small / side)


def missing(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """That share of the features of each sample is 0, the mean of prepared ones."""
    return x * (torch.rand(x.shape, generator=generator) >= share).to(x)


def shift(x: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """All samples are moved alike: each feature by one draw from a Gaussian of that sd."""
    return x + sd * torch.randn(x.shape[1:], generator=generator).to(x.device)


OF_IMAGES: Mapping[str, tuple[Corrupt, tuple[float, float, float]]] = {
    "noise": (noise, (0.05, 0.1, 0.2)),
    "blur": (blur, (1 / 64, 1 / 32, 1 / 16)),
    "contrast": (contrast, (0.5, 0.3, 0.15)),
    "pixelate": (pixelate, (0.75, 0.5, 0.25)),
}
OF_VECTORS: Mapping[str, tuple[Corrupt, tuple[float, float, float]]] = {
    "noise": (noise, (0.25, 0.5, 1.0)),
    "missing": (missing, (0.1, 0.25, 0.5)),
    "shift": (shift, (0.25, 0.5, 1.0)),
}


def corruptions_of(source: Source) -> Mapping[str, tuple[Corrupt, tuple[float, float, float]]]:
    return OF_IMAGES if source.is_images else OF_VECTORS


@torch.no_grad()
def corrupted(
    samples: Any, name: str, severity: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu"
) -> np.ndarray:
    """A block of samples, uint8 [B, C, H, W] or float32 [B, D], as they look after the corruption; of the same kind.

    Args:
        samples: rows `first`, `first` + 1, ... of a set, where `first` is a multiple of `BLOCK`.
        severity: 1, 2 or 3.
        seed: what is drawn depends on it, the name, the severity and the block alone.
    """
    images = samples.dtype == np.uint8
    apply, amounts = (OF_IMAGES if images else OF_VECTORS)[name]
    block = 0 if name == "shift" else first // BLOCK  # a shift is one and the same for the whole set
    generator = generator_for(seed, "corruption", name, severity, block)
    x = torch.tensor(samples, device=device).float()
    x = apply(x / 255 if images else x, amounts[severity - 1], generator)
    return (x.mul(255).round_().clamp_(0, 255).byte() if images else x).cpu().numpy()


def evaluate_corruptions(
    encoder: Encoder, test: Source, probe: FittedProbe, seed: int = 0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The accuracies of a probe that was fitted on clean samples, on corrupted ones of `test`.

    Returns what `evaluation.json` holds under "corruptions": for each a list over severities of "amount", and "knn" and
    "linear" with "accuracy" and "interval"; "mean", their means over all; "retained", those over the clean accuracies.
    And per score the share of corruptions, float32 [m], in which each test sample was named correctly.

    Raises:
        InputError: samples of another shape than the encoder's, features that are not finite.
    """
    started, kinds = time.perf_counter(), corruptions_of(test)
    truth = probe.predictions.truth
    total = {"knn": np.zeros(len(test)), "linear": np.zeros(len(test))}
    result: dict[str, Any] = {"protocol": CORRUPTIONS}
    count = sum(len(amounts) for _, amounts in kinds.values())
    with Progress("corruptions", count * len(test), "samples") as bar:
        for name, (_, amounts) in kinds.items():
            result[name] = []
            for severity, amount in enumerate(amounts, 1):
                parts = []
                for start in range(0, len(test), BLOCK):
                    rows = test.samples[start : start + BLOCK]
                    made = corrupted(rows, name, severity, start, seed, encoder.mean.device)
                    parts.append(encoder.encode(made, BLOCK))
                    bar.update(bar.done + len(rows))
                x = np.concatenate(parts)
                told: dict[str, Any] = {"severity": severity, "amount": amount}
                for score, predict in (("knn", probe.knn), ("linear", probe.linear)):
                    right = predict(x) == truth
                    total[score] += right
                    told[score] = {"accuracy": float(right.mean()), "interval": mean_interval(right, seed)}
                result[name].append(told)
    shares = {score: values / count for score, values in total.items()}
    result["mean"] = {
        score: {"accuracy": float(values.mean()), "interval": mean_interval(values, seed)}
        for score, values in shares.items()
    }
    clean = {score: float(probe.predictions.of(score).mean()) for score in shares}
    result["retained"] = {
        score: result["mean"][score]["accuracy"] / value if value else None for score, value in clean.items()
    }
    result["forwards"] = count * len(test)
    result["seconds"] = time.perf_counter() - started
    result["settings"] = {"amounts": {name: list(amounts) for name, (_, amounts) in kinds.items()}, "seed": seed}
    return result, {score: values.astype(np.float32) for score, values in shares.items()}
