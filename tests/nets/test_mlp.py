"""The MLP: what its options build, what its encoder takes, where its layers lie."""

import numpy as np
import pytest
import torch
from torch import nn

from swell.errors import InputError
from swell.nets.backbones import BACKBONES, make_backbone
from swell.nets.depth import layer_ids, rate_scales
from swell.nets.encoder import Encoder, EncoderConfig, default_backbone


def mlp(width=1.0, shape=(20,), **options):
    torch.manual_seed(0)
    return make_backbone("mlp", shape, width, options)


def encoder(**options):
    torch.manual_seed(0)
    return Encoder(EncoderConfig("mlp", 1.0, (20,), (), (), options))


def test_the_defaults_are_those_the_registry_names():
    net = mlp()
    assert net.options == {"hidden": 512, "depth": 2, "outputs": 128, "norm": "batch", "skip": True, "dropout": 0.0}
    assert net.features == 128
    count = sum(p.numel() for p in net.parameters())
    assert count == 20 * 512 + 2 * 512 + 512 * 512 + 2 * 512 + 512 * 128 + 128  # no bias before a norm


def test_a_forward_pass_equals_one_written_out():
    net = mlp(hidden=8, depth=3, outputs=5, norm="layer").eval()
    x = torch.randn(7, 20)
    w = dict(net.named_parameters())
    y = x
    for i in range(3):
        h = y @ w[f"layers.{i}.0.weight"].T
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = (h * w[f"layers.{i}.1.weight"] + w[f"layers.{i}.1.bias"]).clamp_min(0)
        y = h if i == 0 else y + h
    torch.testing.assert_close(net(x), y @ w["last.weight"].T + w["last.bias"])


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("skip", [True, False])
def test_every_option_trains(norm, skip):
    net = mlp(hidden=16, depth=2, outputs=3, norm=norm, skip=skip, dropout=0.2)
    kinds = {type(m) for m in net.modules()}
    assert (nn.BatchNorm1d in kinds, nn.LayerNorm in kinds) == (norm == "batch", norm == "layer")
    net(torch.randn(9, 20)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert not torch.equal(net(torch.ones(9, 20)), net(torch.ones(9, 20)))  # dropout
    net.eval()
    assert torch.equal(net(torch.ones(9, 20)), net(torch.ones(9, 20)))


def test_the_width_scales_the_hidden_layers_only():
    net = mlp(width=0.25, hidden=64)
    assert net.layers[0][0].out_features == 16
    assert net.features == 128


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hidden": 0}, "hidden 0"),
        ({"depth": 1.5}, "whole number"),
        ({"norm": "bach"}, "batch"),
        ({"dropout": 1.0}, "below 1"),
        ({"skip": 1}, "skip = 1.*True"),
        ({"hiden": 8}, "hidden"),
        ({"depth": True}, "whole number"),
    ],
)
def test_bad_options_are_told_in_a_line(options, says):
    with pytest.raises(InputError, match=says):
        mlp(**options)


def test_images_are_refused_and_vectors_get_it_by_default():
    with pytest.raises(InputError, match="vectors"):
        mlp(shape=(3, 8, 8))
    assert default_backbone((765,)) == "mlp" in BACKBONES


def test_the_encoder_of_vectors_takes_float32_and_nothing_else():
    net = encoder(hidden=16, outputs=4)
    x = np.random.default_rng(0).standard_normal((1100, 20)).astype(np.float32)
    z = net.encode(x)
    assert (z.shape, z.dtype) == ((1100, 4), np.float32)
    assert np.array_equal(net.encode(x[:600])[:512], z[:512])
    assert np.array_equal(net.encode(torch.from_numpy(x)), z)
    net.eval()
    torch.testing.assert_close(torch.from_numpy(z), net(torch.from_numpy(x)), rtol=1e-4, atol=1e-5)
    for bad in (x.astype(np.float64), x[:, :19], np.zeros((4, 1, 8, 8), np.uint8)):
        with pytest.raises(InputError, match=r"vectors float32 \[N, 20\]"):
            net.encode(bad)
    with pytest.raises(AttributeError, match="feature map"):
        net.forward_map(torch.zeros(1, 20))


def test_sparse_rows_are_encoded_like_the_dense_ones():
    sparse = pytest.importorskip("scipy.sparse")
    from swell.data.sparse import SparseRows

    x = np.random.default_rng(0).poisson(0.3, (700, 20)).astype(np.float32)
    rows = SparseRows.from_csr(sparse.csr_array(x), np.zeros((1, 20), np.float32))
    net = encoder(hidden=16, outputs=4)
    assert np.array_equal(net.encode(rows), net.encode(x))


def test_its_settings_survive_json():
    config = encoder(hidden=16).config
    assert EncoderConfig.from_dict(config.to_dict()) == config


def test_layers_are_numbered_from_the_input():
    net = mlp(hidden=8, depth=3)
    ids, last = layer_ids(net)
    assert last == 4
    assert {ids[f"layers.{i}.0.weight"] for i in range(3)} == {0, 1, 2}
    assert ids["last.weight"] == 3
    assert rate_scales(net, 0.5)["layers.0.0.weight"] == 0.5**4
