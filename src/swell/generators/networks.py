"""Networks that denoise: a residual MLP for short vectors, a small patch-2 U-Net for images on a GPU.

Both are F(x, c_noise): x [B, ...] and the noise level's code c_noise [B] give an output shaped like x. The
last layer starts at zero, so that an untrained network answers 0 and the preconditioned denoiser starts at
its best linear guess.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError

NetworkName = Literal["auto", "mlp", "pca_mlp", "p2_tiny", "p4_tiny", "p2_small", "p2_128", "p2_192", "unet"]

U_NETS = {  # side of patches, features, depth
    "p2_tiny": (2, 64, 1),
    "p4_tiny": (4, 64, 1),
    "p2_small": (2, 64, 2),
    "p2_128": (2, 128, 2),
    "p2_192": (2, 192, 2),
    "unet": (1, 64, 2),
}
LARGEST_RAW_VECTOR = 256  # longer ones go through a PCA before the MLP


def suited_network(shape: tuple[int, ...], on_gpu: bool) -> NetworkName:
    """What samples of `shape` get where the user names no network."""
    if len(shape) == 3 and min(shape[1:]) >= 8:
        patch = math.gcd(*shape[1:], 4)  # 1, 2 or 4
        if on_gpu and patch > 1 and min(shape[1:]) >= 16:
            return "p2_128"
        if max(shape[1:]) <= 16 and patch > 1:
            return "p2_tiny"
        if max(shape[1:]) <= 32 and patch == 4:
            return "p4_tiny"
    return "mlp" if math.prod(shape) <= LARGEST_RAW_VECTOR else "pca_mlp"


class NoiseEmbedding(nn.Module):
    """c_noise [B] -> [B, width]: sines and cosines at geometric frequencies, then a small MLP."""

    frequencies: Tensor

    def __init__(self, width: int, waves: int = 32) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 1.3, waves) * math.pi)
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        angles = c_noise[:, None] * self.frequencies  # [B, waves]
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class MLPBlock(nn.Module):
    """h + W2 silu(W1 norm(h)), where scale and shift of the norm come from the noise level."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = zeroed(nn.Linear(embedding, 2 * width))
        self.up = nn.Linear(width, 2 * width)
        self.down = zeroed(nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e).chunk(2, dim=1)  # [B, width] each
        return h + self.down(self.dropout(F.silu(self.up(self.norm(h) * (1 + scale) + shift))))


class ResidualMLP(nn.Module):
    """x [B, D], c_noise [B] -> [B, D]."""

    def __init__(self, size: int, width: int = 256, depth: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = NoiseEmbedding(width // 2)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(MLPBlock(width, width // 2, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, size))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        e = self.embed(c_noise)  # [B, width / 2]
        h = self.first(x)  # [B, width]
        for block in self.blocks:
            h = block(h, e)
        return self.last(self.norm(h))


def group_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels, affine=affine)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions around a residual, the second norm modulated by the noise level."""

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulate = zeroed(nn.Linear(embedding, 2 * c_out))
        self.norm2, self.conv2 = (
            group_norm(c_out, affine=False),
            zeroed(nn.Conv2d(c_out, c_out, 3, padding=1)),
        )
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)  # [B, C, 1, 1] each
        h = self.conv1(F.silu(self.norm1(x)))  # [B, C, H, W]
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(self.dropout(h))


class SelfAttention(nn.Module):
    """Every position looks at every other; for the lowest resolution only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // 64, 1)
        self.norm, self.qkv = group_norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.last = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, height * width).transpose(-1, -2).unbind(1)
        )
        h = F.scaled_dot_product_attention(q, k, v)  # [B, heads, H W, C / heads]
        return x + self.last(h.transpose(-1, -2).reshape(b, c, height, width))


class UNet(nn.Module):
    """x [B, C, H, W], c_noise [B] -> [B, C, H, W].

    Works on patches folded into channels (2x2 patches make 16x16x12 of 32x32x3; 1 folds nothing), halves the
    resolution until it is 8 or odd, doubles the channels once, and attends at the lowest resolution.
    """

    def __init__(
        self, shape: tuple[int, ...], features: int = 128, depth: int = 2, dropout: float = 0.1, patch: int = 2
    ) -> None:
        super().__init__()
        self.patch = patch
        channels, height, width = shape
        if height % patch or width % patch or min(height, width) < 4 * patch:
            raise InputError(
                f"images of {height} x {width} for a U-Net on patches of {patch}",
                f"sides that are multiples of {patch} and at least {4 * patch}",
                "use network pca_mlp",
            )
        height, width = height // patch, width // patch
        sides, levels = min(height, width), [features]
        while sides > 8 and height % 2 ** len(levels) == 0 and width % 2 ** len(levels) == 0:
            levels.append(2 * features)
            sides //= 2
        wide = 4 * features
        self.embed = NoiseEmbedding(wide)
        self.first = nn.Conv2d(patch**2 * channels, features, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, c = [features], features
        for level, c_out in enumerate(levels):
            if level > 0:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            for _ in range(depth):
                self.down.append(ConvBlock(c, c_out, wide, dropout))
                c = c_out
                skips.append(c)
        self.middle = nn.ModuleList([ConvBlock(c, c, wide, dropout), ConvBlock(c, c, wide, dropout)])
        self.attention = SelfAttention(c)
        for level, c_out in reversed(list(enumerate(levels))):
            for _ in range(depth + 1):
                self.up.append(ConvBlock(c + skips.pop(), c_out, wide, dropout))
                c = c_out
            if level > 0:
                self.up.append(nn.Conv2d(c, c, 3, padding=1))
        self.norm, self.last = group_norm(c), zeroed(nn.Conv2d(c, patch**2 * channels, 3, padding=1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        e = self.embed(c_noise)  # [B, 4 features]
        h = self.first(F.pixel_unshuffle(x, self.patch))  # [B, features, H / patch, W / patch]
        skips = [h]
        for layer in self.down:
            h = layer(h, e) if isinstance(layer, ConvBlock) else layer(h)
            skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, e)), e)
        for layer in self.up:
            if isinstance(layer, ConvBlock):
                h = layer(torch.cat([h, skips.pop()], dim=1), e)
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)
