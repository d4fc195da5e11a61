"""The encoder: normalisation with the data's own statistics, then the backbone. This is what a run leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.nets import convnet, resnet  # noqa: F401  (their backbones register themselves)
from swell.nets.backbones import Backbone, make_backbone
from swell.nets.tokens import TokenPlan
from swell.nets.vit import ViT


@dataclass(frozen=True)
class EncoderConfig:
    """Everything needed to build the encoder again; written as `encoder.json` beside the weights."""

    backbone: str
    width: float
    shape: tuple[int, ...]  # of one sample: (C, H, W)
    mean: tuple[float, ...]  # per channel, of samples scaled to [0, 1]
    std: tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict)  # of the backbone

    def to_dict(self) -> dict[str, Any]:
        return {"format": "swell-encoder-1", **asdict(self)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> EncoderConfig:
        """Raises InputError when `value` is not what `to_dict` makes."""
        if value.get("format") != "swell-encoder-1":
            raise InputError(f"encoder format {value.get('format')!r}", "swell-encoder-1")
        try:
            return cls(
                value["backbone"],
                float(value["width"]),
                tuple(map(int, value["shape"])),
                tuple(map(float, value["mean"])),
                tuple(map(float, value["std"])),
                dict(value.get("options", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"encoder.json ({error})", "the fields swell writes") from None


def default_backbone(shape: Sequence[int]) -> str:
    return "conv6" if max(shape[1:]) <= 16 else "resnet18"


def channel_statistics(samples: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images [N, C, H, W] scaled to [0, 1]; reads at most 10,000."""
    step = max(1, len(samples) // 10_000)
    part = np.asarray(samples[::step], dtype=np.float64) / 255.0
    mean, std = part.mean(axis=(0, 2, 3)), part.std(axis=(0, 2, 3))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist())


class Encoder(Backbone):
    """Images float [B, C, H, W] in [0, 1] -> features [B, features]."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1))
        self.backbone = make_backbone(config.backbone, config.shape, config.width, config.options)
        self.features = self.backbone.features

    def forward_map(self, x: Tensor) -> Tensor:
        return self.backbone.forward_map((x - self.mean) / self.std)

    def forward(self, x: Tensor, plan: TokenPlan | None = None) -> Tensor:
        """Features [B, features]; with a plan, which only a ViT knows what to do with, its tokens [N, T, features]."""
        x = (x - self.mean) / self.std
        return self.backbone(x) if plan is None else self.backbone(x, plan)

    def attention_map(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, heads, h, w]; see `ViT.attention_map`.

        Raises:
            InputError: for a backbone without attention.
        """
        if not isinstance(self.backbone, ViT):
            raise InputError(
                f"an attention map of a {self.config.backbone}", "a backbone with attention", "give a run with a ViT"
            )
        return self.backbone.attention_map((x - self.mean) / self.std)

    @torch.no_grad()
    def encode(self, samples: np.ndarray | Tensor, batch: int = 512) -> np.ndarray:
        """Eval-mode features of whole clean samples: uint8 [N, C, H, W] -> float32 [N, features].

        Raises:
            InputError: for another shape or type than the encoder was trained on.
        """
        images = samples if isinstance(samples, np.ndarray) else samples.detach().cpu().numpy()
        if images.dtype != np.uint8 or tuple(images.shape[1:]) != tuple(self.config.shape):
            want = f"images uint8 [N, {', '.join(map(str, self.config.shape))}]"
            raise InputError(f"samples {images.dtype} {list(images.shape)}", want, "open the data with the run's size")
        device = self.mean.device
        was_training = self.training
        self.eval()
        out = np.empty((len(images), self.features), np.float32)
        # Fixed batches keep the result independent of how many samples are asked for, on one device.
        for i in range(math.ceil(len(images) / batch)):
            rows = slice(i * batch, (i + 1) * batch)
            x = torch.tensor(images[rows], device=device).float().div_(255)
            out[rows] = self(x.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
        self.train(was_training)
        return out
