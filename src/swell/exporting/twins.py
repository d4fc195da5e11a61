"""The net in timm that computes the same, where there is one: its name, its arguments, and the weights by its names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from swell.errors import InputError
from swell.nets import timm_resnet, timm_weights
from swell.nets.encoder import Encoder
from swell.nets.resnet import ResNet
from swell.nets.vit import ViT

__all__ = ["timm_twin"]

_VITS = {"vit_tiny": "vit_tiny_patch16_224", "vit_small": "vit_small_patch16_224", "vit_base": "vit_base_patch16_224"}


def timm_twin(encoder: Encoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What to call: `timm.create_model(twin["architecture"], **twin["arguments"])`, and the state for it.

    The twin takes images in [0, 1] normalised with `mean` and `std` of the same dict.

    Raises:
        InputError: a net that timm does not have.
    """
    config, net = encoder.config, encoder.backbone
    state = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
    if isinstance(net, ViT):
        state = timm_weights.to_timm(state, net.patch)
        arguments: dict[str, Any] = {
            "img_size": list(config.shape[1:]),
            "patch_size": net.patch,
            "embed_dim": net.features,
            "depth": len(net.blocks),
            "num_heads": net.heads,
        }
        if not net.extra:
            arguments |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
        architecture = _VITS[config.backbone]
    elif isinstance(net, ResNet):
        state, arguments, architecture = timm_resnet.to_timm(state), {}, config.backbone
    else:
        raise InputError(f"timm names for a {config.backbone}", "a ViT or a ResNet", "leave --timm out")
    told = {
        "architecture": architecture,
        "arguments": {"num_classes": 0, "in_chans": config.shape[0], **arguments},
        "input_size": list(config.shape),
        "mean": list(config.mean),
        "std": list(config.std),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
    return told, state
