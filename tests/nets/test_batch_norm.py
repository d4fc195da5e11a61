"""The shared batch norm by itself; what it does on several ranks is in tests/training/test_distributed.py."""

import copy

import torch
from torch import nn

from swell.nets.batch_norm import SharedNorm, pooled, share_norms
from swell.ranks import ALONE, Ranks


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False)
    )


def test_it_keeps_names_weights_and_what_a_finished_net_computes():
    plain, x = net(), torch.randn(6, 3, 3, 3)
    plain(x)
    shared = copy.deepcopy(plain)
    share_norms(shared, Ranks(1, 2))
    assert [type(m) for m in shared][1::3] == [SharedNorm, SharedNorm]
    assert shared.state_dict().keys() == plain.state_dict().keys()
    shared.load_state_dict(plain.state_dict())
    assert torch.equal(shared.eval()(x), plain.eval()(x))  # nothing is asked of other ranks


def test_alone_it_is_the_plain_norm():
    plain, shared, x = net(), net(), torch.randn(6, 3, 3, 3)
    share_norms(shared, ALONE)
    assert torch.equal(shared(x), plain(x))
    assert torch.equal(shared[1].running_var, plain[1].running_var)


def test_pooled_statistics_do_not_cancel():
    x = torch.randn(50, 2, 4) * 1e-2 + 1e3
    mean, var, rows = pooled(x, ALONE)
    exact = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), exact.var(1, correction=0), rtol=1e-2, atol=0)
    assert rows == 200
