"""The same weights in timm's VisionTransformer: equal outputs, both ways."""

import sys

import pytest
import torch

from swell.errors import InputError
from swell.nets.timm_weights import from_timm, to_timm
from swell.nets.vit import vit_tiny

SHAPES = [((3, 32, 32), {}), ((1, 16, 16), {"patch": 2, "depth": 2}), ((3, 24, 40), {"patch": 8, "depth": 3})]
POOLS = ["class", "mean"]
TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")  # kept: its end would take the declarations back


@pytest.fixture(scope="module")
def timm_vit():
    try:
        timm = pytest.importorskip("timm")
    except RuntimeError:  # torchvision was built for another torch: it imports once its operators are declared
        for name in [name for name in sys.modules if name.startswith(("timm", "torchvision"))]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            TORCHVISION.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        timm = pytest.importorskip("timm")
    return timm.models.vision_transformer.VisionTransformer


def ours_of(shape, seed=0, **options):
    torch.manual_seed(seed)
    net = vit_tiny(shape, 1.0, **options)
    with torch.no_grad():
        for p in net.parameters():  # biases and gains too
            p.add_(0.05 * torch.randn_like(p))
    return net.eval()


def theirs_of(timm_vit, net, shape):
    mean = {} if net.extra else {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return timm_vit(
        img_size=shape[1:],
        patch_size=net.patch,
        in_chans=shape[0],
        embed_dim=net.features,
        depth=len(net.blocks),
        num_heads=net.heads,
        num_classes=0,
        **mean,
    ).eval()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("positions", ["sine", "learned"])
@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_timm_computes_the_same_with_our_weights(timm_vit, shape, options, positions, pool):
    net = ours_of(shape, pool=pool, positions=positions, **options)
    theirs = theirs_of(timm_vit, net, shape)
    theirs.load_state_dict(to_timm(net.state_dict(), net.patch))
    x = torch.randn(3, *shape)
    torch.testing.assert_close(net(x), theirs(x), rtol=1e-4, atol=1e-4)
    tokens = net.forward_map(x).flatten(2).mT
    torch.testing.assert_close(tokens, theirs.forward_features(x)[:, net.extra :], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pool", POOLS)
def test_we_compute_the_same_with_timms_weights_and_the_gradients_agree(timm_vit, pool):
    shape = (3, 32, 32)
    net = ours_of(shape, pool=pool, positions="learned", depth=2)
    torch.manual_seed(1)
    theirs = theirs_of(timm_vit, net, shape)
    net.load_state_dict(from_timm(theirs.state_dict()))
    x = torch.randn(3, *shape)
    a, b = net(x), theirs(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    a.square().sum().backward()
    b.square().sum().backward()
    for name, p in theirs.blocks.named_parameters():
        torch.testing.assert_close(
            net.blocks.get_parameter(name.replace("mlp.", "")).grad, p.grad, rtol=1e-3, atol=1e-4
        )
    patches = theirs.patch_embed.proj.weight.grad.flatten(1)
    torch.testing.assert_close(net.embed.weight.grad, patches, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pool", POOLS)
def test_there_and_back_is_the_same_state(pool):
    state = ours_of((3, 32, 32), pool=pool, depth=2).state_dict()
    back = from_timm(to_timm(state, 4))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_a_classifier_is_left_out():
    state = to_timm(ours_of((3, 32, 32), depth=1).state_dict(), 4)
    with_head = {**state, "head.weight": torch.zeros(10, 192), "head.bias": torch.zeros(10)}
    assert from_timm(with_head).keys() == from_timm(state).keys()


@pytest.mark.parametrize(
    ("extra", "missing", "says"),
    [
        ({"reg_token": torch.zeros(1, 4, 192)}, None, "reg_token"),
        ({"blocks.0.ls1.gamma": torch.zeros(192)}, None, "layer scale"),
        ({}, "pos_embed", "pos_embed"),
        ({}, "patch_embed.proj.weight", "timm's VisionTransformer"),
    ],
)
def test_weights_of_another_net_are_refused(extra, missing, says):
    state = {**to_timm(ours_of((3, 32, 32), depth=1).state_dict(), 4), **extra}
    state.pop(missing, None)
    with pytest.raises(InputError, match=says):
        from_timm(state)


def test_other_patches_and_other_nets_are_refused():
    state = ours_of((3, 32, 32), depth=1).state_dict()
    with pytest.raises(InputError, match="patches of 5"):
        to_timm(state, 5)
    with pytest.raises(InputError, match="plain ViT"):
        to_timm({"stem.0.weight": torch.zeros(1)}, 4)
    with pytest.raises(InputError, match="embed"):
        to_timm({"norm.weight": torch.zeros(1)}, 4)
