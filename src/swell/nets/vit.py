"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929), tiny, small and base (Touvron et al. 2021, arXiv
2012.12877), for images of any size that their patches divide.

B images, L = h w patches of them, D features, H heads. N sequences of T = extra + M tokens are what the blocks see:
without a token plan N = B and M = L; `extra` is 1 for the class token, 0 with mean pooling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError, suggest
from swell.nets.backbones import BACKBONES, Backbone, checked, scaled
from swell.nets.tokens import TokenPlan

HEAD = 64  # channels of an attention head
POSITIONS, POOLS = ("sine", "learned"), ("class", "mean")


def patchify(x: Tensor, patch: int) -> Tensor:
    """Images [B, C, h p, w p] -> their patches [B, h w, C p p], row by row."""
    b, c, height, width = x.shape
    h, w = height // patch, width // patch
    x = x.reshape(b, c, h, patch, w, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, h * w, c * patch * patch)


def sine_positions(grid: tuple[int, int], features: int, device: torch.device | None = None) -> Tensor:
    """Two-dimensional sine and cosine positions [1, h w, D], D a multiple of 4, for patches row by row.

    A quarter of the features each is sin(w_i y), cos(w_i y), sin(w_i x), cos(w_i x), with frequencies
    w_i = 10000^(-4 i / D): the transformer's positions (Vaswani et al. 2017, arXiv 1706.03762), half for each axis.
    """
    h, w = grid
    quarter = features // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, device=device, dtype=torch.float64) / quarter)
    y = torch.arange(h, device=device)[:, None] * frequencies  # [h, D / 4]
    x = torch.arange(w, device=device)[:, None] * frequencies  # [w, D / 4]
    rows = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(h, w, -1)
    columns = torch.cat([x.sin(), x.cos()], 1)[None].expand(h, w, -1)
    return torch.cat([rows, columns], 2).float().view(1, h * w, features)


def highest(scores: Tensor, k: int) -> Tensor:
    """Indices [..., k] of the k highest along the last axis, in no order."""
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        # NumPy's partial sort uses vector instructions, which torch's topk does not.
        return torch.from_numpy(np.argpartition(scores.float().numpy(), -k, axis=-1)[..., -k:])
    return scores.topk(k, dim=-1, sorted=False).indices


class Attention(nn.Module):
    """Multi-head self-attention over T tokens; the first `extra` of them are no patches."""

    def __init__(self, features: int, heads: int, extra: int) -> None:
        super().__init__()
        self.heads, self.extra = heads, extra
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x: Tensor, top_k: int | None = None) -> Tensor:
        """[N, T, D] -> [N, T, D]."""
        q, k, v = (self._by_head(part) for part in self.qkv(x).chunk(3, -1))
        return self._attend(q, k, v, top_k)

    def of_first(self, x: Tensor) -> Tensor:
        """What `forward` gives the first token only, [N, T, D] -> [N, 1, D]: the other queries are never made."""
        d = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, :1], weight[:d], bias[:d])
        k, v = F.linear(x, weight[d:], bias[d:]).chunk(2, -1)
        return self._attend(self._by_head(q), self._by_head(k), self._by_head(v), None)

    def weights(self, x: Tensor, top_k: int | None = None) -> Tensor:
        """softmax(q k^T / sqrt(D / H)) [N, H, T, T], rows are queries; with `top_k`, of what each may attend to."""
        q, k, _ = (self._by_head(part) for part in self.qkv(x).chunk(3, -1))
        return self._scores(q, k, top_k).softmax(-1)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [N, H, T, D / H]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, top_k: int | None) -> Tensor:
        # In bf16 on a CPU the backward pass of torch's fused kernel is far slower than that of the products it fuses.
        slow = q.dtype == torch.bfloat16 and q.device.type == "cpu"
        if top_k is None and not slow:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = self._scores(q, k, top_k).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))

    def _scores(self, q: Tensor, k: Tensor, top_k: int | None) -> Tensor:
        """q k^T / sqrt(D / H) [N, H, T, T]; with `top_k` -inf where a patch is none of the top_k best of a patch.

        The tokens before the patches belong to no image: they attend to all, and all to them.
        """
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        if top_k is None:
            return scores
        among = scores.detach()[:, :, self.extra :, self.extra :]
        best = highest(among, min(top_k, among.shape[-1]))
        others = torch.full_like(among, float("-inf")).scatter_(-1, best, 0.0)
        return scores + F.pad(others, (self.extra, 0, self.extra, 0))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each left out of a sequence with probability `drop_path`."""

    def __init__(self, features: int, heads: int, extra: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(features, eps=1e-6), Attention(features, heads, extra)
        self.norm2 = nn.LayerNorm(features, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.drop_path = drop_path

    def forward(self, x: Tensor, top_k: int | None = None) -> Tensor:
        """[N, T, D] -> [N, T, D]."""
        return self._mlp(x + self._kept(self.attn(self.norm1(x), top_k)))

    def of_first(self, x: Tensor) -> Tensor:
        """What `forward` makes of the first token, [N, T, D] -> [N, 1, D], at a sixth of the work."""
        return self._mlp(x[:, :1] + self._kept(self.attn.of_first(self.norm1(x))))

    def _mlp(self, x: Tensor) -> Tensor:
        return x + self._kept(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def _kept(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016, arXiv 1603.09382), by sequence; the expectation stays."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep).to(branch.dtype).div_(keep)


@dataclass(frozen=True)
class ViTOptions:
    """What can be chosen of every ViT beside its width.

    Raises:
        InputError: an option out of range.
    """

    patch: int = 0  # side in pixels; 0: about an eighth of the image up to 64 pixels, 2 at least; about 16 above
    positions: str = "sine"  # or learned
    pool: str = "class"  # the class token as the feature, or the mean of the patches
    depth: int = 0  # blocks; 0: 12
    drop_path: float = 0.0  # stochastic depth of the last block; the others' rises to it from 0

    def __post_init__(self) -> None:
        for name, word, allowed in (("positions", self.positions, POSITIONS), ("pool", self.pool, POOLS)):
            if word not in allowed:
                raise InputError(
                    f"backbone_options: {name} = {word!r}", f"one of {', '.join(allowed)}", suggest(word, allowed)
                )
        for name, most in (("patch", 1024), ("depth", 256), ("drop_path", 0.9)):
            number = getattr(self, name)
            if not 0 <= number <= most:
                raise InputError(f"backbone_options: {name} = {number!r}", f"a number from 0 to {most:g}")


class ViT(Backbone):
    """Patches as tokens, pre-norm blocks, a norm at the end.

    Attributes:
        features: D.
        heads: H, of each block.
        patch: side of a patch in pixels.
        grid: patches (h, w) of the shape it was built for.
        extra: tokens before the patches, 1 or 0.

    Raises:
        InputError: patches that do not divide the image, here or in `forward`.
    """

    positions: Tensor

    def __init__(self, shape: tuple[int, ...], features: int, heads: int, options: ViTOptions) -> None:
        super().__init__()
        self.features, self.heads, self.patch, self.options = features, heads, options.patch, asdict(options)
        self.extra = 1 if options.pool == "class" else 0
        self.learned = options.positions == "learned"
        self.grid = self._grid(*shape[1:])
        self.embed = nn.Linear(shape[0] * self.patch**2, features)
        if self.learned:
            self.positions = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], features))
        else:
            self.register_buffer("positions", sine_positions(self.grid, features))
        if self.extra:
            self.class_token = nn.Parameter(torch.empty(1, 1, features))
        rates = [options.drop_path * i / max(options.depth - 1, 1) for i in range(options.depth)]
        self.blocks = nn.ModuleList(Block(features, heads, self.extra, rate) for rate in rates)
        self.norm = nn.LayerNorm(features, eps=1e-6)
        self._initialise()

    def forward(self, x: Tensor, plan: TokenPlan | None = None) -> Tensor:
        """Images [B, C, H, W] -> features [B, D]; with a plan all tokens after the final norm, [N, T, D]."""
        if plan is not None:
            return self.norm(self._blocks(plan.select(self.tokens(x)), plan.top_k))
        x = self._with_class(self.tokens(x))
        if not self.extra:
            return self.norm(self._blocks(x)).mean(1)
        *before, last = self._each_block()
        for block in before:
            x = block(x)
        return self.norm(last.of_first(x)[:, 0])  # nobody reads the other tokens

    def forward_map(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> patch tokens after the final norm, [B, D, h, w]."""
        h, w = self._grid(*x.shape[2:])
        return self.norm(self._blocks(self.tokens(x))[:, self.extra :]).mT.unflatten(2, (h, w))

    @torch.no_grad()
    def attention_map(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> [B, H, h, w]: what share of the last block's attention each patch gets.

        From the class token; with mean pooling from the average patch. Shares sum to 1 over the patches.
        """
        h, w = self._grid(*x.shape[2:])
        queries = self.attention(x)[:, :, : 1 if self.extra else None, self.extra :]
        shares = queries.mean(2)
        return (shares / shares.sum(-1, keepdim=True)).unflatten(2, (h, w))

    def attention(self, x: Tensor, plan: TokenPlan | None = None, block: int = -1) -> Tensor:
        """Attention weights of the last block, or another, [N, H, T, T]; rows are queries and sum to 1."""
        tokens = self.tokens(x) if plan is None else plan.select(self.tokens(x))
        top_k = None if plan is None else plan.top_k
        x = self._with_class(tokens)
        blocks = self._each_block()
        chosen = blocks[block]
        for before in blocks[: blocks.index(chosen)]:
            x = before(x, top_k)
        return chosen.attn.weights(chosen.norm1(x), top_k)

    def tokens(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> embedded patches with their positions [B, L, D]."""
        grid = self._grid(*x.shape[2:])
        return self.embed(patchify(x, self.patch)) + self.positions_of(grid)

    def positions_of(self, grid: tuple[int, int]) -> Tensor:
        """Positions [1, h w, D]: its own, or for another grid computed anew (sine) or interpolated (learned)."""
        if grid == self.grid:
            return self.positions
        if not self.learned:
            return sine_positions(grid, self.features, self.positions.device)
        known = self.positions.mT.unflatten(2, self.grid)  # [1, D, h, w]
        return F.interpolate(known, grid, mode="bicubic", antialias=True).flatten(2).mT

    def _with_class(self, tokens: Tensor) -> Tensor:
        if not self.extra:
            return tokens
        first = self.class_token.expand(tokens.shape[0], -1, -1)  # len() would fix the batch of an exported graph
        return torch.cat([first, tokens], 1)

    def _blocks(self, tokens: Tensor, top_k: int | None = None) -> Tensor:
        x = self._with_class(tokens)
        for block in self._each_block():
            x = block(x, top_k)
        return x

    def _each_block(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch or width % self.patch:
            raise InputError(
                f"images of {height}x{width} pixels",
                f"multiples of the patch, {self.patch}",
                "give another size or patch",
            )
        return height // self.patch, width // self.patch

    def _initialise(self) -> None:
        """Glorot-uniform matrices, q, k and v each as one; class token and learned positions normal, sd 0.02."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        for block in self._each_block():
            for third in block.attn.qkv.weight.chunk(3):
                nn.init.xavier_uniform_(third)
        for tokens in (self.positions, getattr(self, "class_token", None)):
            if isinstance(tokens, nn.Parameter):
                nn.init.trunc_normal_(tokens, std=0.02)


def make_vit(shape: tuple[int, ...], features: float, options: Mapping[str, Any]) -> ViT:
    """A ViT of about `features` channels for images of `shape` [C, H, W], with `options` as in `ViTOptions`.

    From 64 channels on heads have 64, and the channels are rounded to a multiple of that; below there is one head.

    Raises:
        InputError: an option that is unknown, of another type or out of range; a patch that does not divide the image.
    """
    chosen = checked(ViTOptions, options)
    heads = max(1, round(features / HEAD))
    channels = heads * HEAD if features >= HEAD else scaled(8, features / 8)
    return ViT(
        shape, channels, heads, replace(chosen, patch=chosen.patch or fitting_patch(shape), depth=chosen.depth or 12)
    )


def fitting_patch(shape: tuple[int, ...]) -> int:
    """The patch for images [C, H, W]: of what divides both sides, the nearest to an eighth of the longer one but 2 at
    least, or to 16 where that is above 64 pixels.

    Raises:
        InputError: nothing within a factor of two of that divides them.
    """
    longest = max(shape[1:])
    target = max(2.0, longest / 8) if longest <= 64 else 16.0
    near = range(math.ceil(target / 2), math.floor(2 * target) + 1)
    fitting = [side for side in near if all(pixels % side == 0 for pixels in shape[1:])]
    if not fitting:
        size = "x".join(map(str, shape[1:]))
        raise InputError(
            f"images of {size} pixels", f"sides that a patch of about {target:g} divides", "give another size or patch"
        )
    return min(fitting, key=lambda side: abs(math.log(side / target)))


@BACKBONES.register("vit_tiny", "ViT-Ti, 192 features, 5.5 M parameters at width 1 and 224 pixels", "arXiv 2012.12877")
def vit_tiny(shape: tuple[int, ...], width: float = 1.0, /, **options: Any) -> Backbone:
    return make_vit(shape, 192 * width, options)


@BACKBONES.register("vit_small", "ViT-S, 384 features, 21.6 M parameters at width 1 and 224 pixels", "arXiv 2012.12877")
def vit_small(shape: tuple[int, ...], width: float = 1.0, /, **options: Any) -> Backbone:
    return make_vit(shape, 384 * width, options)


@BACKBONES.register("vit_base", "ViT-B, 768 features, 85.6 M parameters at width 1 and 224 pixels", "arXiv 2010.11929")
def vit_base(shape: tuple[int, ...], width: float = 1.0, /, **options: Any) -> Backbone:
    return make_vit(shape, 768 * width, options)
