"""Prototypes: the directions that SwAV and DINO compare embeddings with, in place of comparing samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError


class Prototypes(nn.Module):
    """Cosines of z [.., inputs] with `count` directions, the rows of `weight`: scores [.., count] in float32.

    Rows are unit vectors at the start. SwAV makes them so again with `renormalise` after each step; DINO leaves their
    length alone and divides by it in `forward` (`weight_norm=True`: weight normalisation with its gain fixed at 1).

    Raises:
        InputError: fewer than two prototypes, with which every sample gets the same assignment.
    """

    def __init__(self, inputs: int, count: int, weight_norm: bool = False) -> None:
        super().__init__()
        if count < 2:
            raise InputError(f"prototypes {count}", "at least 2")
        self.weight = nn.Parameter(F.normalize(torch.randn(count, inputs), dim=1))
        self.weight_norm = weight_norm

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """`frozen` keeps the gradient from the prototypes, not from z."""
        weight = self.weight.detach() if frozen else self.weight
        if self.weight_norm:
            weight = F.normalize(weight, dim=1)
        with torch.autocast(z.device.type, enabled=False):  # divided by 0.05, bfloat16's rounding would show
            return F.linear(F.normalize(z.float(), dim=-1), weight)

    @torch.no_grad()
    def renormalise(self) -> None:
        self.weight.copy_(F.normalize(self.weight, dim=1))
