"""The two-Gaussian toy against hand-worked cases, dense algebra and sampling."""

import math

import numpy as np
import pytest

from swell.adaptive.toy import (
    MEAN,
    VARIANCE,
    Views,
    bound,
    connectivity,
    flip_probability,
    labelling_error,
    population_connectivity,
    probe_error,
    samples,
)
from swell.errors import InputError


def lens(distance: float, r: float) -> float:
    """The share of a disc of radius r that a second one at that distance covers."""
    if distance >= 2 * r:
        return 0.0
    half = distance / 2
    return 2 * (math.acos(half / r) - half / r * math.sqrt(1 - (half / r) ** 2)) / math.pi


@pytest.mark.parametrize("distance", [0.0, 0.3, 1.0, 1.7, 2.5])
def test_two_samples_are_as_connected_as_their_discs_overlap(distance):
    """M = [[1 - L/2, L/2], [L/2, 1 - L/2]] with L the overlap, so lambda_2 = L."""
    points = np.array([[0.1, 0.2], [0.1 + distance, 0.2]])
    assert connectivity(points, 1.0, 1, fineness=80) == pytest.approx(lens(distance, 1.0), abs=0.01)


def test_rows_of_the_gram_matrix_sum_to_one_and_it_is_the_adjacency_turned_round():
    views = Views.of(samples(12, 0), 0.6, 5)
    gram, a = views.gram().toarray(), views.a.toarray()
    assert gram.sum(1) == pytest.approx(np.ones(12))
    between = np.zeros((a.shape[1],) * 2)  # normalised adjacency of the views, sample by sample
    for row in a:
        between += np.outer(row, row) / 12
    degree = between.sum(1)
    assert degree == pytest.approx(views.p)
    between /= np.sqrt(np.outer(degree, degree))
    mine, theirs = np.linalg.eigvalsh(gram)[::-1], np.linalg.eigvalsh(between)[::-1][:12]
    assert mine == pytest.approx(theirs, abs=1e-10)


def test_connectivity_is_the_eigenvalue_and_zero_where_the_graph_falls_apart():
    points = samples(40, 1)
    gamma = np.linalg.eigvalsh(Views.of(points, 1.0).gram().toarray())[::-1]
    for k in (1, 2, 4):
        assert connectivity(points, 1.0, k) == pytest.approx(1 - gamma[k], abs=1e-9)
    apart = np.array([[0.0, 0.0], [5.0, 0.0], [9.0, 9.0], [9.1, 9.0]])
    assert connectivity(apart, 1.0, 2) == 0
    assert connectivity(apart, 1.0, 3) > 0


def test_labelling_error_is_the_share_of_views_across_the_line():
    rng = np.random.default_rng(0)
    x = samples(400_000, 3)
    angle, radius = rng.uniform(0, 2 * np.pi, len(x)), np.sqrt(rng.uniform(size=len(x)))
    for r in (0.3, 1.0, 2.0):
        moved = x[:, 0] + r * radius * np.cos(angle)
        assert labelling_error(r) == pytest.approx((np.sign(moved) != np.sign(x[:, 0])).mean(), abs=2e-3)
        assert labelling_error(r, 40) == pytest.approx(labelling_error(r, 400), abs=1e-9)


def test_labelling_error_grows_like_the_radius_where_that_is_small():
    """alpha -> 2 p(0) r E[max(-u_1, 0)] = 4 p(0) r / (3 pi)."""
    p0 = math.exp(-(MEAN**2) / (2 * VARIANCE)) / math.sqrt(2 * math.pi * VARIANCE)
    assert labelling_error(1e-3) == pytest.approx(4 * p0 * 1e-3 / (3 * math.pi), rel=1e-3)
    assert flip_probability(np.array([0.0, 0.5, 1.0, 3.0]), 1.0) == pytest.approx(
        [0.5, 0.5 - (0.5 * math.sqrt(0.75) + math.asin(0.5)) / math.pi, 0, 0]
    )


def test_the_population_is_the_limit_of_many_samples():
    """lambda_2 at a strength where even few samples are connected."""
    limit = population_connectivity(1.4, 1)
    assert population_connectivity(1.4, 1, 0.05) == pytest.approx(limit, rel=0.02)
    found = [np.mean([connectivity(samples(n, seed), 1.4, 1) for seed in range(4)]) for n in (60, 400)]
    assert abs(found[1] - limit) < 0.03
    assert abs(found[1] - limit) < abs(found[0] - limit)


def test_the_population_against_dense_algebra():
    """The same operator on the same grid, written out as a matrix."""
    r, h = 1.0, 0.5
    sd = math.sqrt(VARIANCE)
    x, y = (np.arange(-math.ceil(e / h), math.ceil(e / h) + 1) * h for e in (MEAN + 4 * sd + r, 4 * sd + r))
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    mass = np.array([sum(math.exp(-((a - m) ** 2 + b * b) / (2 * VARIANCE)) for m in (-1, 1)) for a, b in grid])
    mass[(np.abs(grid[:, 0]) > MEAN + 4 * sd) | (np.abs(grid[:, 1]) > 4 * sd)] = 0
    mass /= mass.sum()
    near = (np.linalg.norm(grid[:, None] - grid[None], axis=-1) <= r * (1 + 1e-9)).astype(float)
    near /= near.sum(1).max()  # the discs of samples with mass lie wholly on the grid
    p = near @ mass
    b = near * np.sqrt(mass)[None] / np.sqrt(np.where(p > 0, p, np.inf))[:, None]
    gamma = np.linalg.svd(b, compute_uv=False) ** 2
    for k in (1, 3):
        assert population_connectivity(r, k, h) == pytest.approx(1 - gamma[k], abs=1e-4)


def test_the_papers_four_curves():
    """At radii of little overlap. The bound's best strength falls with the number of samples."""
    radii = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    mean = {n: [np.mean([connectivity(samples(n, s), r, 4) for s in range(4)]) for r in radii] for n in (24, 192)}
    assert mean[192][0] > mean[24][0]
    assert mean[192][1] > mean[24][1]
    assert mean[192] == sorted(mean[192])
    alpha = [labelling_error(r) for r in radii]
    assert alpha == sorted(alpha)
    best = {n: int(np.argmin([bound(a, c) for a, c in zip(alpha, mean[n], strict=True)])) for n in mean}
    assert best[192] < best[24]


def test_the_probe_reads_well_separated_clusters_without_error():
    """Without an eigenfunction that tells the sides apart nothing can be read: k = 1 is the constant."""
    x = samples(200, 0)
    assert probe_error(x, 1.4, 4) < 0.05
    # the constant has the sign of the mean label: one side is wrong
    assert probe_error(x, 1.4, 1) == pytest.approx(0.5, abs=0.02)


def test_longer_draws_begin_with_the_shorter():
    assert (samples(50, 7)[:20] == samples(20, 7)).all()
    assert samples(4000, 0).mean(0) == pytest.approx([0, 0], abs=0.1)


def test_bad_input():
    with pytest.raises(InputError, match="radius"):
        labelling_error(0.0)
    with pytest.raises(InputError, match="6 eigenvalues"):
        connectivity(samples(5, 0), 1.0, 5)
    assert bound(0.1, 0.0) == math.inf
    assert bound(0.1, 0.5) == pytest.approx(1.6)
