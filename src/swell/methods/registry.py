"""What a method is: settings in a frozen dataclass, and at most five hooks the loop calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from swell.registry import Registry
from swell.views.plan import ViewPlan


class Method(Protocol):
    """An objective plus the parts it needs. Implementations are frozen dataclasses; their fields are the settings."""

    def views(self, shape: tuple[int, ...]) -> ViewPlan:
        """The view plan at strength 1 for samples of `shape`."""
        ...

    def parts(self, features: int) -> nn.ModuleDict:
        """What is trained beside the encoder: projector, predictor, prototypes."""
        ...

    def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: list[Tensor], batch: int) -> Outcome:
        """The loss of one batch; `views` as swell.views.render makes them, one tensor [count * batch, ...] a group."""
        ...


Outcome = tuple[Tensor, dict[str, Tensor]]  # the scalar loss, and scalars worth logging (kept on the device)
METHODS: Registry[Callable[..., Method]] = Registry("method")


def encode_views(encoder: nn.Module, views: list[Tensor]) -> Tensor:
    """Encode all groups, one backbone pass per resolution: -> [views * batch, features], groups in order."""
    sizes = [tuple(group.shape[1:]) for group in views]
    encoded: dict[Any, list[Tensor]] = {}
    for size in dict.fromkeys(sizes):
        same = [group for group, s in zip(views, sizes, strict=True) if s == size]
        counts = [len(group) for group in same]
        encoded[size] = list(encoder(torch.cat(same) if len(same) > 1 else same[0]).split(counts))
    return torch.cat([encoded[size].pop(0) for size in sizes])
