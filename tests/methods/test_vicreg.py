"""VICReg's three terms against float64 loops, by hand, and against lightly."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swell.errors import InputError
from swell.methods.registry import Views
from swell.methods.vicreg import VICReg, covariance, invariance, variance


class Features(nn.Identity):
    features = 512


def by_loops(z):
    """s, v + v', c + c' of equation 6, averaged over the pairs of views, in float64."""
    views, b, d = z.shape
    pairs = [(p, q) for p in range(views) for q in range(p)]
    s = sum(((z[p] - z[q]) ** 2).sum() / (b * d) for p, q in pairs) / len(pairs)
    v, c = [], []
    for view in z:
        v.append(sum(max(0.0, 1 - math.sqrt(view[:, j].var(ddof=1) + 1e-4)) for j in range(d)) / d)
        matrix = np.cov(view.T).reshape(d, d)
        c.append(sum(matrix[i, j] ** 2 for i in range(d) for j in range(d) if j != i) / d)
    return s, sum(v[p] + v[q] for p, q in pairs) / len(pairs), sum(c[p] + c[q] for p, q in pairs) / len(pairs)


@settings(max_examples=25, deadline=None)
@given(
    v=st.integers(2, 5), b=st.integers(2, 9), d=st.integers(1, 9), scale=st.floats(0.1, 3.0), seed=st.integers(0, 99)
)
def test_each_term_and_the_loss_equal_the_formula(v, b, d, scale, seed):
    z = 1 + scale * torch.randn(v, b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ours = invariance(z).item(), 2 * variance(z).mean().item(), 2 * covariance(z).mean().item()
    expected = by_loops(z.numpy())
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12)
    parts = nn.ModuleDict({"projector": nn.Identity()})
    outcome = VICReg().loss(Features(), parts, Views((z.flatten(0, 1),), ("global",), b), 0.0)
    assert outcome.loss.item() == pytest.approx(25 * expected[0] + 25 * expected[1] + expected[2], rel=1e-9)
    assert outcome.scalars["variance"].item() == pytest.approx(expected[1] / 2, rel=1e-9)


def test_a_case_worked_by_hand():
    # Three samples, two features, -1, 0, 1 in both: variances and covariance 1. The second view is twice as large.
    x = torch.tensor([-1.0, 0, 1]).double()
    z = torch.stack([torch.stack([x, x], 1), 2 * torch.stack([x, x], 1)])
    assert invariance(z).item() == pytest.approx(2 / 3)  # squared differences 1, 0, 1
    assert variance(z).tolist() == [0, 0]  # standard deviations 1 and 2
    np.testing.assert_allclose(covariance(z), [1, 16])  # two entries of 1 or 4, squared, over D = 2
    np.testing.assert_allclose(variance(z / 4), [0.75 - 8e-4 / 4, 0.5 - 4e-4 / 4], atol=2e-5)


def test_gradient_equals_finite_differences():
    z = 0.5 * torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for term in (invariance, lambda x: variance(x).sum(), lambda x: covariance(x).sum()):
        assert torch.autograd.gradcheck(term, (z.clone().requires_grad_(),), atol=1e-6)


def test_collapse_costs_the_margin_and_features_that_vary_freely_cost_nothing():
    collapsed = torch.ones(2, 64, 16)
    assert (invariance(collapsed).item(), covariance(collapsed).sum().item()) == (0, 0)
    assert variance(collapsed).tolist() == pytest.approx([0.99, 0.99])  # 1 - sqrt(1e-4)
    free = 3 * torch.randn(1, 50_000, 16, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1)
    assert invariance(free).item() == 0
    assert variance(free).sum().item() == 0
    assert covariance(free).max().item() < 0.1


@pytest.mark.parametrize(("b", "d"), [(16, 128), (512, 16)])
def test_single_precision_is_enough_on_either_side_of_the_square(b, d):
    z = torch.randn(2, b, d, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(covariance(z), covariance(z.double()), rtol=1e-4)


def test_equals_lightly_but_for_the_halved_variance():
    loss = pytest.importorskip("lightly.loss")
    z = 0.7 * torch.randn(2, 32, 24, generator=torch.Generator().manual_seed(4))
    theirs = loss.VICRegLoss(lambda_param=25.0, mu_param=50.0, nu_param=1.0)(z[0], z[1]).item()
    ours = 25 * invariance(z) + 25 * 2 * variance(z).mean() + 2 * covariance(z).mean()
    assert ours.item() == pytest.approx(theirs, rel=1e-5)


def test_the_published_projector_and_views():
    parts = VICReg().parts(Features())
    assert [tuple(p.shape) for p in parts.parameters() if p.ndim == 2] == [(2048, 512), (2048, 2048), (2048, 2048)]
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in parts["projector"]) == 2
    assert [group.scale for group in VICReg().views((3, 32, 32)).groups] == [(0.2, 1.0)]


@pytest.mark.parametrize("name", ["similarity_weight", "variance_weight", "covariance_weight"])
def test_weights_must_be_positive(name):
    with pytest.raises(InputError):
        VICReg(**{name: 0.0})
