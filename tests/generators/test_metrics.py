"""Metrics against brute force in float64, against published closed forms, and against the libraries people quote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from swell.generators.metrics import (
    Logistic,
    classifier_test,
    density_and_coverage,
    duplicates,
    effective_rank,
    frechet_distance,
    kernel_distance,
)


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def distances(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    x, y = a.double().numpy(), b.double().numpy()
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(2))


def test_frechet_distance_is_that_of_the_matrix_root() -> None:
    a, b = normal(9000, 5, 0), normal(150, 5, 1) @ normal(5, 5, 2) + 1  # more rows than one block
    x, y = a.double().numpy(), b.double().numpy()
    s_a, s_b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s_a + s_b - 2 * sqrtm(s_a @ s_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_and_kernel_distance_agree_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = normal(300, 6, 0).double(), normal(300, 6, 1, 1.2, 0.3).double()
    theirs = fid._compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert frechet_distance(a, b) == pytest.approx(float(theirs), rel=1e-6)
    assert kernel_distance(a, b).value == pytest.approx(float(kid.poly_mmd(a, b)), rel=1e-6)


def brute_kernel_distance(a: torch.Tensor, b: torch.Tensor, unbiased: bool) -> float:
    def kernel(p: torch.Tensor, q: torch.Tensor) -> np.ndarray:
        return (p.double().numpy() @ q.double().numpy().T / p.shape[1] + 1) ** 3

    m = len(a)
    xx, yy, xy = kernel(a, a), kernel(b, b), kernel(a, b)
    if not unbiased:
        return float(xx.mean() + yy.mean() - 2 * xy.mean())
    off = 1 - np.eye(m)
    return float((xx * off).sum() / (m * (m - 1)) + (yy * off).sum() / (m * (m - 1)) - 2 * xy.mean())


def test_kernel_distance_by_brute_force_across_blocks() -> None:
    a, b = normal(1500, 7, 0), normal(1500, 7, 1, 1.1)
    assert kernel_distance(a, b, size=1500).value == pytest.approx(brute_kernel_distance(a, b, True), rel=1e-5)


def test_kernel_distance_of_subsets_is_seeded_and_its_floor_is_what_bias_shows() -> None:
    a, b = normal(4000, 4, 0), normal(4000, 4, 1)
    first = kernel_distance(a, b, subsets=60, size=200, seed=3)
    assert first == kernel_distance(a, b, subsets=60, size=200, seed=3)
    assert first != kernel_distance(a, b, subsets=60, size=200, seed=4)
    biased = [brute_kernel_distance(a[i : i + 200], b[i : i + 200], False) for i in range(0, 4000, 200)]
    assert first.floor == pytest.approx(np.mean(biased), rel=0.25)
    assert abs(first.value) < first.floor / 2


def test_density_and_coverage_by_brute_force() -> None:
    real, made = normal(300, 5, 0), normal(250, 5, 1, 0.8)
    apart = distances(real, real)
    np.fill_diagonal(apart, np.inf)
    radius = np.sort(apart, 1)[:, 4]  # [300]
    within = distances(real, made) < radius[:, None]
    density, coverage = density_and_coverage(real, made)
    assert density == pytest.approx(within.sum() / (5 * 250))
    assert coverage == pytest.approx(within.any(1).mean())


def test_density_and_coverage_agree_with_prdc() -> None:
    prdc = pytest.importorskip("prdc")
    real, made = normal(400, 8, 0), normal(300, 8, 1, 0.9, 0.2)
    theirs = prdc.compute_prdc(real.numpy(), made.numpy(), nearest_k=5)
    assert density_and_coverage(real, made) == pytest.approx((theirs["density"], theirs["coverage"]))


def test_density_and_coverage_of_equal_distributions() -> None:
    n = 9000  # more than one block of real rows
    density, coverage = density_and_coverage(normal(n, 3, 0), normal(n, 3, 1))
    closed_form = 1 - np.prod([(n - 1 - i) / (2 * n - 1 - i) for i in range(5)])
    assert density == pytest.approx(1, abs=0.03)
    assert coverage == pytest.approx(closed_form, abs=0.01)


def test_effective_rank_counts_directions() -> None:
    axes = torch.linalg.qr(normal(20, 20, 0))[0]
    assert effective_rank(normal(20_000, 4, 1) @ axes[:4] + 5) == pytest.approx(4, abs=0.02)
    rows = normal(100, 6, 2)
    s = np.linalg.svd((rows - rows.mean(0)).double().numpy(), compute_uv=False)
    p = s / s.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert effective_rank(torch.ones(10, 3)) == 0


def test_duplicates_are_those_beyond_what_real_samples_have() -> None:
    real, unseen, made = (normal(500, 10, seed) for seed in range(3))
    inside, inside_real = duplicates(made, real, unseen)
    assert max(inside, inside_real) < 0.04
    twins = torch.cat([made[:400], made[:100] + 1e-3])
    assert duplicates(twins, real, unseen)[0] == pytest.approx(0.4, abs=0.03)


def test_logistic_agrees_with_sklearn() -> None:
    rows = torch.cat([normal(200, 4, 0), normal(250, 4, 1, 1, 0.7)])
    rows[:, 2] = 3.0  # a constant feature has no say
    which = torch.arange(450) < 200
    ours = Logistic.fit(rows, which).log_odds(rows)
    x = StandardScaler().fit_transform(rows.double().numpy())
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(x, which.numpy()).decision_function(x)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)
    apart = Logistic.fit(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
    assert (apart.log_odds(torch.tensor([[0.0], [11.0]])) > 0).tolist() == [False, True]


def test_classifier_test_agrees_with_sklearn() -> None:
    real, made = normal(400, 5, 0), normal(400, 5, 1, 1.0, 0.5)
    ours = classifier_test(real, made)
    rows, which = torch.cat([real, made]).numpy(), np.repeat([1, 0], 400)
    for accuracy, classifier in (
        (ours.logistic, LogisticRegression(C=0.1)),
        (ours.neighbours, KNeighborsClassifier(5)),
    ):
        order = np.random.default_rng(0).permutation(800)
        theirs = cross_val_score(make_pipeline(StandardScaler(), classifier), rows[order], which[order], cv=5).mean()
        assert accuracy == pytest.approx(theirs, abs=0.03)
    assert ours.accuracy == max(ours.logistic, ours.neighbours)


def test_classifier_test_on_equal_and_separate_sets() -> None:
    assert classifier_test(normal(1000, 4, 0), normal(1000, 4, 1)).accuracy == pytest.approx(0.5, abs=0.05)
    assert classifier_test(normal(200, 2, 0), normal(200, 2, 1) + 8).accuracy == 1
    ring = normal(1000, 2, 2)
    ring = 3 * ring / ring.norm(dim=1, keepdim=True)  # no line separates it from what it surrounds
    round_about = classifier_test(normal(1000, 2, 3, 0.5), ring)
    assert round_about.logistic < 0.6 < 0.95 < round_about.neighbours


def test_density_ratio_is_the_true_one() -> None:
    """N(0, 1) against N(1, 1): ln ratio of the densities is 1/2 - x."""
    made = normal(2000, 1, 1, 1.0, 1.0)
    test = classifier_test(normal(2000, 1, 0), made)
    truth = 0.5 - made[:, 0].double()
    assert (test.log_ratio - truth).abs().mean() < 0.1
    np.testing.assert_allclose(test.ratio, test.log_ratio.exp())
