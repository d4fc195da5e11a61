"""SwAV: Sinkhorn and the swapped prediction against float64 loops, known values, what freezes, fills and moves when."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.methods.assignment import prototypes_used, sinkhorn, swapped_prediction
from swell.methods.registry import Views
from swell.methods.swav import SwAV, codes
from swell.testing import check_method
from swell.views.plan import VIEWS


class Features(torch.nn.Linear):
    """A linear encoder of vectors."""

    features = 16

    def __init__(self):
        super().__init__(8, 16)


def uniform(*shape, seed=0, low=-1.0, high=1.0):
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


def views_of(seed=0, batch=12, roles=("global",), counts=(2,)):
    g = torch.Generator().manual_seed(seed)
    return Views(tuple(torch.randn(n * batch, 8, generator=g) for n in counts), roles, batch)


def small(**changes):
    return SwAV(**{"prototypes": 10, "queue": 48, "hidden": 32, "outputs": 8, **changes})


def assembled(method, seed=0):
    torch.manual_seed(seed)
    encoder = Features()
    return encoder, method.parts(encoder)


# Sinkhorn


def sinkhorn_by_loops(scores, epsilon, iterations):
    """Exponentials, then shares: columns to 1/K, rows to 1/N, each by its sum; float64 and not in logarithms."""
    q = np.exp(scores.double().numpy() / epsilon)
    n, k = q.shape
    q /= q.sum()
    for _ in range(iterations):
        for j in range(k):
            q[:, j] /= q[:, j].sum() * k
        for i in range(n):
            q[i] /= q[i].sum() * n
    return q * n


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    k=st.integers(2, 9),
    epsilon=st.floats(0.03, 1.0),
    iterations=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_sinkhorn_equals_plain_iterations(n, k, epsilon, iterations, seed):
    scores = uniform(n, k, seed=seed)
    expected = sinkhorn_by_loops(scores, epsilon, iterations)
    np.testing.assert_allclose(sinkhorn(scores, epsilon, iterations).numpy(), expected, rtol=2e-4, atol=1e-7)


def test_sinkhorn_worked_by_hand():
    # exp(s / epsilon) = [[2, 1], [1, 1]]: columns [[2/3, 1/2], [1/3, 1/2]], then rows [[4/7, 3/7], [2/5, 3/5]].
    scores = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).log() * 0.05
    torch.testing.assert_close(sinkhorn(scores, 0.05, 1), torch.tensor([[4 / 7, 3 / 7], [2 / 5, 3 / 5]]))


@pytest.mark.parametrize(("n", "k"), [(256, 30), (256, 300), (64, 3000)])
def test_sinkhorn_shares_samples_equally_and_assigns_each_once(n, k):
    q = sinkhorn(uniform(n, k), 0.05, 3)
    torch.testing.assert_close(q.sum(1), torch.ones(n))
    shares = sinkhorn(0.3 * uniform(n, k), 0.05, 50).sum(0)
    torch.testing.assert_close(shares, torch.full((k,), n / k), rtol=0.02, atol=0)


@pytest.mark.parametrize(("epsilon", "scale"), [(0.03, 1.0), (0.05, 1e4), (0.001, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinkhorn_is_finite_where_exponentials_overflow(epsilon, scale, dtype):
    scores = (scale * uniform(64, 20)).to(dtype)
    scores[0] = scale  # as large as can be
    q = sinkhorn(scores, epsilon, 3)
    assert q.dtype == torch.float32
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(1), torch.ones(64), rtol=1e-4, atol=0)


def test_equal_scores_are_assigned_evenly():
    torch.testing.assert_close(sinkhorn(torch.full((9, 4), 0.7), 0.05, 3), torch.full((9, 4), 0.25))


def test_the_queue_joins_the_assignment_but_is_not_returned():
    scores, queued = uniform(2, 6, 5), uniform(20, 5, seed=1)
    q = codes(scores, queued, 0.05, 3)
    for view in range(2):
        whole = sinkhorn_by_loops(torch.cat([scores[view], queued]), 0.05, 3)
        np.testing.assert_allclose(q[view].numpy(), whole[:6], rtol=1e-4, atol=1e-7)


# Swapped prediction


def loss_by_loops(scores, q, targets, tau):
    s, q = scores.double().numpy() / tau, q.double().numpy()
    views, batch, k = s.shape
    total, pairs = 0.0, 0
    for t, at in enumerate(targets):
        for v in range(views):
            if v == at:
                continue
            pairs += 1
            for b in range(batch):
                log_sum = math.log(sum(math.exp(x) for x in s[v, b]))
                total -= sum(q[t, b, j] * (s[v, b, j] - log_sum) for j in range(k)) / batch
    return total / pairs


@settings(max_examples=30, deadline=None)
@given(
    views=st.integers(2, 5),
    batch=st.integers(1, 5),
    k=st.integers(2, 6),
    tau=st.floats(0.05, 3.0),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_loss_equals_the_formula(views, batch, k, tau, seed, data):
    targets = sorted(data.draw(st.sets(st.integers(0, views - 1), min_size=1)))
    scores = uniform(views, batch, k, seed=seed)
    q = uniform(len(targets), batch, k, seed=seed + 1).mul(3).softmax(-1)
    expected = loss_by_loops(scores, q, targets, tau)
    assert swapped_prediction(scores, q, targets, tau).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_two_views_are_the_papers_symmetric_loss():
    scores, q = uniform(2, 4, 3), uniform(2, 4, 3, seed=1).softmax(-1)
    ce = torch.nn.functional.cross_entropy
    papers = (ce(scores[1] / 0.1, q[0]) + ce(scores[0] / 0.1, q[1])) / 2
    torch.testing.assert_close(swapped_prediction(scores, q, [0, 1], 0.1), papers)


def test_a_loss_worked_by_hand():
    # One sample, two views; scores (1, 0) at tau 1: log p = -log(1 + 1/e) and that less 1. Assigned to the first alone.
    scores = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    q = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert swapped_prediction(scores, q, [0, 1], 1.0).item() == pytest.approx(math.log(1 + 1 / math.e), rel=1e-6)


@pytest.mark.parametrize("k", [10, 3000])
def test_the_trivial_loss_is_ln_k(k):
    scores = torch.full((4, 8, k), 0.3)
    q = codes(scores[:2], scores[0, :0], 0.05, 3)
    assert swapped_prediction(scores, q, [0, 1], 0.1).item() == pytest.approx(math.log(k), rel=1e-5)


def test_no_gradient_to_a_view_from_its_own_assignment():
    scores = uniform(3, 4, 5).requires_grad_()
    q = uniform(1, 4, 5).softmax(-1)
    swapped_prediction(scores, q, [1], 0.1).backward()
    assert not scores.grad[1].any()
    assert scores.grad[0].any()
    assert scores.grad[2].any()


def test_prototypes_used_counts_them():
    assert prototypes_used(torch.eye(6).unsqueeze(0)).item() == pytest.approx(6)
    assert prototypes_used(torch.eye(6)[:1].repeat(4, 1)).item() == pytest.approx(1)


# The method


def test_keeps_its_promises_with_a_queue_in_use():
    check_method(lambda: small(prototypes=30, queue=40, queue_start=0.4))


def test_small_crops_only_predict():
    method = small()
    encoder, parts = assembled(method)
    views = views_of(roles=("global", "local"), counts=(2, 3))
    z = parts["projector"](views.encode(encoder))
    scores = parts["prototypes"](z).detach()
    q = torch.stack([torch.from_numpy(sinkhorn_by_loops(s, 0.05, 3)) for s in scores[:2]])
    expected = loss_by_loops(scores, q, [0, 1], 0.1)
    outcome = method.loss(encoder, parts, views, 0.5)
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-4)
    assert outcome.kept["z"].shape == (2 * 12, 8)


def test_prototypes_are_frozen_at_first_and_unit_after_each_step():
    method = small(freeze=0.1)
    encoder, parts = assembled(method)
    for progress, moves in ((0.0, False), (0.0999, False), (0.1, True), (1.0, True)):
        parts.zero_grad(set_to_none=True)
        outcome = method.loss(encoder, parts, views_of(), progress)
        outcome.loss.backward()
        assert (parts["prototypes"].weight.grad is not None) == moves
        with torch.no_grad():
            parts["prototypes"].weight.mul_(1.7)
        method.after_step(encoder, parts, outcome.kept, progress)
        torch.testing.assert_close(parts["prototypes"].weight.norm(dim=1), torch.ones(10))


def test_the_queue_fills_from_its_start_and_counts_once_full():
    method = small(queue_start=0.5, queue=48)  # two steps of two targets of 12
    plain = small(queue_start=1.0, queue=48)
    encoder, parts = assembled(method)
    step = method.loss(encoder, parts, views_of(1), 0.49)
    method.after_step(encoder, parts, step.kept, 0.49)
    assert len(parts["queue"].held) == 0
    for t in range(2):
        view = views_of(2 + t)
        step = method.loss(encoder, parts, view, 0.5)
        assert torch.equal(step.loss, plain.loss(encoder, parts, view, 0.5).loss)
        method.after_step(encoder, parts, step.kept, 0.5)
    assert parts["queue"].full
    torch.testing.assert_close(parts["queue"].rows.norm(dim=1), torch.ones(48))
    view = views_of(9)
    with_queue = method.loss(encoder, parts, view, 0.5).loss
    assert not torch.isclose(with_queue, plain.loss(encoder, parts, view, 0.5).loss)
    scores = parts["prototypes"](parts["projector"](view.encode(encoder))).detach()
    q = codes(scores, parts["prototypes"](parts["queue"].rows).detach(), 0.05, 3)
    assert with_queue.item() == pytest.approx(loss_by_loops(scores, q, [0, 1], 0.1), rel=1e-4)


def test_the_order_of_views_does_not_matter_to_a_full_queue():
    method = small(queue=24, queue_start=0.0)
    encoder, parts = assembled(method)
    method.after_step(encoder, parts, method.loss(encoder, parts, views_of(1), 0.5).kept, 0.5)
    view = views_of(2)
    swapped = Views((view.groups[0].unflatten(0, (2, 12)).flip(0).flatten(0, 1),), view.roles, 12)
    torch.testing.assert_close(
        method.loss(encoder, parts, view, 0.5).loss, method.loss(encoder, parts, swapped, 0.5).loss
    )


def test_published_settings():
    parts = SwAV().parts(Features())
    shapes = {name: tuple(p.shape) for name, p in parts.named_parameters() if p.ndim > 1}
    assert shapes == {
        "projector.0.weight": (2048, 16),
        "projector.3.weight": (128, 2048),
        "prototypes.weight": (3000, 128),
    }
    assert parts["queue"].rows.shape == (3840, 128)
    for preset in SwAV.presets.values():
        SwAV(**preset.options)


def test_multi_crop_by_the_size_of_the_images():
    assert SwAV().views((3, 64, 64)) == VIEWS["swav"](64)
    assert SwAV().views((3, 96, 65)) == VIEWS["swav_imagenet"](96)
    assert [g.count for g in SwAV().views((3, 32, 32)).groups] == [2, 6]


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"epsilon": -1.0}, {"iterations": 0}, {"freeze": 1.1}, {"queue_start": -0.1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        SwAV(**wrong)


def test_a_single_view_is_refused():
    method = small()
    encoder, parts = assembled(method)
    with pytest.raises(InputError, match="at least 2 views for swav"):
        method.loss(encoder, parts, views_of(counts=(1,)), 0.0)


def test_equals_lightly():
    lightly = pytest.importorskip("lightly.loss")
    high, low = uniform(2, 16, 12), uniform(3, 16, 12, seed=1)
    scores = torch.cat([high, low])
    theirs = lightly.SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)(list(high), list(low))
    ours = swapped_prediction(scores, codes(high, high[0, :0], 0.05, 3), [0, 1], 0.1)
    torch.testing.assert_close(ours, theirs.squeeze())
    old = uniform(40, 12, seed=2)
    theirs = lightly.SwaVLoss()(list(high), list(low), [old, old])
    torch.testing.assert_close(swapped_prediction(scores, codes(high, old, 0.05, 3), [0, 1], 0.1), theirs.squeeze())
