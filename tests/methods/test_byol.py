"""BYOL's loss against float64 loops and by hand; its teacher's pace; any number of views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from vectors import Features, views_of

from swell.errors import InputError
from swell.methods.byol import BYOL, byol_loss
from swell.methods.registry import Views
from swell.views.plan import VIEWS


def make(seed=0, **options):
    torch.manual_seed(seed)
    method, encoder = BYOL(hidden=16, outputs=8, **options), Features()
    return method, encoder, method.parts(encoder)


def by_loops(p, z):
    """Equation 2, sample by sample in float64."""
    total = 0.0
    for a, b in zip(p.double().numpy(), z.double().numpy(), strict=True):
        a, b = a / np.sqrt((a * a).sum()), b / np.sqrt((b * b).sum())
        total += ((a - b) ** 2).sum()
    return total / len(p)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 7), d=st.integers(2, 9), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_equals_the_formula(b, d, scale, seed):
    p, z = torch.randn(2, b, d, generator=torch.Generator().manual_seed(seed))
    assert byol_loss(scale * p, z).item() == pytest.approx(by_loops(p, z), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("angle", "value"), [(0, 0), (90, 2), (180, 4), (60, 1)])
def test_cases_worked_by_hand(angle, value):
    a = np.deg2rad(angle)
    p, z = torch.tensor([[3.0, 0.0]]), torch.tensor([[np.cos(a), np.sin(a)]], dtype=torch.float32)
    assert byol_loss(p, z).item() == pytest.approx(value, abs=1e-6)


def test_unrelated_outputs_cost_2_and_one_point_costs_nothing():
    p, z = torch.randn(2, 512, 256, generator=torch.Generator().manual_seed(0))
    assert byol_loss(p, z).item() == pytest.approx(2, abs=0.02)
    assert byol_loss(torch.ones(5, 3), torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-6)


def test_two_views_give_the_papers_sum_of_both_directions():
    method, encoder, parts = make()
    views = views_of([2])
    z = parts["projector"](encoder(views.groups[0]).view(2, 12, -1))
    target = parts["teacher"](views.groups[0]).view(2, 12, -1)
    p = parts["predictor"](z)
    expected = by_loops(p[0].detach(), target[1]) + by_loops(p[1].detach(), target[0])
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_more_views_are_averaged_and_local_ones_only_predict():
    method, encoder, parts = make()
    views = views_of([2, 3], roles=("global", "local"))
    p = parts["predictor"](parts["projector"](views.encode(encoder))).detach()
    target = views.targets.encode(parts["teacher"])
    assert target.shape == (2, 12, 8)
    costs = [by_loops(p[v], target[t]) for t in range(2) for v in range(5) if v != t]
    assert len(costs) == 8
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(2 * np.mean(costs), rel=1e-5)


def test_gradients_reach_the_student_only():
    method, encoder, parts = make()
    method.loss(encoder, parts, views_of([2]), 0.0).loss.backward()
    for module in (encoder, parts["projector"], parts["predictor"]):
        assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad is None for p in parts["teacher"].parameters())


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_the_teacher_follows_at_its_pace_and_only_after_the_step(progress, tau):
    method, encoder, parts = make()
    teacher = parts["teacher"]
    start = teacher.encoder.weight.clone()
    with torch.no_grad():
        encoder.weight.add_(1)
    outcome = method.loss(encoder, parts, views_of([2]), progress)
    assert torch.equal(teacher.encoder.weight, start)
    method.after_step(encoder, parts, outcome.kept, progress)
    expected = tau * start.double() + (1 - tau) * encoder.weight.detach().double()
    torch.testing.assert_close(teacher.encoder.weight.double(), expected, rtol=1e-6, atol=1e-6)


def test_trains_without_collapse_under_autocast():
    method, encoder, parts = make()
    trained = [p for m in (encoder, parts) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1, 0.9)
    samples, losses = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), []
    for t in range(40):
        noise = 0.3 * torch.randn(128, 6, generator=torch.Generator().manual_seed(t))
        views = Views((samples.repeat(2, 1) + noise,), ("global",), 64)
        with torch.autocast("cpu", torch.bfloat16):
            outcome = method.loss(encoder, parts, views, t / 40)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.after_step(encoder, parts, outcome.kept, t / 40)
        losses.append(outcome.loss.item())
    assert outcome.loss.dtype == torch.float32
    assert losses[-1] < 0.5 * losses[0]
    assert outcome.scalars["z_std"] > 0.5


def test_the_published_heads_and_views():
    class Wide(nn.Identity):
        features = 512

    parts = BYOL().parts(Wide())
    names = [type(m).__name__ for m in parts["projector"]]
    assert names == ["Linear", "BatchNorm1d", "ReLU", "Linear"] == [type(m).__name__ for m in parts["predictor"]]
    assert [m.out_features for m in parts["projector"] if isinstance(m, nn.Linear)] == [4096, 256]
    assert [m.out_features for m in parts["predictor"] if isinstance(m, nn.Linear)] == [4096, 256]
    assert BYOL().views((3, 32, 32)) == VIEWS["asymmetric"]()


def test_one_view_or_a_tau_beyond_1_is_refused():
    method, encoder, parts = make()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, parts, views_of([1]), 0.0)
    with pytest.raises(InputError, match="tau_start"):
        BYOL(tau_start=1.5)


def test_agrees_with_lightly():
    peer = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    p, z = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    assert byol_loss(p, z).item() == pytest.approx(2 + 2 * peer(p, z).item(), rel=1e-5)
