"""Shapes, stems, sizes, and exact equality with what the papers count."""

import json

import numpy as np
import pytest
import torch

from swell.errors import InputError
from swell.nets.backbones import BACKBONES, make_backbone, scaled
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics, default_backbone


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("name", "millions"), [("resnet18", 11.69), ("resnet34", 21.80), ("resnet50", 25.56)])
def test_parameters_equal_the_published_counts(name, millions):
    net = BACKBONES[name]((3, 224, 224), 1.0)
    with_classifier = count(net) + net.features * 1000 + 1000  # the papers count a 1000-way layer we do not have
    assert with_classifier / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", [entry.name for entry in BACKBONES if entry.name != "mlp"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 96, 96)])
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_features_and_gradient(name, shape, width):
    few = {"depth": 2} if name.startswith("vit") else {}  # a block is like another
    net = make_backbone(name, shape, width, few)
    y = net(torch.randn(2, *shape))
    assert y.shape == (2, net.features)
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_small_images_keep_their_resolution_until_the_first_stage():
    small, large = BACKBONES["resnet18"]((3, 32, 32), 0.25), BACKBONES["resnet18"]((3, 224, 224), 0.25)
    assert small.stem(torch.zeros(1, 3, 32, 32)).shape[-1] == 32
    assert large.stem(torch.zeros(1, 3, 224, 224)).shape[-1] == 56
    assert small.forward_map(torch.zeros(1, 3, 32, 32)).shape[-1] == 4


def test_widths_are_whole_lanes():
    assert [scaled(64, w) for w in (1.0, 0.25, 0.3, 0.01)] == [64, 16, 16, 8]
    assert default_backbone((1, 8, 8)) == "conv6"
    assert default_backbone((3, 32, 32)) == "resnet18"


def test_encode_is_eval_mode_normalised_and_independent_of_company():
    samples = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    mean, std = channel_statistics(samples)
    encoder = Encoder(EncoderConfig("conv6", 0.5, (3, 16, 16), mean, std)).train()
    z = encoder.encode(samples)
    assert encoder.training  # left as it was found
    assert z.shape == (40, encoder.features)
    np.testing.assert_allclose(encoder.encode(samples[:7]), z[:7], rtol=1e-4, atol=1e-5)
    x = torch.from_numpy(samples).float() / 255
    normalised = (x - encoder.mean) / encoder.std
    assert normalised.mean().item() == pytest.approx(0, abs=1e-4)
    assert normalised.std().item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 16, 16), np.float32), np.zeros((2, 5), np.uint8)]
)
def test_encode_refuses_other_shapes_and_types(wrong):
    encoder = Encoder(EncoderConfig("conv6", 0.25, (3, 16, 16), (0.5,) * 3, (0.2,) * 3))
    with pytest.raises(InputError, match="expected images uint8"):
        encoder.encode(wrong)


@pytest.mark.parametrize("name", ["conv6", "resnet18"])
def test_convolutional_backbones_take_no_options(name):
    assert make_backbone(name, (3, 16, 16), 0.25, {}).options == {}
    with pytest.raises(InputError, match=f"backbone_options patch: expected none: {name}"):
        make_backbone(name, (3, 16, 16), 0.25, {"patch": 4})


def test_an_unknown_backbone_gets_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'vit_tiny'"):
        make_backbone("vit_tini", (3, 16, 16), 1.0, {})


def test_a_config_keeps_the_options_and_old_files_have_none():
    config = EncoderConfig("vit_tiny", 0.25, (1, 8, 8), (0.3,), (0.2,), {"depth": 2, "positions": "learned"})
    stored = json.loads(json.dumps(config.to_dict()))
    assert EncoderConfig.from_dict(stored) == config
    assert Encoder(EncoderConfig.from_dict(stored)).backbone.options["positions"] == "learned"
    del stored["options"]
    assert EncoderConfig.from_dict(stored).options == {}
    with pytest.raises(InputError, match=r"encoder\.json"):
        EncoderConfig.from_dict({**stored, "options": 3})


def test_only_a_vit_has_attention_maps():
    x, statistics = torch.rand(2, 3, 16, 16), ((0.5,) * 3, (0.2,) * 3)
    vit = Encoder(EncoderConfig("vit_tiny", 1.0, (3, 16, 16), *statistics, {"depth": 2}))
    torch.testing.assert_close(vit.attention_map(x), vit.backbone.attention_map((x - 0.5) / 0.2))
    with pytest.raises(InputError, match="an attention map of a conv6"):
        Encoder(EncoderConfig("conv6", 0.25, (3, 16, 16), *statistics)).attention_map(x)


def test_config_round_trip_and_damage():
    config = EncoderConfig("conv6", 0.5, (1, 8, 8), (0.3,), (0.2,))
    assert EncoderConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="swell-encoder-1"):
        EncoderConfig.from_dict({"format": "else"})
    with pytest.raises(InputError, match=r"encoder\.json"):
        EncoderConfig.from_dict({"format": "swell-encoder-1", "backbone": "conv6"})
