"""NNCLR's loss and its neighbours against float64 loops, by hand and at collapse; what enters the queue and when."""

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
from swell.methods.nnclr import NNCLR, nearest, nnclr_loss
from swell.methods.registry import Views
from swell.views.plan import VIEWS


def make(**options):
    torch.manual_seed(0)
    settings = {"hidden": 16, "outputs": 8, "predictor": 12, "queue": 40, **options}
    method, encoder = NNCLR(**settings), Features()
    return method, encoder, method.parts(encoder)


def neighbour_by_loops(z, queue):
    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    queue = queue.double().numpy()
    return np.stack([max(queue, key=lambda row, a=a: cosine(a, row)) for a in z.detach().double().numpy()])


def by_loops(neighbours, p, tau):
    """In float64: the neighbour must find its sample's prediction among those of the batch."""
    p = p.detach().double().numpy()
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    costs = []
    for i, a in enumerate(neighbours):
        costs.append(-math.log(math.exp(a @ p[i] / tau) / sum(math.exp(a @ b / tau) for b in p)))
    return np.mean(costs)


@settings(max_examples=25, deadline=None)
@given(
    b=st.integers(1, 8), d=st.integers(2, 9), size=st.integers(1, 20), tau=st.floats(0.1, 2.0), seed=st.integers(0, 99)
)
def test_equals_the_formula(b, d, size, tau, seed):
    z, p = torch.randn(2, b, d, generator=torch.Generator().manual_seed(seed))
    queue = unit_rows(size, d)
    found = nearest(z, queue)
    expected = neighbour_by_loops(z, queue)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert nnclr_loss(found, p, tau).item() == pytest.approx(by_loops(expected, p, tau), rel=1e-5, abs=1e-6)


def test_a_case_worked_by_hand():
    queue = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    z = torch.tensor([[3.0, 1.0], [-0.1, 0.2], [-5.0, 4.0]])
    assert nearest(z, queue).tolist() == [[1, 0], [0, 1], [-1, 0]]
    # Neighbours (1, 0) and (0, 1), predictions the same: similarity 1 with the own one, 0 with the other, tau 1.
    p = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    assert nnclr_loss(nearest(z[:2], queue), p, 1.0).item() == pytest.approx(math.log(1 + 1 / math.e), rel=1e-6)


def test_collapse_costs_log_of_the_batch_and_more_than_spread():
    point = torch.ones(32, 8)
    for tau in (0.01, 0.2, 10.0):
        assert nnclr_loss(nearest(point, unit_rows(50, 8)), point, tau).item() == pytest.approx(math.log(32), rel=1e-5)
    z = unit_rows(32, 64)
    assert nnclr_loss(nearest(z, z), z, 0.2) < math.log(32) - 2


@pytest.mark.parametrize("tau", [0.01, 10.0])
def test_finite_at_extreme_temperatures_and_in_bf16(tau):
    p = torch.randn(8, 16, dtype=torch.bfloat16, requires_grad=True)
    loss = nnclr_loss(nearest(torch.randn(8, 16, dtype=torch.bfloat16), unit_rows(20, 16)), p, tau)
    loss.backward()
    assert loss.dtype == torch.float32
    assert p.grad.isfinite().all()


def test_no_gradient_flows_through_the_neighbours():
    z = torch.randn(4, 8, requires_grad=True)
    assert not nearest(z, unit_rows(20, 8)).requires_grad


def test_two_views_give_the_mean_of_both_directions():
    method, encoder, parts = make()
    views = views_of([1, 1])
    z = parts["projector"](views.encode(encoder))
    p, queue = parts["predictor"](z), parts["queue"].rows
    costs = [by_loops(neighbour_by_loops(z[t], queue), p[v], 0.2) for t, v in ((0, 1), (1, 0))]
    outcome = method.loss(encoder, parts, views, 0.0)
    assert outcome.loss.item() == pytest.approx(np.mean(costs), rel=1e-5)
    best = (F.normalize(z, dim=-1) @ queue.T).max(-1).values.mean().item()
    assert outcome.scalars["neighbour_cosine"].item() == pytest.approx(best, rel=1e-5)


def test_local_views_predict_but_have_no_neighbours():
    method, encoder, parts = make()
    views = views_of([1, 2, 1], roles=("local", "global", "local"))
    z = parts["projector"](views.encode(encoder))
    p, queue = parts["predictor"](z), parts["queue"].rows
    costs = [by_loops(neighbour_by_loops(z[t], queue), p[v], 0.2) for t in (1, 2) for v in range(4) if v != t]
    outcome = method.loss(encoder, parts, views, 0.0)
    assert outcome.loss.item() == pytest.approx(np.mean(costs), rel=1e-5)
    unit = F.normalize(z.detach(), dim=-1)
    torch.testing.assert_close(outcome.kept["z"], torch.stack([unit[1 + b % 2, b] for b in range(12)]))


def test_the_queue_takes_projections_after_the_step_only():
    method, encoder, parts = make()
    before = parts["queue"].rows.clone()
    outcome = method.loss(encoder, parts, views_of([2]), 0.0)
    assert torch.equal(parts["queue"].rows, before)
    method.after_step(encoder, parts, outcome.kept, 0.0)
    assert torch.equal(parts["queue"].rows[:12], outcome.kept["z"])
    assert torch.equal(parts["queue"].rows[12:], before[12:])
    torch.testing.assert_close(outcome.kept["z"].norm(dim=1), torch.ones(12))
    # Now a sample's nearest neighbour is itself: why the queue should be shorter than the data set.
    again = method.loss(encoder, parts, views_of([2]), 0.0)
    assert again.scalars["neighbour_cosine"] > outcome.scalars["neighbour_cosine"]


def test_training_takes_the_loss_below_that_of_collapse():
    method, encoder, parts = make(queue=256)
    optimizer = torch.optim.SGD([*encoder.parameters(), *parts.parameters()], 0.05, 0.9)
    samples = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    for t in range(60):
        rows = samples[torch.randperm(1000, generator=torch.Generator().manual_seed(t))[:64]]
        noise = 0.2 * torch.randn(128, 6, generator=torch.Generator().manual_seed(t))
        outcome = method.loss(encoder, parts, Views((rows.repeat(2, 1) + noise,), ("global",), 64), t / 60)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.after_step(encoder, parts, outcome.kept, t / 60)
    assert outcome.loss < 0.7 * math.log(64)
    assert outcome.scalars["z_std"] > 0.5


def test_the_published_heads_and_views():
    class Wide(nn.Identity):
        features = 512

    parts = NNCLR().parts(Wide())
    block = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(m).__name__ for m in parts["projector"]] == [*block, *block, "Linear", "BatchNorm1d"]
    assert [m.out_features for m in parts["projector"] if isinstance(m, nn.Linear)] == [2048, 2048, 256]
    assert [type(m).__name__ for m in parts["predictor"]] == [*block, "Linear"]
    assert [m.out_features for m in parts["predictor"] if isinstance(m, nn.Linear)] == [4096, 256]
    assert NNCLR().views((3, 32, 32)) == VIEWS["asymmetric"]()


def test_one_view_and_impossible_settings_are_refused():
    method, encoder, parts = make()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, parts, views_of([1]), 0.0)
    with pytest.raises(InputError, match="temperature"):
        NNCLR(temperature=0.0)


def test_agrees_with_lightly_on_the_neighbours():
    peer = pytest.importorskip("lightly.models.modules").NNMemoryBankModule(size=(64, 8))
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(nearest(z, peer.bank), peer(z, update=False))
