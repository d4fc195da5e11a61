"""Networks that denoise: a residual MLP for short vectors, a small patch-2 U-Net for images on a GPU.

Both are F(x, c_noise): x [B, ...] and the noise level's code c_noise [B] give an output shaped like x. The
last layer starts at zero, so that an untrained network answers 0 and the preconditioned denoiser starts at
its best linear guess.

Either may be told a code [B, F] too: F(x, c_noise, code, keep). Where `keep` [B] is 0 the code is withheld. What comes
from the code starts at zero and is added to what an unconditional network does, so one that has never been shown a
code is that network, weight for weight.
"""

from __future__ import annotations

import math
from itertools import chain, repeat, zip_longest
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError

NetworkName = Literal["auto", "mlp", "pca_mlp", "p2_tiny", "p4_tiny", "p2_small", "p2_128", "p2_192", "unet"]
ConditionName = Literal["film", "add", "concat"]

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


class Conditioning(nn.Module):
    """code [B, F], keep [B] -> what a network adds, the code embedded by a small MLP and mapped linearly.

    `film`: to the noise level's embedding, and so to scale and shift of every block's norm (Perez et al. 2018).
    `add`: to every block's values after their norm. `concat`: at the input, beside x; for images as one more plane.
    A group norm would take away again what is the same everywhere in an image, so nothing is added before one.
    """

    def __init__(self, how: ConditionName, code: int, embedding: int, sizes: dict[str, list[int]]) -> None:
        """`embedding`: size of the noise level's; `sizes`: of what is added where, for each way."""
        super().__init__()
        self.how = how
        self.embed = nn.Sequential(nn.Linear(code, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.into = nn.ModuleList(zeroed(nn.Linear(embedding, size, bias=False)) for size in sizes[how])

    def forward(self, code: Tensor, keep: Tensor | None) -> list[Tensor]:
        """[B, size] for every place."""
        c = self.embed(code)
        c = c if keep is None else c * keep[:, None]
        return [into(c) for into in self.into]


def told(conditioning: Conditioning | None, code: Tensor | None, keep: Tensor | None) -> dict[str, list[Tensor]]:
    """What one pass adds, by the way it is added; nothing where the network is told no code."""
    return {} if conditioning is None or code is None else {conditioning.how: conditioning(code, keep)}


class MLPBlock(nn.Module):
    """h + W2 silu(W1 norm(h)), where scale and shift of the norm come from the noise level."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = zeroed(nn.Linear(embedding, 2 * width))
        self.up = nn.Linear(width, 2 * width)
        self.down = zeroed(nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, e: Tensor, added: Tensor | None = None) -> Tensor:
        scale, shift = self.modulate(e).chunk(2, dim=1)  # [B, width] each
        shift = shift if added is None else shift + added
        return h + self.down(self.dropout(F.silu(self.up(self.norm(h) * (1 + scale) + shift))))


class ResidualMLP(nn.Module):
    """x [B, D], c_noise [B] -> [B, D]. With a `condition` it may be told codes of `code` numbers."""

    def __init__(
        self,
        size: int,
        width: int = 256,
        depth: int = 4,
        dropout: float = 0.1,
        condition: ConditionName | None = None,
        code: int = 0,
    ) -> None:
        super().__init__()
        self.embed = NoiseEmbedding(width // 2)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(MLPBlock(width, width // 2, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, size))
        sizes = {"film": [width // 2], "concat": [width], "add": [width] * depth}
        self.conditioning = None if condition is None else Conditioning(condition, code, width // 2, sizes)

    def forward(self, x: Tensor, c_noise: Tensor, code: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        adds = told(self.conditioning, code, keep)
        e = sum(adds.get("film", []), self.embed(c_noise))  # [B, width / 2]
        h = sum(adds.get("concat", []), self.first(x))  # [B, width]; W x + V c is W' [x; c]
        for block, added in zip_longest(self.blocks, adds.get("add", [])):
            h = block(h, e, added)
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

    def forward(self, x: Tensor, e: Tensor, added: Tensor | None = None) -> Tensor:
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)  # [B, C, 1, 1] each
        shift = shift if added is None else shift + added[:, :, None, None]
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
    """x [B, C, H, W], c_noise [B] -> [B, C, H, W]. With a `condition` it may be told codes of `code` numbers.

    Works on patches folded into channels (2x2 patches make 16x16x12 of 32x32x3; 1 folds nothing), halves the
    resolution until it is 8 or odd, doubles the channels once, and attends at the lowest resolution.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        features: int = 128,
        depth: int = 2,
        dropout: float = 0.1,
        patch: int = 2,
        condition: ConditionName | None = None,
        code: int = 0,
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
        blocks = [m.conv1.out_channels for m in (*self.down, *self.middle, *self.up) if isinstance(m, ConvBlock)]
        sizes: dict[str, list[int]] = {"film": [wide], "concat": [height * width], "add": blocks}
        self.conditioning = None if condition is None else Conditioning(condition, code, wide, sizes)
        self.beside = nn.Conv2d(1, features, 3, padding=1, bias=False) if condition == "concat" else None

    def forward(self, x: Tensor, c_noise: Tensor, code: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        adds = told(self.conditioning, code, keep)
        added = chain(adds.get("add", []), repeat(None))
        e = sum(adds.get("film", []), self.embed(c_noise))  # [B, 4 features]
        h = self.first(F.pixel_unshuffle(x, self.patch))  # [B, features, H / patch, W / patch]
        for plane in adds.get("concat", []):
            h = h + self.beside(plane.view(len(h), 1, *h.shape[2:]))  # type: ignore[misc]
        skips = [h]
        for layer in self.down:
            h = layer(h, e, next(added)) if isinstance(layer, ConvBlock) else layer(h)
            skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, e, next(added))), e, next(added))
        for layer in self.up:
            if isinstance(layer, ConvBlock):
                h = layer(torch.cat([h, skips.pop()], dim=1), e, next(added))
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)
