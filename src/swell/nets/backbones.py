"""The registry of backbones: functions from the shape of a sample and a width to a module that makes features.

A backbone maps images [B, C, H, W] to pooled features [B, features]; `forward_map` gives the last feature map.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from swell.registry import Registry


class Backbone(nn.Module):
    """What the rest of the house relies on: a feature count, a feature map, and its spatial mean as the feature."""

    features: int

    def forward_map(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features, h, w]."""
        raise AttributeError(f"{type(self).__name__} has no feature map")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features]."""
        return self.forward_map(x).mean(dim=(2, 3))


BackboneMaker = Callable[[tuple[int, ...], float], Backbone]
BACKBONES: Registry[BackboneMaker] = Registry("backbone")


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, a multiple of 8 and never under 8 (vector units want whole lanes)."""
    return max(8, 8 * round(channels * width / 8))


def init_convolutions(module: nn.Module) -> None:
    """Kaiming-normal (fan out) convolutions, as in the residual networks' paper; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
