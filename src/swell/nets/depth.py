"""How deep in a backbone each parameter sits: what layer-wise learning rates are counted by.

Layers are numbered in forward order: 0 is what meets the sample first (stem, patch embedding, positions, class token),
then one layer a block, then the head, which shares its layer with the norm that precedes it. Layer-wise decay gives
layer l of a net whose head is layer L the rate  lr * decay^(L - l): what is near the image changes least, because it
serves every task (Clark et al. 2020, arXiv 2003.10555; for ViTs Bao et al. 2021, arXiv 2106.08254).
"""

from __future__ import annotations

from torch import nn

from swell.errors import InputError
from swell.nets.backbones import Backbone
from swell.nets.convnet import ConvNet
from swell.nets.mlp import MLPNet
from swell.nets.resnet import ResNet
from swell.nets.vit import ViT


def _blocks(backbone: Backbone) -> list[tuple[str, ...]]:
    """The modules of each block, by the beginnings of their parameters' names, in forward order."""
    if isinstance(backbone, ViT):
        return [(f"blocks.{i}.",) for i in range(len(backbone.blocks))]
    if isinstance(backbone, ResNet):
        sizes = [len(list(stage.children())) for stage in backbone.stages]
        return [(f"stages.{i}.{j}.",) for i, size in enumerate(sizes) for j in range(size)]
    if isinstance(backbone, ConvNet):
        at = [i for i, layer in enumerate(backbone.layers) if isinstance(layer, nn.Conv2d)]
        return [(f"layers.{i}.", f"layers.{i + 1}.") for i in at]  # the convolution and its norm
    if isinstance(backbone, MLPNet):
        return [*((f"layers.{i}.",) for i in range(1, len(backbone.layers))), ("last.",)]
    raise InputError(
        f"layer decay of a {type(backbone).__name__}", "a backbone whose layers are known", "give layer decay 1"
    )


def layer_ids(backbone: Backbone) -> tuple[dict[str, int], int]:
    """The layer of every parameter by its name, and the layer L of a head put on top: blocks + 1.

    Raises:
        InputError: for a backbone of a kind that is not known here.
    """
    blocks = _blocks(backbone)
    last = len(blocks) + 1
    ids = {}
    for name, _ in backbone.named_parameters():
        found = [i + 1 for i, starts in enumerate(blocks) if name.startswith(starts)]
        ids[name] = found[0] if found else last if name.startswith("norm.") else 0
    return ids, last


def rate_scales(backbone: Backbone, decay: float) -> dict[str, float]:
    """decay^(L - l) for every parameter by its name; all 1 at decay 1, whatever the backbone."""
    if decay == 1:
        return {name: 1.0 for name, _ in backbone.named_parameters()}
    ids, last = layer_ids(backbone)
    return {name: decay ** (last - layer) for name, layer in ids.items()}
