"""SimCLR's loss against float64 loops, by hand, and by property."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.methods.simclr import SimCLR, nt_xent
from swell.methods.terms import spread


class Features(torch.nn.Identity):
    features = 512


def by_loops(z, tau):
    """Equation 1 as written, in float64 and plain Python."""
    z = z.double().numpy().reshape(-1, z.shape[-1])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z)
    total = 0.0
    for i in range(n):
        j = (i + n // 2) % n
        others = sum(math.exp(z[i] @ z[k] / tau) for k in range(n) if k != i)
        total += -math.log(math.exp(z[i] @ z[j] / tau) / others)
    return total / n


@settings(max_examples=25, deadline=None)
@given(b=st.integers(2, 7), d=st.integers(2, 9), tau=st.floats(0.1, 2.0), seed=st.integers(0, 99))
def test_equals_the_formula(b, d, tau, seed):
    z = torch.randn(2, b, d, generator=torch.Generator().manual_seed(seed))
    assert nt_xent(z, tau).item() == pytest.approx(by_loops(z, tau), rel=1e-5)


def test_a_case_worked_by_hand():
    # Two samples on the axes, views equal: sim 1 with the partner, 0 with both others, so -log(e / (e + 2)) at tau 1.
    z = torch.eye(2).repeat(2, 1, 1)
    assert nt_xent(z, 1.0).item() == pytest.approx(-math.log(math.e / (math.e + 2)), rel=1e-6)


def test_gradient_equals_finite_differences():
    z = torch.randn(2, 3, 4, dtype=torch.float32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    nt_xent(z, 0.5).backward()
    eps = 1e-6
    for index in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        up, down = z.detach().double().clone(), z.detach().double().clone()
        up[index] += eps
        down[index] -= eps
        assert z.grad[index].item() == pytest.approx((by_loops(up, 0.5) - by_loops(down, 0.5)) / (2 * eps), abs=1e-4)


def test_collapse_costs_more_than_spread_and_random_is_near_its_known_value():
    b, d = 128, 128
    collapsed = torch.ones(2, b, d)
    g = torch.Generator().manual_seed(0)
    views = torch.randn(b, d, generator=g)
    spread_out = torch.stack([views, views + 0.1 * torch.randn(b, d, generator=g)])
    assert nt_xent(collapsed, 0.2).item() == pytest.approx(math.log(2 * b - 1), rel=1e-5)
    assert nt_xent(spread_out, 0.2) < nt_xent(collapsed, 0.2) - 2
    unrelated = torch.randn(2, b, d, generator=g)
    assert nt_xent(unrelated, 1.0).item() == pytest.approx(math.log(2 * b - 1), abs=0.05)


def test_permuting_samples_or_swapping_views_changes_nothing():
    z = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    whole = nt_xent(z, 0.2)
    assert nt_xent(z[:, order], 0.2).item() == pytest.approx(whole.item(), rel=1e-6)
    assert nt_xent(z.flip(0), 0.2).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("tau", [0.01, 0.07, 10.0])
def test_finite_at_extreme_temperatures_and_in_bf16(tau):
    z = torch.randn(2, 32, 64, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(4)).requires_grad_()
    loss = nt_xent(z, tau)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad.float()).all()


def test_spread_tells_collapse_from_isotropy():
    assert spread(torch.ones(2, 64, 32)).item() == pytest.approx(0, abs=1e-4)
    assert spread(torch.randn(2, 256, 32, generator=torch.Generator().manual_seed(5))).item() == pytest.approx(
        1, abs=0.05
    )


def test_the_published_projector():
    parts = SimCLR().parts(Features())
    shapes = [tuple(p.shape) for p in parts.parameters()]
    assert shapes == [(2048, 512), (2048,), (256, 2048), (256,)]  # Linear, ReLU, Linear, no norm
