"""EMP-SSL's loss against float64 loops, its coding rate against both determinants and its bound, its memory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swell.errors import InputError
from swell.methods.emp_ssl import EMPSSL, coding_rate, mean_cosine, rate_bound
from swell.methods.registry import Views
from swell.nets.chunked import Chunked

SMALL = {"hidden": 32, "outputs": 16}


def unit(*shape, seed=0):
    z = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(z, dim=-1)


def views_of(x, count):
    return Views((x,), ("patch",), len(x) // count)


def primal(z, eps_sq):
    """1/2 log det(I_d + d / (b eps^2) Z^T Z) of one view as written, whatever b and d are."""
    b, d = z.shape
    return np.linalg.slogdet(np.eye(d) + d / (b * eps_sq) * z.T @ z)[1] / 2


@settings(max_examples=40, deadline=None)
@given(b=st.integers(1, 12), d=st.integers(1, 12), eps_sq=st.floats(0.01, 2.0), seed=st.integers(0, 99))
def test_the_rate_of_the_smaller_matrix_is_that_of_the_larger_and_below_its_bound(b, d, eps_sq, seed):
    z = unit(3, b, d, seed=seed)
    expected = [primal(view, eps_sq) for view in z.numpy()]
    np.testing.assert_allclose(coding_rate(z, eps_sq).numpy(), expected, rtol=1e-9, atol=1e-9)
    assert max(expected) <= rate_bound(b, d, eps_sq) + 1e-9


@pytest.mark.parametrize(("b", "d"), [(5, 5), (3, 8), (1, 4), (6, 2), (9, 3)])
def test_the_bound_is_reached_by_orthogonal_rows_and_by_tight_frames(b, d):
    if b <= d:
        z = torch.linalg.qr(unit(d, d))[0][:b]
    elif d == 2:  # b directions evenly around the circle
        angle = torch.arange(b, dtype=torch.float64) * math.pi / b
        z = torch.stack([angle.cos(), angle.sin()], 1)
    else:
        z = torch.cat([torch.linalg.qr(unit(d, d, seed=s))[0] for s in range(b // d)])
    assert coding_rate(z[None], 0.2).item() == pytest.approx(rate_bound(b, d, 0.2), rel=1e-12)
    closed = b / 2 * math.log(1 + d / (b * 0.2)) if b <= d else d / 2 * math.log(1 + 1 / 0.2)
    assert rate_bound(b, d, 0.2) == pytest.approx(closed, rel=1e-12)


def test_the_published_scales():
    assert rate_bound(100, 1024, 0.2) == pytest.approx(197.75, abs=0.01)
    assert rate_bound(256, 1024, 0.2) == pytest.approx(389.7, abs=0.05)
    collapsed = unit(1, 1, 1024).expand(1, 100, 1024)
    assert coding_rate(collapsed, 0.2).item() == pytest.approx(4.27, abs=0.01)
    assert EMPSSL().invariance * rate_bound(100, 1024, 0.2) == pytest.approx(200, rel=1e-4)


def test_a_case_worked_by_hand():
    # Two views of two samples in two dimensions; the first view is the axes, the second is collapsed onto the first.
    z = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    # Eigenvalues of Z^T Z: 1, 1 and 2, 0; d / b = 1. eps^2 = 0.5 makes the determinants 3 x 3 and 5 x 1.
    np.testing.assert_allclose(coding_rate(z, 0.5), [math.log(9) / 2, math.log(5) / 2], rtol=1e-12)
    # Sample 0: both views on the mean. Sample 1: orthogonal views, each at 45 degrees from their mean.
    assert mean_cosine(z).item() == pytest.approx((1 + math.sqrt(0.5)) / 2, rel=1e-12)


def by_loops(z, invariance, eps_sq):
    """The loss of projections [V, B, d] in float64, view by view and sample by sample."""
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    v, b, d = z.shape
    cosine = 0.0
    for s in range(b):
        mean = sum(z[i, s] for i in range(v)) / v
        cosine += sum(z[i, s] @ mean / np.linalg.norm(mean) for i in range(v)) / (v * b)
    rate = sum(primal(view, eps_sq) for view in z) / v
    return -invariance * cosine - rate / rate_bound(b, d, eps_sq)


class Identity(nn.Identity):
    features = 6


def loss_of(z, **options):
    """The whole method on projections [V, B, d]: encoder and projector change nothing."""
    method = EMPSSL(**options)
    parts = nn.ModuleDict({"projector": nn.Identity()})
    return method.loss(Identity(), parts, views_of(z.flatten(0, 1), len(z)), 0.0)


@settings(max_examples=20, deadline=None)
@given(v=st.integers(2, 6), b=st.integers(2, 8), seed=st.integers(0, 99), weight=st.floats(0.1, 5))
def test_the_loss_equals_the_formula(v, b, seed, weight):
    z = 3 * torch.randn(v, b, 6, generator=torch.Generator().manual_seed(seed))
    outcome = loss_of(z, invariance=weight, eps_sq=0.3)
    expected = by_loops(z.double().numpy(), weight, 0.3)
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert outcome.scalars["rate"].item() <= 1
    assert -1 <= outcome.scalars["invariance"].item() <= 1


def test_gradient_equals_finite_differences_also_through_the_mean():
    z = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss_of(z).loss.backward()
    step = 1e-5
    for index in [(0, 0, 0), (1, 2, 3), (2, 3, 5)]:
        up, down = z.detach().double().numpy().copy(), z.detach().double().numpy().copy()
        up[index] += step
        down[index] -= step
        slope = (by_loops(up, 1.0114, 0.2) - by_loops(down, 1.0114, 0.2)) / (2 * step)
        assert z.grad[index].item() == pytest.approx(slope, abs=1e-5)


def test_at_the_papers_batch_and_width_it_is_the_papers_loss():
    z = unit(2, 100, 1024).float()
    paper = -200 * mean_cosine(z) - coding_rate(z, 0.2).mean()
    assert loss_of(z).loss.item() * rate_bound(100, 1024, 0.2) == pytest.approx(paper.item(), rel=1e-4)


def test_collapse_costs_more_than_spread_at_any_batch_and_width():
    for b, d in ((4, 64), (64, 4), (32, 32)):
        one = unit(1, 1, d).expand(3, b, d).float()
        many = unit(1, b, d).expand(3, b, d).float()
        assert loss_of(one).loss > loss_of(many).loss + 0.1
        assert loss_of(many).scalars["invariance"].item() == pytest.approx(1, abs=1e-5)


class Deep(nn.Module):
    """Vectors of 16 numbers -> 12 features through wide layers, whose activations are what memory goes to."""

    features = 12

    def __init__(self):
        super().__init__()
        wide = [layer for _ in range(3) for layer in (nn.Linear(256, 256), nn.Tanh())]
        self.layers = nn.Sequential(nn.Linear(16, 256), nn.Tanh(), *wide, nn.Linear(256, 12))

    def forward(self, x):
        return self.layers(x)


def trained(count, rows=None, batch=8):
    """Loss and gradients of one batch of `count` patches, the bytes that wait for the backward pass."""
    torch.manual_seed(0)
    method, net = EMPSSL(**SMALL), Deep()
    parts = method.parts(net)
    x = torch.randn(count * batch, 16, generator=torch.Generator().manual_seed(count))
    stored = {}

    def keep(tensor):
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *parts.parameters())}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward = net if rows is None else Chunked(net, rows * batch)
        loss = method.loss(forward, parts, views_of(x, count), 0.0).loss
    waiting = sum(size for at, size in stored.items() if at not in weights)
    loss.backward()
    return loss.detach(), [p.grad for p in (*net.parameters(), *parts.parameters())], waiting


@pytest.mark.parametrize("count", [2, 3, 8, 20, 64])
def test_patches_encoded_in_pieces_give_the_same_loss_and_gradient(count):
    loss, grads, _ = trained(count)
    for rows in (1, 4):
        again, others, _ = trained(count, rows)
        assert again.item() == pytest.approx(loss.item(), rel=1e-6)
        for a, b in zip(grads, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_pieces_keep_a_fraction_of_the_encoders_activations():
    _, _, all_at_once = trained(64)
    _, _, in_pieces = trained(64, 4)
    _, _, one_piece = trained(4)  # what a piece stores anew while its gradient is made
    assert in_pieces + one_piece < 0.5 * all_at_once
    assert all_at_once > 12 * one_piece  # without pieces memory grows with the patches


def test_the_published_head_and_patches():
    parts = EMPSSL().parts(Identity())
    kinds = [type(layer).__name__ for layer in parts["projector"]]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    matrices = [tuple(p.shape) for p in parts.parameters() if p.ndim == 2]
    assert matrices == [(4096, 6), (4096, 4096), (1024, 4096)]
    (group,) = EMPSSL().views((3, 32, 32)).groups
    assert (group.count, group.scale, group.role) == (20, (0.25, 0.25), "patch")


@pytest.mark.parametrize(
    "options", [{"invariance": 0.0}, {"eps_sq": 0.0}, {"eps_sq": 1e-6}, {"eps_sq": math.inf}, {"eps_sq": math.nan}]
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        EMPSSL(**options)


def test_the_smallest_distortion_survives_collapse_in_float32():
    z = unit(1, 1, 1024).expand(2, 256, 1024).float()
    assert torch.isfinite(loss_of(z, eps_sq=1e-3).loss)
