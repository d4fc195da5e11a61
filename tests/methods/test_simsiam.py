"""SimSiam's loss against float64 loops and by hand; where its gradient stops; any number of views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from vectors import Features, views_of

from swell.errors import InputError
from swell.methods.registry import Views
from swell.methods.simsiam import SimSiam, simsiam_loss
from swell.views.plan import VIEWS


def make():
    torch.manual_seed(0)
    method, encoder = SimSiam(hidden=16, outputs=8, predictor=4), Features()
    return method, encoder, method.parts(encoder)


def by_loops(p, z):
    """Equation 1, sample by sample in float64."""
    pairs = zip(p.detach().double().numpy(), z.detach().double().numpy(), strict=True)
    return np.mean([-(a @ b) / np.sqrt((a @ a) * (b @ b)) for a, b in pairs])


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 7), d=st.integers(2, 9), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_equals_the_formula(b, d, scale, seed):
    p, z = torch.randn(2, b, d, generator=torch.Generator().manual_seed(seed))
    assert simsiam_loss(p, scale * z).item() == pytest.approx(by_loops(p, z), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("z", "value"), [([2.0, 0.0], -1.0), ([0.0, 5.0], 0.0), ([-1.0, 0.0], 1.0), ([3.0, 4.0], -0.6)]
)
def test_cases_worked_by_hand(z, value):
    assert simsiam_loss(torch.tensor([[7.0, 0.0]]), torch.tensor([z])).item() == pytest.approx(value, abs=1e-6)


def test_one_point_costs_least_and_unrelated_outputs_cost_nothing():
    assert simsiam_loss(torch.ones(4, 3), torch.ones(4, 3)).item() == pytest.approx(-1, abs=1e-6)
    p, z = torch.randn(2, 512, 256, generator=torch.Generator().manual_seed(0))
    assert simsiam_loss(p, z).item() == pytest.approx(0, abs=0.01)


def test_no_gradient_flows_through_the_target():
    p, z = torch.randn(2, 5, 3, requires_grad=True).unbind()
    a, b = torch.autograd.grad(simsiam_loss(p, z), (p, z), allow_unused=True)
    assert a.any()
    assert b is None


def test_two_views_give_the_papers_mean_of_both_directions():
    method, encoder, parts = make()
    views = views_of([2])
    z = parts["projector"](encoder(views.groups[0]).view(2, 12, -1))
    p = parts["predictor"](z)
    expected = by_loops(p[0], z[1]) / 2 + by_loops(p[1], z[0]) / 2
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_more_views_are_averaged_and_local_ones_only_predict():
    method, encoder, parts = make()
    views = views_of([3, 2], roles=("local", "global"))
    z = parts["projector"](views.encode(encoder))
    p = parts["predictor"](z)
    costs = [by_loops(p[v], z[t]) for t in (3, 4) for v in range(5) if v != t]
    assert method.loss(encoder, parts, views, 0.0).loss.item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_trains_without_collapse_under_autocast():
    method, encoder, parts = make()
    optimizer = torch.optim.SGD([*encoder.parameters(), *parts.parameters()], 0.1, 0.9)
    samples, losses = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), []
    for t in range(40):
        noise = 0.3 * torch.randn(128, 6, generator=torch.Generator().manual_seed(t))
        views = Views((samples.repeat(2, 1) + noise,), ("global",), 64)
        with torch.autocast("cpu", torch.bfloat16):
            outcome = method.loss(encoder, parts, views, t / 40)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(outcome.loss.item())
    assert outcome.loss.dtype == torch.float32
    assert losses[-1] < -0.6 < losses[0]
    assert outcome.scalars["z_std"] > 0.5


def test_the_published_heads_and_views():
    class Wide(nn.Identity):
        features = 512

    parts = SimSiam().parts(Wide())
    block = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(m).__name__ for m in parts["projector"]] == [*block, *block, "Linear", "BatchNorm1d"]
    assert not parts["projector"][-1].affine
    assert [m.out_features for m in parts["projector"] if isinstance(m, nn.Linear)] == [2048] * 3
    assert [type(m).__name__ for m in parts["predictor"]] == [*block, "Linear"]
    assert [m.out_features for m in parts["predictor"] if isinstance(m, nn.Linear)] == [512, 2048]
    assert SimSiam().views((3, 32, 32)) == VIEWS["symmetric_weak"]()


def test_one_view_is_refused():
    method, encoder, parts = make()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, parts, views_of([1]), 0.0)


def test_agrees_with_lightly():
    peer = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    p, z = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(2))
    assert simsiam_loss(p, z).item() == pytest.approx(peer(p, z).item(), rel=1e-5)
