"""The teacher: an exact moving average, with a state of its own and no gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swell.nets.heads import MLP
from swell.nets.teacher import Teacher


def student(seed=0):
    torch.manual_seed(seed)
    return {"encoder": nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()), "projector": MLP(6, 5, 3)}


def flat(modules):
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


@settings(max_examples=25, deadline=None)
@given(taus=st.lists(st.floats(0, 1), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_follows_as_the_formula_says(taus, seed):
    nets = student(seed)
    teacher = Teacher(**nets)
    expected = flat(nets.values()).double()
    for t, tau in enumerate(taus):
        torch.manual_seed(1000 + t)
        with torch.no_grad():
            for module in nets.values():
                for p in module.parameters():
                    p.normal_()
        expected = tau * expected + (1 - tau) * flat(nets.values()).double()
        teacher.follow(tau, **nets)
    torch.testing.assert_close(flat([teacher]).double(), expected, rtol=1e-5, atol=1e-6)


def test_stands_still_at_tau_1_and_copies_at_tau_0():
    nets, other = student(0), student(1)
    teacher = Teacher(**nets)
    start = flat([teacher])
    teacher.follow(1.0, **other)
    assert torch.equal(flat([teacher]), start)
    teacher.follow(0.0, **other)
    assert torch.equal(flat([teacher]), flat(other.values()))


def test_starts_as_an_independent_copy():
    nets = student()
    teacher = Teacher(**nets)
    x = torch.randn(8, 4)
    torch.testing.assert_close(teacher(x), nets["projector"](nets["encoder"](x)))
    with torch.no_grad():
        nets["projector"][0].weight.add_(1)
    assert not torch.equal(teacher.projector[0].weight, nets["projector"][0].weight)


def test_no_gradient_flows_and_nothing_is_trained():
    teacher = Teacher(**student())
    x = torch.randn(8, 4, requires_grad=True)
    assert not teacher(x).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


def test_its_batch_norm_counts_its_own_batches():
    nets = student()
    teacher = Teacher(**nets)
    teacher(torch.randn(8, 4))
    assert int(teacher.encoder[1].num_batches_tracked) == 1
    assert int(nets["encoder"][1].num_batches_tracked) == 0
    mine = teacher.encoder[1].running_mean.clone()
    nets["encoder"](torch.randn(8, 4) + 3)
    teacher.follow(0.5, **nets)
    assert torch.equal(teacher.encoder[1].running_mean, mine)


def test_only_the_named_modules_move():
    nets, other = student(0), student(1)
    teacher = Teacher(**nets)
    teacher.follow(0.0, projector=other["projector"])
    assert torch.equal(flat([teacher.projector]), flat([other["projector"]]))
    assert torch.equal(flat([teacher.encoder]), flat([nets["encoder"]]))


def test_a_frozen_student_and_a_channels_last_one_are_followed_too():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    teacher = Teacher(encoder=conv)
    with torch.no_grad():
        conv.weight.add_(1)
    conv.weight.requires_grad_(False)
    teacher.follow(0.25, encoder=conv)
    torch.testing.assert_close(teacher.encoder.weight, conv.weight - 0.25)


def test_state_goes_on_where_it_was():
    nets = student()
    teacher, other = Teacher(**nets), Teacher(**student(5))
    teacher(torch.randn(8, 4))
    other.load_state_dict(teacher.state_dict())
    x = torch.randn(8, 4)
    for _ in range(2):
        assert torch.equal(teacher(x), other(x))
        for t in (teacher, other):
            t.follow(0.9, **student(7))


def test_another_net_is_refused():
    teacher = Teacher(**student())
    with pytest.raises(RuntimeError):
        teacher.follow(0.9, encoder=nn.Linear(4, 6))
