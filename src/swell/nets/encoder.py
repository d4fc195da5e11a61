"""The encoder: normalisation with the data's own statistics, then the backbone. This is what a run leaves behind.

Vectors come prepared (`swell.data.preparation`), so there the encoder is the backbone alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.nets import convnet, mlp, resnet  # noqa: F401  (their backbones register themselves)
from swell.nets.backbones import Backbone, make_backbone
from swell.nets.tokens import TokenPlan
from swell.nets.vit import ViT

if TYPE_CHECKING:
    from swell.data.sparse import SparseRows


@dataclass(frozen=True)
class EncoderConfig:
    """Everything needed to build the encoder again; written as `encoder.json` beside the weights."""

    backbone: str
    width: float
    shape: tuple[int, ...]  # of one sample: (C, H, W) or (D,)
    mean: tuple[float, ...]  # per channel, of samples scaled to [0, 1]; of vectors none
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
    if len(shape) == 1:
        return "mlp"
    return "conv6" if max(shape[1:]) <= 16 else "resnet18"


def channel_statistics(samples: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images [N, C, H, W] scaled to [0, 1]; reads at most 10,000."""
    most = 10_000 if isinstance(samples, np.ndarray) else 2_000  # those in shards are decoded for it
    rows = range(len(samples))[:: max(1, len(samples) // most)]
    counts = np.zeros((samples.shape[1], 256), np.int64)  # of every value, so that nothing is rounded or held
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        part = samples[block.start : block.stop : block.step]
        counts += [np.bincount(part[:, c].ravel(), minlength=256) for c in range(len(counts))]
    share, value = counts / counts.sum(1, keepdims=True), np.arange(256) / 255.0
    mean = share @ value
    std = np.sqrt((share * (value - mean[:, None]) ** 2).sum(1))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist())


class Encoder(Backbone):
    """Images float [B, C, H, W] in [0, 1], or vectors float [B, D] -> features [B, features]."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values).view(1, len(values), 1, 1))
        self.backbone = make_backbone(config.backbone, config.shape, config.width, config.options)
        self.features = self.backbone.features

    @property
    def takes_vectors(self) -> bool:
        return len(self.config.shape) == 1

    def normalised(self, x: Tensor) -> Tensor:
        return x if self.takes_vectors else (x - self.mean) / self.std

    def forward_map(self, x: Tensor) -> Tensor:
        return self.backbone.forward_map(self.normalised(x))

    def forward(self, x: Tensor, plan: TokenPlan | None = None) -> Tensor:
        """Features [B, features]; with a plan, which only a ViT knows what to do with, its tokens [N, T, features]."""
        x = self.normalised(x)
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
        return self.backbone.attention_map(self.normalised(x))

    def as_input(self, samples: np.ndarray) -> Tensor:
        """Samples as `encode` takes them -> what `forward` takes, on the encoder's device."""
        x = torch.tensor(samples, device=self.mean.device)
        return x if self.takes_vectors else x.float().div_(255).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, samples: np.ndarray | Tensor | SparseRows, batch: int = 512) -> np.ndarray:
        """Eval-mode features of whole clean samples: uint8 [N, C, H, W] or float32 [N, D] -> float32 [N, features].

        Raises:
            InputError: for another shape or type than the encoder was trained on.
        """
        rows = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
        kind, dtype = ("vectors", np.float32) if self.takes_vectors else ("images", np.uint8)
        if rows.dtype != dtype or tuple(rows.shape[1:]) != tuple(self.config.shape):
            want = f"{kind} {np.dtype(dtype)} [N, {', '.join(map(str, self.config.shape))}]"
            todo = "" if self.takes_vectors else "open the data with the run's size"
            raise InputError(f"samples {rows.dtype} {list(rows.shape)}", want, todo)
        was_training = self.training
        self.eval()
        out = np.empty((len(rows), self.features), np.float32)
        # Fixed batches keep the result independent of how many samples are asked for, on one device; vectors, which
        # cost little, fill the last one up with zeros, because matrix products differ with the number of rows.
        for i in range(math.ceil(len(rows) / batch)):
            part = slice(i * batch, min((i + 1) * batch, len(rows)))
            x = self.as_input(rows[part])
            if self.takes_vectors and len(x) < batch:
                x = torch.cat([x, x.new_zeros(batch - len(x), *x.shape[1:])])
            out[part] = self(x)[: part.stop - part.start].float().cpu().numpy()
        self.train(was_training)
        return out
