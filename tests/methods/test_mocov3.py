"""MoCo v3's loss against float64 loops, by hand and at collapse; its teacher and its heads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from vectors import Features, views_of

from swell.errors import InputError
from swell.methods.mocov3 import MoCoV3, info_nce
from swell.methods.registry import Views
from swell.views.plan import VIEWS


def make(**options):
    torch.manual_seed(0)
    method, encoder = MoCoV3(hidden=16, outputs=8, **options), Features()
    return method, encoder, method.parts(encoder)


def by_loops(q, k, tau):
    """Equation 1, query by query, in float64 and plain Python."""
    q, k = (x.detach().double().numpy() for x in (q, k))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return np.mean(
        [-math.log(math.exp(a @ k[i] / tau) / sum(math.exp(a @ b / tau) for b in k)) for i, a in enumerate(q)]
    )


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 8), d=st.integers(2, 9), tau=st.floats(0.1, 2.0), seed=st.integers(0, 99))
def test_equals_the_formula(b, d, tau, seed):
    q, k = torch.randn(2, b, d, generator=torch.Generator().manual_seed(seed))
    assert info_nce(q, k, tau).item() == pytest.approx(by_loops(q, k, tau), rel=1e-5, abs=1e-6)


def test_pairs_of_views_are_averaged():
    q, k = torch.randn(2, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    assert info_nce(q, k, 0.3).item() == pytest.approx(
        np.mean([by_loops(a, b, 0.3) for a, b in zip(q, k, strict=True)]), rel=1e-5
    )


def test_a_case_worked_by_hand():
    # Three queries equal to their keys on the axes: similarity 1 with the match, 0 with the two others.
    assert info_nce(2 * torch.eye(3), torch.eye(3), 1.0).item() == pytest.approx(
        -math.log(math.e / (math.e + 2)), rel=1e-6
    )


def test_collapse_costs_log_of_the_batch_and_more_than_spread():
    point = torch.ones(32, 8)
    for tau in (0.01, 0.2, 10.0):
        assert info_nce(point, point, tau).item() == pytest.approx(math.log(32), rel=1e-5)
    z = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    assert info_nce(z, z, 0.2) < math.log(32) - 2


@pytest.mark.parametrize("tau", [0.01, 10.0])
def test_finite_at_extreme_temperatures_and_in_bf16(tau):
    q = torch.randn(2, 8, 16, dtype=torch.bfloat16, requires_grad=True)
    loss = info_nce(q, torch.randn(2, 8, 16), tau)
    loss.backward()
    assert loss.dtype == torch.float32
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_two_views_give_the_papers_sum_times_twice_the_temperature(tau):
    method, encoder, parts = make(temperature=tau)
    views = views_of([1, 1])
    q = parts["predictor"](parts["projector"](views.encode(encoder)))
    k = views.encode(parts["teacher"])
    expected = 2 * tau * (by_loops(q[0], k[1], tau) + by_loops(q[1], k[0], tau))
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_local_views_ask_but_are_no_keys():
    method, encoder, parts = make()
    views = views_of([2, 3], roles=("global", "local"))
    q = parts["predictor"](parts["projector"](views.encode(encoder)))
    k = views.targets.encode(parts["teacher"])
    costs = [by_loops(q[v], k[t], 0.2) for t in range(2) for v in range(5) if v != t]
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(4 * 0.2 * np.mean(costs), rel=1e-5)


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.99), (1.0, 1.0)])
def test_the_teacher_follows_at_its_pace(progress, tau):
    method, encoder, parts = make()
    start = parts["teacher"].encoder.weight.clone()
    with torch.no_grad():
        encoder.weight.add_(1)
    outcome = method.loss(encoder, parts, views_of([2]), progress)
    assert torch.equal(parts["teacher"].encoder.weight, start)
    method.after_step(encoder, parts, outcome.kept, progress)
    torch.testing.assert_close(parts["teacher"].encoder.weight, start + (1 - tau), rtol=0, atol=1e-6)


def test_gradients_reach_the_student_only():
    method, encoder, parts = make()
    method.loss(encoder, parts, views_of([2]), 0.0).loss.backward()
    for module in (encoder, parts["projector"], parts["predictor"]):
        assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad is None for p in parts["teacher"].parameters())


def test_training_takes_the_loss_below_that_of_collapse():
    method, encoder, parts = make()
    trained = [p for m in (encoder, parts) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.05, 0.9)
    samples = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    collapsed = 4 * 0.2 * math.log(64)
    for t in range(40):
        noise = 0.2 * torch.randn(128, 6, generator=torch.Generator().manual_seed(t))
        outcome = method.loss(encoder, parts, Views((samples.repeat(2, 1) + noise,), ("global",), 64), t / 40)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.after_step(encoder, parts, outcome.kept, t / 40)
    assert outcome.loss < 0.8 * collapsed
    assert outcome.scalars["z_std"] > 0.5


def test_the_published_heads_and_views():
    class Wide(nn.Identity):
        features = 512

    parts = MoCoV3().parts(Wide())
    block = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [type(m).__name__ for m in parts["projector"]] == [*block, "BatchNorm1d"]
    assert not parts["projector"][-1].affine
    assert [type(m).__name__ for m in parts["predictor"]] == block
    for name in ("projector", "predictor"):
        assert [m.out_features for m in parts[name] if isinstance(m, nn.Linear)] == [4096, 256]
    assert MoCoV3().views((3, 32, 32)) == VIEWS["asymmetric"]()


def test_one_view_and_impossible_settings_are_refused():
    method, encoder, parts = make()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, parts, views_of([1]), 0.0)
    for bad in ({"temperature": 0.0}, {"tau_start": -0.1}, {"tau_end": 1.1}):
        with pytest.raises(InputError, match=next(iter(bad))):
            MoCoV3(**bad)
