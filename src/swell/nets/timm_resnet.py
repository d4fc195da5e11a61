"""A ResNet's weights under the names of timm's ResNet of the same depth; timm itself is not needed.

Only what they call things differs: timm's stem is conv1 and bn1, its stages layer1 to layer4, its shortcut downsample.
The shapes agree at width 1 for images above 64 pixels; the stem for smaller ones, one 3x3 convolution, timm does not
have. timm's net is `timm.create_model("resnet18", num_classes=0, in_chans=channels)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from swell.errors import InputError

_STEM = {"stem.0": "conv1", "stem.1": "bn1"}


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a ResNet, `resnet.state_dict()`, as timm names it.

    Raises:
        InputError: a state that is no ResNet's, or of one that timm has no twin of.
    """
    stem = state.get("stem.0.weight")
    if stem is None or stem.ndim != 4 or stem.shape[0] != 64 or stem.shape[2:] != (7, 7):
        given = "weights without a stem" if stem is None else f"a stem {list(stem.shape)}"
        raise InputError(given, "the stem [64, C, 7, 7] of timm's ResNets", "give a run at width 1 above 64 pixels")
    return {_named(name): value for name, value in state.items()}


def _named(name: str) -> str:
    module, _, weight = name.rpartition(".")
    if module in _STEM:
        return f"{_STEM[module]}.{weight}"
    match = re.fullmatch(r"stages\.(\d)\.(\d+)\.(conv\d|bn\d|shortcut\.\d)", module)
    if match is None:
        raise InputError(f"weight {name}", "those of a plain ResNet")
    stage, block, part = match.groups()
    return f"layer{int(stage) + 1}.{block}.{part.replace('shortcut', 'downsample')}.{weight}"
