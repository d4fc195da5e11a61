"""The registry of backbones: functions from the shape of a sample and a width to a module that makes features.

A backbone maps images [B, C, H, W] to pooled features [B, features]; `forward_map` gives the last feature map. One of
vectors maps [B, D] to [B, features] and has no map. Some take options by name beside shape and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import Parameter, signature
from typing import Any, TypeVar

from torch import Tensor, nn

from swell.errors import InputError, suggest
from swell.registry import Registry

T = TypeVar("T")


class Backbone(nn.Module):
    """What the rest of the house relies on: a feature count, a feature map, and its spatial mean as the feature."""

    features: int
    options: Mapping[str, Any] = {}  # those it was made with, whatever was left to it filled in

    def forward_map(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features, h, w]."""
        raise AttributeError(f"{type(self).__name__} has no feature map")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, features]."""
        return self.forward_map(x).mean(dim=(2, 3))


BackboneMaker = Callable[..., Backbone]  # (shape, width), and **options where there are any
BACKBONES: Registry[BackboneMaker] = Registry("backbone")


def make_backbone(name: str, shape: tuple[int, ...], width: float, options: Mapping[str, Any]) -> Backbone:
    """The backbone `name` for samples of `shape` with `options` in place of its defaults.

    Raises:
        InputError: an unknown backbone, or an option that it does not take or that is no such value.
    """
    maker = BACKBONES[name]
    if options and all(p.kind is not Parameter.VAR_KEYWORD for p in signature(maker).parameters.values()):
        raise InputError(f"backbone_options {', '.join(options)}", f"none: {name} has no options", "leave them out")
    return maker(shape, width, **options)


def checked(kind: type[T], options: Mapping[str, Any]) -> T:
    """The dataclass `kind`, of numbers and words, with `options` in place of its defaults.

    Raises:
        InputError: an option it does not have, or a value of another type than the default.
    """
    known = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in options.items():
        if name not in known:
            raise InputError(f"backbone_options: unknown key {name!r}", "a known option", suggest(name, known))
        default = known[name]
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, kinds):
            whole = isinstance(default, int) and not isinstance(default, bool)
            like = "a whole number" if whole else f"a value like {default!r}"
            raise InputError(f"backbone_options: {name} = {value!r}", like)
    return kind(**options)


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, a multiple of 8 and never under 8 (vector units want whole lanes)."""
    return max(8, 8 * round(channels * width / 8))


def init_convolutions(module: nn.Module) -> None:
    """Kaiming-normal (fan out) convolutions, as in the residual networks' paper; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
