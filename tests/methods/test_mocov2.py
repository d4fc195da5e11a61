"""MoCo v2's loss against float64 loops, by hand and at collapse; what enters the queue and when."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from vectors import Features, unit_rows, views_of

from swell.errors import InputError
from swell.methods.mocov2 import MoCoV2, moco_loss, one_row_each
from swell.views.plan import VIEWS


def make(**options):
    torch.manual_seed(0)
    method, encoder = MoCoV2(**{"hidden": 16, "outputs": 8, "queue": 40, **options}), Features()
    return method, encoder, method.parts(encoder)


def by_loops(q, k, queue, tau, targets):
    """Equation 1 for every pair and sample, in float64 and plain Python."""
    q, k, queue = (x.detach().double().numpy() for x in (q, k, queue))
    costs = []
    for t, at in enumerate(targets):
        for v in range(len(q)):
            for a, b in zip(q[v], k[t], strict=True):
                a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
                match = math.exp(a @ b / tau)
                if v != at:
                    costs.append(-math.log(match / (match + sum(math.exp(a @ n / tau) for n in queue))))
    return np.mean(costs)


@settings(max_examples=25, deadline=None)
@given(
    v=st.integers(2, 4),
    b=st.integers(1, 5),
    d=st.integers(2, 9),
    size=st.integers(1, 12),
    tau=st.floats(0.1, 2.0),
    data=st.data(),
)
def test_equals_the_formula(v, b, d, size, tau, data):
    targets = data.draw(st.lists(st.integers(0, v - 1), min_size=1, max_size=v, unique=True))
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    q, k = torch.randn(v, b, d, generator=g), torch.randn(len(targets), b, d, generator=g)
    queue = unit_rows(size, d)
    assert moco_loss(q, k, queue, tau, targets).item() == pytest.approx(
        by_loops(q, k, queue, tau, targets), rel=1e-5, abs=1e-6
    )


def test_a_case_worked_by_hand():
    # Query and key equal, three keys at right angles in the queue, tau 1: -log(e / (e + 3)).
    q = torch.tensor([[[5.0, 0.0]]]).repeat(2, 1, 1)
    queue = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0]])
    assert moco_loss(q, q, queue, 1.0, [0, 1]).item() == pytest.approx(-math.log(math.e / (math.e + 3)), rel=1e-6)


def test_collapse_costs_log_of_the_queue_and_one_whatever_the_temperature():
    point = torch.ones(2, 6, 4)
    queue = F.normalize(torch.ones(300, 4), dim=1)
    for tau in (0.01, 0.2, 10.0):
        assert moco_loss(point, point, queue, tau, [0, 1]).item() == pytest.approx(math.log(301), rel=1e-5)
    spread_out = unit_rows(6, 64).repeat(2, 1, 1)
    assert moco_loss(spread_out, spread_out, unit_rows(300, 64, seed=1), 0.2, [0, 1]) < math.log(301) - 2


def test_unrelated_keys_cost_about_the_same_at_a_high_temperature():
    method, encoder, parts = make(queue=500, outputs=64, temperature=10.0)
    value = method.loss(encoder, parts, views_of([2], batch=64), 0.0).loss.item()
    assert value == pytest.approx(math.log(501), abs=0.1)


@pytest.mark.parametrize("tau", [0.01, 10.0])
def test_finite_at_extreme_temperatures_and_in_bf16(tau):
    q = torch.randn(2, 8, 16, dtype=torch.bfloat16, requires_grad=True)
    loss = moco_loss(q, torch.randn(2, 8, 16), unit_rows(32, 16), tau, [0, 1])
    loss.backward()
    assert loss.dtype == torch.float32
    assert q.grad.isfinite().all()


def test_two_views_give_the_mean_of_both_directions():
    method, encoder, parts = make()
    views = views_of([2])
    q = parts["projector"](views.encode(encoder))
    k = views.encode(parts["teacher"])
    queue = parts["queue"].rows
    crossed = [by_loops(q[[a, b]], k[[b]], queue, 0.2, [1]) for a, b in ((0, 1), (1, 0))]
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(np.mean(crossed), rel=1e-5)


def test_local_views_ask_but_are_no_keys():
    method, encoder, parts = make()
    views = views_of([1, 2, 1], roles=("local", "global", "local"))
    q, k = parts["projector"](views.encode(encoder)), views.targets.encode(parts["teacher"])
    outcome = method.loss(encoder, parts, views, 0.0)
    assert outcome.loss.item() == pytest.approx(by_loops(q, k, parts["queue"].rows, 0.2, [1, 2]), rel=1e-5)
    keys = F.normalize(k, dim=-1)
    assert torch.equal(outcome.kept["keys"], torch.stack([keys[b % 2, b] for b in range(12)]))


@given(t=st.integers(1, 5), b=st.integers(1, 9))
def test_each_sample_gives_one_row_and_each_view_its_share(t, b):
    x = torch.stack(torch.meshgrid(torch.arange(t), torch.arange(b), indexing="ij"), -1)  # [t, b, (view, sample)]
    rows = one_row_each(x)
    assert rows[:, 1].tolist() == list(range(b))
    counts = torch.bincount(rows[:, 0], minlength=t)
    assert counts.max() - counts.min() <= 1


def test_the_queue_takes_keys_after_the_step_only():
    method, encoder, parts = make()
    before = parts["queue"].rows.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(40))
    outcome = method.loss(encoder, parts, views_of([2]), 0.0)
    assert torch.equal(parts["queue"].rows, before)
    method.after_step(encoder, parts, outcome.kept, 0.0)
    assert torch.equal(parts["queue"].rows[:12], outcome.kept["keys"])
    assert torch.equal(parts["queue"].rows[12:], before[12:])
    torch.testing.assert_close(outcome.kept["keys"].norm(dim=1), torch.ones(12))
    assert not outcome.kept["keys"].requires_grad


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.99), (1.0, 0.999)])
def test_the_teacher_follows_at_its_pace(progress, tau):
    method, encoder, parts = make()
    start = parts["teacher"].encoder.weight.clone()
    with torch.no_grad():
        encoder.weight.add_(1)
    outcome = method.loss(encoder, parts, views_of([2]), progress)
    method.after_step(encoder, parts, outcome.kept, progress)
    torch.testing.assert_close(parts["teacher"].encoder.weight, start + (1 - tau), rtol=0, atol=1e-6)


def test_gradients_reach_the_student_only():
    method, encoder, parts = make()
    method.loss(encoder, parts, views_of([2]), 0.0).loss.backward()
    assert all(p.grad is not None for m in (encoder, parts["projector"]) for p in m.parameters())
    assert all(p.grad is None for p in parts["teacher"].parameters())


def test_the_published_projector_and_views():
    class Wide(nn.Identity):
        features = 512

    parts = MoCoV2().parts(Wide())
    assert [type(m).__name__ for m in parts["projector"]] == ["Linear", "ReLU", "Linear"]
    assert [tuple(p.shape) for p in parts["projector"].parameters()] == [(2048, 512), (2048,), (256, 2048), (256,)]
    assert MoCoV2().views((3, 32, 32)) == VIEWS["symmetric_weak"]()


def test_one_view_and_impossible_settings_are_refused():
    method, encoder, parts = make()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, parts, views_of([1]), 0.0)
    for bad in ({"temperature": 0.0}, {"tau_start": -0.1}, {"tau_end": 1.1}):
        with pytest.raises(InputError, match=next(iter(bad))):
            MoCoV2(**bad)


def test_agrees_with_lightly():
    peer = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2, memory_bank_size=(64, 8))
    q, k = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    queue = peer.memory_bank.bank.clone()
    theirs = peer(q, k).item()  # q without gradient, so its bank stays as it is
    assert moco_loss(torch.stack([q, q]), k[None], queue, 0.2, [1]).item() == pytest.approx(theirs, rel=1e-5)
