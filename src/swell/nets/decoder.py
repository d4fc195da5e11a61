"""The decoder of masked autoencoders (He et al. 2022, arXiv 2111.06377): from some patches' tokens to all pixels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.nets.encoder import Encoder
from swell.nets.tokens import TokenPlan
from swell.nets.vit import Block, ViT, sine_positions


class Restoring(TokenPlan, Protocol):
    """A token plan that knows the way back."""

    def restore(self, sequences: Tensor, elsewhere: Tensor) -> Tensor:
        """[N, M, D] -> [B, L, D], with `elsewhere` [D] where a sample shows nothing."""
        ...

    def of_samples(self, x: Tensor) -> Tensor:
        """[N, ...] -> [B, ...], for each sample what its sequence has."""
        ...


class Decoder(nn.Module):
    """Encoded tokens [N, extra + M, D] -> pixels of all patches [B, L, C p p].

    A linear layer to `width`; the tokens put back in place, one learned token wherever nothing was shown; sine
    positions; `depth` blocks; norm; a linear layer to pixels. The tokens before the patches come along.

    Raises:
        InputError: an encoder without tokens, or a width that heads or positions do not divide.
    """

    positions: Tensor

    def __init__(self, encoder: nn.Module, width: int, depth: int, heads: int) -> None:
        super().__init__()
        vit = encoder.backbone if isinstance(encoder, Encoder) else encoder
        if not isinstance(vit, ViT):
            raise InputError(f"a {type(vit).__name__}", "an encoder with tokens, a ViT", "give --backbone vit_tiny")
        if width % heads or width % 4:
            raise InputError(f"decoder_width {width} for {heads} heads", "a multiple of the heads, and of 4")
        self.patch, self.grid, self.extra = vit.patch, vit.grid, vit.extra
        self.embed = nn.Linear(vit.features, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.register_buffer("positions", sine_positions(vit.grid, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, vit.extra, 0.0) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vit.embed.in_features)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Patches (h, w) of images [B, C, H, W]."""
        return x.shape[2] // self.patch, x.shape[3] // self.patch

    def forward(self, tokens: Tensor, plan: Restoring, grid: tuple[int, int]) -> Tensor:
        x = self.embed(tokens)  # [N, extra + M, width]
        positions = self.positions if grid == self.grid else sine_positions(grid, x.shape[-1], x.device)
        before, x = x[:, : self.extra], plan.restore(x[:, self.extra :], self.mask_token) + positions  # [B, L, width]
        x = torch.cat([plan.of_samples(before).to(x.dtype), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, self.extra :]))
