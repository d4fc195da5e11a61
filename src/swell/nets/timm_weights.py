"""A ViT's weights under the names of timm's VisionTransformer of the same shape, and back. timm itself is not needed.

The two differ in what they call things, in the patch embedding (timm's is a convolution whose stride is its side, ours
the same matrix) and in the position of the class token, which timm adds to it in every forward. Ours is in the token.
timm's net of the same shape is

    VisionTransformer(img_size=side, patch_size=patch, embed_dim=features, depth=depth, num_heads=heads, num_classes=0)

for pool="class"; for "mean" also class_token=False, global_pool="avg", fc_norm=False. Other than by default
(no_embed_class=False) its class token may have no position; such weights are not for `from_timm`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from swell.errors import InputError

_OURS = re.compile(
    r"(blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|fc1|fc2)|norm|embed)\.(weight|bias)|positions|class_token"
)


def to_timm(state: Mapping[str, Tensor], patch: int) -> dict[str, Tensor]:
    """The state of a ViT, `vit.state_dict()`, as timm names it; sine positions are written out as learned ones are.

    Args:
        patch: side of a patch in pixels, `vit.patch`.

    Raises:
        InputError: a state that is no ViT's, or of one with other patches.
    """
    out = {re.sub(r"^(blocks\.\d+)\.(fc[12])\.", r"\1.mlp.\2.", name): value for name, value in state.items()}
    _refuse_unknown(state)
    try:
        weight, bias, positions = out.pop("embed.weight"), out.pop("embed.bias"), out.pop("positions")
        out |= {"patch_embed.proj.weight": weight.unflatten(1, (-1, patch, patch)), "patch_embed.proj.bias": bias}
    except (KeyError, RuntimeError) as error:
        raise InputError(f"weights ({error})", f"those of a ViT with patches of {patch}") from None
    if "class_token" in out:
        out["cls_token"] = out.pop("class_token")
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)  # [1, 1 + L, D]
    return {**out, "pos_embed": positions}


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of timm's VisionTransformer for `vit.load_state_dict`; its classifier is left out.

    timm's positions are parameters, and so they stay with positions="learned"; with "sine" they are what they are.

    Raises:
        InputError: a state of another kind of net, or of a ViT with parts that ours does not have.
    """
    out = {
        re.sub(r"^(blocks\.\d+)\.mlp\.(fc[12])\.", r"\1.\2.", name): value
        for name, value in state.items()
        if not name.startswith("head.")
    }
    try:
        weight, bias = out.pop("patch_embed.proj.weight"), out.pop("patch_embed.proj.bias")
        positions = out.pop("pos_embed")
    except KeyError as error:
        raise InputError(f"weights without {error}", "those of timm's VisionTransformer") from None
    if "cls_token" in out:
        out["class_token"] = out.pop("cls_token") + positions[:, :1]
        positions = positions[:, 1:]
    out |= {"embed.weight": weight.flatten(1), "embed.bias": bias, "positions": positions}
    _refuse_unknown(out)
    return out


def _refuse_unknown(state: Mapping[str, Tensor]) -> None:
    unknown = [name for name in state if not _OURS.fullmatch(name)]
    if unknown:
        raise InputError(
            f"weights {', '.join(unknown[:3])}", "those of a plain ViT: no registers, layer scale or fc_norm"
        )
