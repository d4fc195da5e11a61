"""The decoder: who sees what, which sizes it takes, what it refuses."""

import pytest
import torch
from torch import nn

from swell.errors import InputError
from swell.methods.token_plans import Kept, Mixed
from swell.nets.decoder import Decoder
from swell.nets.encoder import Encoder, EncoderConfig

CPU = torch.device("cpu")


def encoder(pool="class", shape=(3, 16, 16)):
    torch.manual_seed(0)
    options = {"patch": 4, "depth": 1, "pool": pool}
    channels = shape[0]
    return Encoder(EncoderConfig("vit_tiny", 1 / 6, shape, (0.5,) * channels, (0.25,) * channels, options))


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
def test_tokens_of_some_patches_become_pixels_of_all(pool, size):
    net = encoder(pool)
    decoder = Decoder(net, 16, 2, 4)
    x = torch.rand(5, 3, *size)
    h, w = decoder.grid_of(x)
    plan = Kept.draw(5, h * w, 0.75, CPU)
    tokens = net(x, plan)
    assert tokens.shape == (5, net.backbone.extra + h * w // 4, net.features)
    assert decoder(tokens, plan, (h, w)).shape == (5, h * w, 48)


def test_a_sample_is_decoded_from_its_own_tokens():
    """Of two mixed groups, changing one token changes the pixels of its own image; without a class token of no other."""
    net = encoder("mean")
    decoder = Decoder(net, 16, 1, 2)
    plan = Mixed.mix(8, 16, 4, CPU)
    tokens = torch.randn(2, 16, net.features)
    changed = tokens.clone()
    changed[1, 5] += 1
    before, after = (decoder(t, plan, (4, 4)) for t in (tokens, changed))
    differ = (before - after).abs().amax((1, 2)) > 1e-6
    assert differ.nonzero().flatten().tolist() == [plan.members[1, plan.owner[1, 5]].item()]


def test_the_class_token_reaches_every_image_of_its_group():
    net = encoder("class")
    decoder = Decoder(net, 16, 1, 2)
    plan = Mixed.mix(8, 16, 4, CPU)
    tokens = torch.randn(2, 17, net.features)
    changed = tokens.clone()
    changed[1, 0] += 1
    before, after = (decoder(t, plan, (4, 4)) for t in (tokens, changed))
    differ = (before - after).abs().amax((1, 2)) > 1e-6
    assert sorted(differ.nonzero().flatten().tolist()) == sorted(plan.members[1].tolist())


def test_hidden_places_are_told_apart_by_position_only():
    """All blank: the same token everywhere, so what differs from place to place is the positions' doing."""
    net = encoder("mean")
    decoder = Decoder(net, 16, 1, 2)
    plan = Kept.draw(1, 16, 0.9, CPU)  # one token kept
    out = decoder(torch.zeros(1, 1, net.features), plan, (4, 4))[0, plan.hidden[0]]
    assert len(out.unique(dim=0)) == len(out) == 15
    with torch.no_grad():
        decoder.positions.zero_()
    out = decoder(torch.zeros(1, 1, net.features), plan, (4, 4))[0, plan.hidden[0]]
    torch.testing.assert_close(out, out[:1].expand_as(out))


def test_channels_follow_the_images():
    assert Decoder(encoder(shape=(1, 16, 16)), 16, 1, 2).head.out_features == 16


def test_positions_are_no_state():
    assert "positions" not in Decoder(encoder(), 16, 1, 2).state_dict()


@pytest.mark.parametrize(("width", "heads", "says"), [(30, 2, "multiple of the heads, and of 4"), (16, 3, "16 for 3")])
def test_sizes_that_do_not_fit_are_told(width, heads, says):
    with pytest.raises(InputError, match=says):
        Decoder(encoder(), width, 1, heads)


def test_an_encoder_without_tokens_is_refused():
    convolutional = Encoder(EncoderConfig("conv6", 0.25, (3, 16, 16), (0.5,) * 3, (0.25,) * 3))
    for net in (convolutional, nn.Linear(3, 3)):
        with pytest.raises(InputError, match="a ViT"):
            Decoder(net, 16, 1, 2)
