"""The soft contrastive loss against float64 loops with its gradient, by hand, and by property."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.spatial.distance import pdist, squareform
from vectors import Features, views_of

from swell.errors import InputError
from swell.methods.diffaug import (
    OCTAVES,
    DiffAug,
    code_distances,
    log_complement,
    log_kernel,
    off_diagonal_share,
    soft_contrastive,
    softening,
)

NU = st.sampled_from([0.01, 0.1, 1.0, 10.0, 100.0])


def kernel(d2, nu):
    """k as written, in plain Python floats, the gamma functions not as logarithms."""
    g = math.gamma((nu + 1) / 2) / (math.sqrt(nu * math.pi) * math.gamma(nu / 2))
    return 2 * math.pi * g**2 * (1 + d2 / nu) ** -(nu + 1)


def distance(x, y):
    return sum((s - t) ** 2 for s, t in zip(x, y, strict=True))


def by_loops(h, a, b, nu, nu_code, factor=1.0):
    """The loss of one ordered pair of views, in float64 and plain Python; lists of rows."""
    n = len(h)
    total = 0.0
    for i in range(n):
        for j in range(n):
            p, q = kernel(factor * distance(h[i], h[j]), nu_code), kernel(distance(a[i], b[j]), nu)
            total -= p * math.log(q) + (1 - p) * math.log1p(-q)
    return total / n**2


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_kernel_at_the_values_the_authors_settings_give():
    for d2, nu, value in [(0, 100, 0.9945), (1, 100, 0.364), (10, 100, 6.6e-5), (0, 0.01, 0.0155), (1, 0.01, 1.46e-4)]:
        k = log_kernel(torch.tensor(float(d2), dtype=torch.float64), nu).exp().item()
        assert k == pytest.approx(value, rel=0.006)
        assert k == pytest.approx(kernel(d2, nu), rel=1e-9)


@given(d2=st.floats(0, 1e6), nu=st.floats(1e-3, 300))
def test_the_kernel_is_a_share_and_falls(d2, nu):
    near, far = (log_kernel(torch.tensor(x, dtype=torch.float64), nu).item() for x in (d2, d2 + 1.0))
    assert far < near < 0.0


def test_the_kernel_at_zero_stays_under_one_in_single_precision():
    for nu in (1e-3, 1.0, 1e4):
        log_q = log_kernel(torch.zeros(1), nu)
        assert log_q.item() < 0
        assert log_complement(log_q).isfinite().all()


def test_the_complement_is_precise_at_both_ends():
    log_q = torch.tensor([-1e-4, -0.5, -0.6931, -0.6932, -3.0, -30.0], dtype=torch.float32)
    exact = torch.log1p(-torch.exp(log_q.double()))
    assert torch.allclose(log_complement(log_q).double(), exact, rtol=1e-6, atol=0)


def targets(h, nu, factor=1.0):
    """P of one view, as `DiffAug.loss` makes it."""
    return log_kernel(factor * code_distances(h[None])[0], nu).exp()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 6), d=st.integers(1, 4), nu=NU, nu_code=NU, factor=st.floats(0.1, 5), seed=st.integers(0, 99))
def test_equals_the_formula(n, d, nu, nu_code, factor, seed):
    h, a, b = drawn(n, 3, seed=seed), drawn(n, d, seed=seed + 100), drawn(n, d, seed=seed + 200)
    ours = soft_contrastive(targets(h, nu_code, factor), a, b, nu).item()
    assert ours == pytest.approx(by_loops(h.tolist(), a.tolist(), b.tolist(), nu, nu_code, factor), rel=1e-8)
    single = soft_contrastive(targets(h.float(), nu_code, factor), a.float(), b.float(), nu).item()
    assert single == pytest.approx(ours, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_gradient_equals_finite_differences_also_through_the_targets(factor):
    n, eps = 4, 1e-6
    h, a, b = (drawn(n, 2, seed=s).requires_grad_() for s in (1, 2, 3))
    soft_contrastive(targets(h, 10.0, factor), a, b, 0.5).backward()
    for which in range(3):
        for index in [(0, 0), (3, 1)]:
            points = [[t.detach().tolist() for t in (h, a, b)] for _ in range(2)]
            points[0][which][index[0]][index[1]] += eps
            points[1][which][index[0]][index[1]] -= eps
            up, down = (by_loops(*point, 0.5, 10.0, factor) for point in points)
            assert (h, a, b)[which].grad[index].item() == pytest.approx((up - down) / (2 * eps), rel=1e-4, abs=1e-8)


def test_two_samples_worked_by_hand():
    # nu 1 is Cauchy: g = 1 / pi, so k(d2) = 2 / pi (1 + d2)^-2: 0.6366 at 0, and 0.6366 / 4 at distance 1.
    at_0, at_1 = 2 / math.pi, 2 / math.pi / 4
    p = targets(torch.tensor([[0.0], [1.0]]), 1.0)
    assert torch.allclose(p, torch.tensor([[at_0, at_1], [at_1, at_0]]))
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # the head's outputs lie as the encodings do, so Q = P: entropies
    entropy = [-(q * math.log(q) + (1 - q) * math.log(1 - q)) for q in (at_0, at_1)]
    assert soft_contrastive(p, z, z, 1.0).item() == pytest.approx(sum(entropy) / 2, rel=1e-6)
    assert off_diagonal_share(p[None]).item() == pytest.approx(0.2)  # 1 / 4 against 1


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(6, 30),
    f=st.integers(2, 20),
    nu=st.sampled_from([1.0, 100.0]),
    soft=st.floats(0.05, 0.6),
    seed=st.integers(0, 99),
)
def test_the_scale_gives_the_share_that_was_asked_for(n, f, nu, soft, seed):
    """Against a root found by scipy, from distances found by scipy."""
    h = drawn(2, n, f, seed=seed) * torch.tensor([1.0, 1e3])[:, None, None] + 5
    factors = softening(code_distances(h), nu, soft)
    for one, factor in zip(h, factors.flatten().tolist(), strict=True):
        d2 = squareform(pdist(one.numpy(), "sqeuclidean"))

        def excess(octave, d2=d2):
            p = (1 + 2.0**octave * d2 / nu) ** -(nu + 1)
            return 1 - n / p.sum() - soft

        usual = d2.sum() / (n * (n - 1))
        low, high = (octave - math.log2(usual) for octave in OCTAVES)
        if excess(low) > 0 > excess(high):
            assert math.log2(factor) == pytest.approx(brentq(excess, low, high), abs=16 / 2**12)


def test_the_scale_forgets_size_place_and_turn_of_the_encodings():
    h = drawn(1, 8, 3)
    turn = torch.linalg.qr(drawn(3, 3, seed=5)).Q
    moved = 7 * h @ turn + 1000.0
    a, b = code_distances(h), code_distances(moved)
    assert torch.allclose(a * softening(a, 100.0, 0.2), b * softening(b, 100.0, 0.2), rtol=1e-6)


def test_encodings_that_are_all_the_same_are_finite():
    d2 = code_distances(torch.ones(1, 4, 3))
    p = log_kernel(d2 * softening(d2, 100.0, 0.2), 100.0).exp()
    assert torch.allclose(p, torch.full((1, 4, 4), kernel(0, 100.0)), rtol=1e-5)


def test_the_loss_is_least_where_q_equals_p():
    h = drawn(6, 2)
    p = targets(h, 2.0)
    least = soft_contrastive(p, h, h, 2.0).item()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
    assert least == pytest.approx(entropy, rel=1e-9)
    assert all(soft_contrastive(p, h + 0.1 * drawn(6, 2, seed=s), h, 2.0).item() > least for s in range(5))


def test_more_views_are_the_mean_over_ordered_pairs():
    method = DiffAug(hidden=8, outputs=3, nu=0.7, nu_code=5.0, soft=0.3, head_scale=8.0)
    torch.manual_seed(0)
    encoder = Features().double()
    parts = method.parts(encoder).double()
    views = views_of((2, 1), 5)
    views = type(views)(tuple(g.double() for g in views.groups), views.roles, views.batch)
    outcome = method.loss(encoder, parts, views, 0.0)
    h = views.encode(encoder).detach()
    z = parts["projector"](h).detach()
    assert sum(map(sum, [[distance(x, y) for x in z.flatten(0, 1).tolist()] for y in z.flatten(0, 1).tolist()])) / (
        15 * 15
    ) == pytest.approx(2 * 3, rel=0.01)  # what the head makes of them, before they are scaled
    z = z * math.sqrt(8.0 / 6)
    pairs = [(u, v) for u in range(3) for v in range(3) if u != v]
    factor = softening(code_distances(h), 5.0, 0.3).flatten().tolist()
    each = [by_loops(h[u].tolist(), z[u].tolist(), z[v].tolist(), 0.7, 5.0, factor[u]) for u, v in pairs]
    assert outcome.loss.item() == pytest.approx(np.mean(each), rel=1e-6)


def test_detached_targets_give_the_encoder_another_gradient_but_the_same_loss():
    found = []
    for detach in (True, False):
        method = DiffAug(hidden=8, outputs=3, detach=detach)
        torch.manual_seed(0)
        encoder = Features()
        parts = method.parts(encoder)
        outcome = method.loss(encoder, parts, views_of((2,), 8), 0.0)
        outcome.loss.backward()
        found.append((outcome.loss.item(), encoder.weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert not torch.allclose(found[0][1], found[1][1])


def test_the_scalars_say_when_the_soft_part_cannot_act():
    views = views_of((2,), 12)
    torch.manual_seed(0)
    encoder = Features()

    def scalars(**settings):
        method = DiffAug(hidden=8, **settings)
        return {k: v.item() for k, v in method.loss(encoder, method.parts(encoder), views, 0.0).scalars.items()}

    assert scalars()["soft"] == pytest.approx(0.15, abs=0.005)
    assert scalars(soft=0.0)["soft"] < 1e-3
    assert scalars(scaled=False, nu_code=1.0)["soft"] > 0.1
    wide = drawn(1, 64, 50)  # 50 features of unit variance lie 100 apart, where a kernel of 100 degrees sees nothing
    assert off_diagonal_share(log_kernel(code_distances(wide), 100.0).exp()).item() < 1e-6
    assert scalars(nu=0.01)["attainable"] == pytest.approx(0.0155 / 0.9945, rel=0.01)
    assert scalars(nu=100.0)["attainable"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "settings", [{"nu": 0.0}, {"nu": math.nan}, {"nu_code": 1e9}, {"head_scale": -1.0}, {"soft": 1.5}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        DiffAug(**settings)


def test_a_single_view_is_refused():
    method = DiffAug(hidden=8)
    encoder = Features()
    with pytest.raises(InputError, match="at least 2 views"):
        method.loss(encoder, method.parts(encoder), views_of((1,), 4), 0.0)
