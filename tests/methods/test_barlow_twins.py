"""Barlow Twins' loss against float64 loops over C, by hand, and against lightly."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.methods.barlow_twins import BarlowTwins, barlow_twins_loss


class Features(torch.nn.Identity):
    features = 512


def standardised(z):
    return (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)


def by_loops(z, lambd):
    """Equation 1 with the matrix C written out, averaged over the pairs of views, in float64."""
    v, b, d = z.shape
    total, pairs = 0.0, 0
    for first in range(v):
        for second in range(first):
            c = standardised(z[first]).T @ standardised(z[second]) / b
            total += sum((1 - c[i, i]) ** 2 for i in range(d))
            total += lambd * sum(c[i, j] ** 2 for i in range(d) for j in range(d) if j != i)
            pairs += 1
    return total / pairs


@settings(max_examples=25, deadline=None)
@given(
    v=st.integers(2, 5),
    b=st.integers(2, 9),
    d=st.integers(1, 9),
    lambd=st.floats(0.001, 1.0),
    seed=st.integers(0, 99),
)
def test_equals_the_formula(v, b, d, lambd, seed):
    g = torch.Generator().manual_seed(seed)
    z = 2 + torch.randn(1, b, d, generator=g, dtype=torch.float64)
    z = z + 0.5 * torch.randn(v, b, d, generator=g, dtype=torch.float64)
    assert barlow_twins_loss(z, lambd).item() == pytest.approx(by_loops(z.numpy(), lambd), rel=1e-9, abs=1e-12)


def test_a_case_worked_by_hand():
    # One view: two features that are the same, x = +1, +1, -1, -1. The other: x, and y = +1, -1, +1, -1, unrelated.
    x, y = torch.tensor([1.0, 1, -1, -1]).double(), torch.tensor([1.0, -1, 1, -1]).double()
    z = torch.stack([torch.stack([x, x], 1), torch.stack([x, y], 1)])
    # C = [[1, 0], [1, 0]]: on the diagonal 0 + 1, off it 0 + 1. The eps of the norm shifts that in the fifth digit.
    assert barlow_twins_loss(z, 0.25).item() == pytest.approx(1.25, abs=1e-4)


def test_gradient_equals_finite_differences():
    z = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: barlow_twins_loss(x, 0.1), (z,), atol=1e-6)


def test_collapse_costs_one_a_feature_and_decorrelated_features_that_agree_cost_nothing():
    d = 16
    assert barlow_twins_loss(torch.ones(2, 64, d), 0.005).item() == pytest.approx(d, rel=1e-6)
    hadamard = torch.tensor([[1.0]])
    while len(hadamard) < 2 * d:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    ideal = hadamard[:, 1 : d + 1].expand(2, -1, -1)  # columns of mean 0, orthogonal
    assert barlow_twins_loss(ideal, 0.005).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("b", "d"), [(64, 512), (512, 16)])
def test_single_precision_is_enough_also_where_sums_cancel(b, d):
    g = torch.Generator().manual_seed(2)
    z = torch.randn(1, b, d, generator=g) + 0.1 * torch.randn(2, b, d, generator=g)
    exact = barlow_twins_loss(z.double(), 0.005).item()
    assert barlow_twins_loss(z, 0.005).item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("views", [2, 3])
def test_equals_lightly(views):
    loss = pytest.importorskip("lightly.loss")
    z = torch.randn(views, 32, 24, generator=torch.Generator().manual_seed(3))
    pairs = [(a, b) for a in range(views) for b in range(a)]
    theirs = sum(loss.BarlowTwinsLoss(lambda_param=0.005)(z[a], z[b]).item() for a, b in pairs) / len(pairs)
    assert barlow_twins_loss(z, 0.005).item() == pytest.approx(theirs, rel=1e-5)


def test_the_published_projector_and_views():
    parts = BarlowTwins().parts(Features())
    assert [tuple(p.shape) for p in parts.parameters() if p.ndim == 2] == [(2048, 512), (2048, 2048), (2048, 2048)]
    assert sum(isinstance(layer, torch.nn.BatchNorm1d) for layer in parts["projector"]) == 2
    assert [group.solarise_p for group in BarlowTwins().views((3, 32, 32)).groups] == [0.0, 0.2]


@pytest.mark.parametrize("options", [{"lambd": 0.0}, {"scale": -1.0}, {"scale": math.nan}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        BarlowTwins(**options)
