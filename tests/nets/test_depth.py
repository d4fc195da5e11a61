"""Layers of every registered backbone: complete, in the order of the forward pass, and rates that fall geometrically."""

import pytest
import torch
from torch import nn

from swell.errors import InputError
from swell.nets.backbones import BACKBONES, Backbone
from swell.nets.depth import layer_ids, rate_scales
from swell.nets.encoder import Encoder, EncoderConfig

NAMES = [entry.name for entry in BACKBONES if entry.name != "mlp"]
BLOCKS = {"conv6": 6, "resnet18": 8, "resnet34": 16, "resnet50": 16, "vit_tiny": 12, "vit_small": 12, "vit_base": 12}


def backbone(name, shape=(3, 16, 16)):
    return Encoder(EncoderConfig(name, 0.125, shape, (0.5,) * 3, (0.25,) * 3)).backbone


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_layer_and_every_layer_below_the_head_a_parameter(name):
    net = backbone(name)
    ids, last = layer_ids(net)
    assert list(ids) == [key for key, _ in net.named_parameters()]
    assert last == BLOCKS[name] + 1
    blocks = set(range(1, last))
    assert blocks <= set(ids.values()) <= {0, *blocks, last}


@pytest.mark.parametrize("name", NAMES)
def test_layers_rise_in_the_order_of_the_forward_pass(name):
    net = backbone(name)
    ids, _ = layer_ids(net)
    seen = []
    for prefix, module in net.named_modules():
        if prefix and not list(module.children()) and list(module.parameters()):
            (layer,) = {ids[f"{prefix}.{key}"] for key, _ in module.named_parameters()}
            module.register_forward_hook(lambda *_, layer=layer: seen.append(layer))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, 16, 16))
    assert seen == sorted(seen)
    assert set(seen) == set(ids.values())


def test_what_lies_outside_the_blocks():
    ids, last = layer_ids(backbone("vit_tiny"))
    outside = {key: layer for key, layer in ids.items() if not key.startswith("blocks.")}
    assert {layer for key, layer in outside.items() if key.startswith("norm.")} == {last}
    assert {layer for key, layer in outside.items() if not key.startswith("norm.")} == {0}
    assert "class_token" in outside
    ids, _ = layer_ids(backbone("resnet18"))
    assert {key for key, layer in ids.items() if layer == 0} == {"stem.0.weight", "stem.1.weight", "stem.1.bias"}
    assert ids["stages.1.0.conv1.weight"] == ids["stages.1.0.shortcut.1.bias"] == 3  # two blocks in the stage before


def test_learned_positions_are_part_of_the_stem():
    net = BACKBONES["vit_tiny"]((3, 16, 16), 0.25, positions="learned", pool="mean", depth=3)
    ids, last = layer_ids(net)
    assert (ids["positions"], ids["blocks.2.norm1.weight"], ids["norm.weight"], last) == (0, 3, 4, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay", [0.5, 0.75])
def test_rates_fall_geometrically_from_the_head_to_the_image(name, decay):
    net = backbone(name)
    ids, last = layer_ids(net)
    scales = rate_scales(net, decay)
    by_layer = {}
    for key, layer in ids.items():
        assert by_layer.setdefault(layer, scales[key]) == scales[key]
    assert by_layer[last - 1] == decay  # the head has 1
    assert all(by_layer[layer] == pytest.approx(decay * by_layer[layer + 1]) for layer in range(1, last - 1))
    if 0 in by_layer:
        assert by_layer[0] == pytest.approx(decay**last)


def test_decay_1_is_no_decay_for_any_net_and_another_needs_known_layers():
    class Unknown(Backbone):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    assert rate_scales(Unknown(), 1.0) == {"layer.weight": 1.0, "layer.bias": 1.0}
    assert set(rate_scales(backbone("resnet18"), 1.0).values()) == {1.0}
    with pytest.raises(InputError, match="layer decay of a Unknown"):
        rate_scales(Unknown(), 0.9)
