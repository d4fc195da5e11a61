"""LARS by hand, parameter groups, and where the schedule starts and ends."""

import math

import pytest
import torch
from torch import nn

from swell.errors import InputError
from swell.nets.backbones import BACKBONES, make_backbone
from swell.nets.encoder import Encoder  # noqa: F401  (brings all backbones)
from swell.nets.prototypes import Prototypes
from swell.training.optim import LARS, OPTIMIZERS, is_decayed, make_optimizer, set_rate, warmup_cosine


def lars_by_hand(w, grads, lr, m, wd, eta, clip):
    v = [0.0] * len(w)
    for g in grads:
        w_norm, g_norm = math.hypot(*w), math.hypot(*g)
        ratio = eta * w_norm / (g_norm + wd * w_norm)
        if clip:
            ratio = min(ratio / lr, 1.0)
        v = [m * vi + ratio * (gi + wd * wi) for vi, gi, wi in zip(v, g, w, strict=True)]
        w = [wi - lr * vi for wi, vi in zip(w, v, strict=True)]
    return w


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_lars_equals_its_formula(clip, scale):
    p = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    opt = LARS([{"params": [p]}], lr=0.4, momentum=0.9, weight_decay=0.01, eta=0.02, clip=clip)
    grads = [[1.0 * scale, -2.0 * scale], [0.5 * scale, 0.25 * scale], [-1.0 * scale, 0.1 * scale]]
    for g in grads:
        p.grad = torch.tensor([g], dtype=torch.float64)
        opt.step()
    assert p.detach().flatten().tolist() == pytest.approx(lars_by_hand([3.0, 4.0], grads, 0.4, 0.9, 0.01, 0.02, clip))


def test_lars_moves_a_layer_that_starts_at_zero():
    p = nn.Parameter(torch.zeros(2, 2))
    opt = LARS([{"params": [p]}], lr=0.1)
    p.grad = torch.ones(2, 2)
    opt.step()
    assert p.detach().flatten().tolist() == pytest.approx([-0.1] * 4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_never_decayed(name):
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    opt = make_optimizer(name, [net], lr=0.1, weight_decay=0.5, momentum=0.9)
    decays = {p.ndim: g["weight_decay"] for g in opt.param_groups for p in g["params"]}
    assert decays == {2: 0.5, 1: 0.0}
    assert sum(len(g["params"]) for g in opt.param_groups) == len(list(net.parameters()))
    if name.startswith("lars"):
        assert [g["adapt"] for g in opt.param_groups] == [True, False]


@pytest.mark.parametrize(("name", "same"), [("lars_unclipped", True), ("lars", False)])
def test_without_its_ceiling_lars_does_not_see_the_size_of_the_loss(name, same):
    moved = []
    for scale in (1.0, 1e-3):
        net = nn.Linear(4, 3, bias=False)
        with torch.no_grad():
            net.weight.copy_(torch.arange(12.0).reshape(3, 4))
        opt = make_optimizer(name, [net], lr=0.5, weight_decay=0.0, momentum=0.9)
        for _ in range(3):
            opt.zero_grad()
            (scale * (net.weight - 1).square().sum()).backward()
            opt.step()
        moved.append(net.weight.detach())
    assert torch.allclose(*moved, atol=1e-5) is same


class Tokens(nn.Module):
    """Everything a masked autoencoder trains that is neither matrix, bias nor norm."""

    def __init__(self):
        super().__init__()
        self.mask_token, self.segments = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(4, 8))


def test_a_vits_tokens_and_positions_are_never_decayed():
    vit = make_backbone("vit_tiny", (3, 16, 16), 0.25, {"depth": 1, "positions": "learned"})
    modules = [vit, Tokens(), Prototypes(8, 4)]
    named = {id(p): name for module in modules for name, p in module.named_parameters()}
    decayed, others = (
        {named[id(p)] for p in group["params"]}
        for group in make_optimizer("adamw", modules, 0.1, 0.5, 0.9).param_groups
    )
    matrices = {f"blocks.0.{name}.weight" for name in ("attn.qkv", "attn.proj", "fc1", "fc2")} | {
        "embed.weight",
        "weight",
    }
    assert decayed == matrices
    assert others == set(named.values()) - matrices
    assert others >= {"positions", "class_token", "mask_token", "segments", "embed.bias", "norm.weight"}


@pytest.mark.parametrize("name", [entry.name for entry in BACKBONES if not entry.name.startswith(("vit", "mlp"))])
def test_of_a_convolutional_net_everything_but_vectors_is_decayed(name):
    net = make_backbone(name, (3, 32, 32), 0.25, {})
    assert all(is_decayed(n, p) == (p.ndim > 1) for n, p in net.named_parameters())


def test_beta2_is_adamws():
    net = nn.Linear(2, 2)
    assert make_optimizer("adamw", [net], 0.1, 0.5, 0.8, 0.95).param_groups[0]["betas"] == (0.8, 0.95)
    assert make_optimizer("adamw", [net], 0.1, 0.5, 0.8).param_groups[0]["betas"] == (0.8, 0.999)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_part_may_learn_faster(name):
    net = nn.ModuleDict({"slow": nn.Linear(4, 3), "fast": nn.Linear(3, 2)})
    opt = make_optimizer(name, [net], 0.1, 0.5, 0.9, rates={net["fast"]: 30.0})
    for lr in (0.1, 0.02):  # as made, and as set
        rates = {p: group["lr"] for group in opt.param_groups for p in group["params"]}
        assert {rates[p] for p in net["slow"].parameters()} == {lr}
        assert {rates[p] for p in net["fast"].parameters()} == {30 * lr}
        set_rate(opt, 0.02)
    decays = {p.ndim: g["weight_decay"] for g in opt.param_groups for p in g["params"]}
    assert decays == {2: 0.5, 1: 0.0}


def test_parts_at_the_common_rate_make_no_groups_of_their_own():
    """So that checkpoints of a method that names a part at rate 1 fit those of before it did."""
    net = nn.ModuleDict({"slow": nn.Linear(4, 3), "fast": nn.Linear(3, 2)})
    one, two = (make_optimizer("sgd", [net], 0.1, 0.5, 0.9, rates=rates) for rates in ({}, {net["fast"]: 1.0}))
    assert one.state_dict() == two.state_dict()


def test_an_unknown_optimizer_gets_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'adamw'"):
        make_optimizer("adam", [nn.Linear(1, 1)], 0.1, 0.0, 0.9)


def test_warmup_and_cosine_start_peak_and_end():
    assert warmup_cosine(0.0, 0.1) == 0
    assert warmup_cosine(0.05, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0.1, 0.1) == pytest.approx(1)
    assert warmup_cosine(0.55, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(1.0, 0.1) == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(1.3, 0.1) == pytest.approx(0, abs=1e-12)  # minutes may overrun: the rate must not climb again
    assert warmup_cosine(0.0, 0.0) == 1
