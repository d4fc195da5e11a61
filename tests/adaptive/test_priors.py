"""The closed forms against brute force, and the published optima against what the priors say of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.adaptive.priors import (
    ADAINF,
    HOME,
    LEAST_GAIN,
    PUBLISHED,
    best_share,
    bound,
    crop_for,
    effective_size,
    strength_of_crop,
    strength_prior,
    weight_prior,
)
from swell.data.mixture import real_share
from swell.errors import InputError
from swell.views.presets import simclr

GRID = np.linspace(0, 1, 20_001)
PUBLISHED_GRID = (0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)  # areas the published sweep tried


def brute(divergence: float, n: int, m: int, c: float) -> tuple[float, float]:
    """The best beta of the grid and g there, refined once."""
    beta = GRID
    for _ in range(2):
        g = (1 - beta) * divergence + c * np.sqrt(beta**2 / n + (1 - beta) ** 2 / m)
        at, step = float(beta[g.argmin()]), float(beta[1] - beta[0])
        beta = np.linspace(max(at - step, 0), min(at + step, 1), 20_001)
    return at, float(g.min())


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 1), st.integers(20, 10**6), st.integers(20, 10**7), st.floats(0.5, 200)
)  # fmt: skip
def test_the_closed_form_minimises_the_bound(divergence, n, m, c):
    at, least = brute(divergence, n, m, c)
    mine = best_share(divergence, n, m, c)
    assert 0 <= mine <= 1
    assert bound(mine, divergence, n, m, c) <= least * (1 + 1e-9)
    assert bound(at, divergence, n, m, c) == pytest.approx(bound(mine, divergence, n, m, c), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 10**6), st.integers(20, 10**7), st.floats(0.5, 200))
def test_the_threshold_is_where_brute_force_gives_up_on_generated_samples(n, m, c):
    edge = c / math.sqrt(n)
    assert best_share(edge * 1.0001, n, m, c) == 1
    assert brute(edge * 1.01, n, m, c)[0] == pytest.approx(1, abs=1e-8)
    assert best_share(edge * 0.9, n, m, c) < 1
    assert brute(edge * 0.9, n, m, c)[0] < 1


def test_the_anchor_is_its_own_optimum_and_only_the_ratio_of_distances_counts():
    assert weight_prior(ADAINF.divergence, ADAINF.n, ADAINF.m).weight == pytest.approx(10)
    assert ADAINF.divergence / ADAINF.c * math.sqrt(ADAINF.n) == pytest.approx(0.822, abs=1e-3)
    other = type(ADAINF)(ADAINF.n, ADAINF.m, ADAINF.weight, 0.3)
    for ratio in (0.2, 0.7, 1.1):
        a, b = (weight_prior(ratio * x.divergence, 7000, 90_000, x) for x in (ADAINF, other))
        assert (a.weight, a.gain) == (pytest.approx(b.weight), pytest.approx(b.gain))


def test_what_no_divergence_and_what_too_much_of_it_give():
    same = weight_prior(0.0, 1000, 20_000)
    assert (same.beta, same.weight, same.use) == (pytest.approx(1 / 21), pytest.approx(1), True)
    far = weight_prior(0.2, 50_000, 1_000_000)
    assert (far.beta, far.weight, far.use, far.gain) == (1.0, None, False, 0.0)
    assert weight_prior(0.2, 1000, 20_000).use  # few real samples tolerate what many do not
    edge = ADAINF.c / math.sqrt(50_000)
    near = weight_prior(0.99 * edge, 50_000, 1_000_000)
    assert not near.use
    assert 1 - bound(best_share(0.99 * edge, 50_000, 10**6, ADAINF.c), 0.99 * edge, 50_000, 10**6, ADAINF.c) / (
        bound(1, 0.99 * edge, 50_000, 10**6, ADAINF.c)
    ) < LEAST_GAIN  # fmt: skip


@pytest.mark.parametrize(("n", "m"), [(500, 5000), (50_000, 1_000_000)])
def test_the_weight_grows_with_the_divergence_and_the_gain_falls(n, m):
    found = [weight_prior(d, n, m) for d in np.linspace(0, 0.3, 30)]
    used = [f for f in found if f.use]
    weights, gains = [f.weight for f in used], [f.gain for f in used]
    assert weights == sorted(weights)
    assert gains == sorted(gains, reverse=True)
    assert [f.use for f in found] == sorted((f.use for f in found), reverse=True)
    assert all(f.beta == pytest.approx(real_share(n, m, f.weight)) for f in used)


def test_plain_concatenation_is_predicted_to_be_worth_nothing_on_cifar10():
    """Published: 91.38 against 91.56 without inflation, and +0.02 in the ablation. The anchor did not use that."""
    n, m, c = ADAINF.n, ADAINF.m, ADAINF.c
    vanilla = bound(real_share(n, m, 1.0), ADAINF.divergence, n, m, c) / bound(1.0, ADAINF.divergence, n, m, c)
    assert vanilla == pytest.approx(1, abs=0.01)


@given(st.floats(1e-3, 1), st.integers(1, 10**6), st.integers(1, 10**7))
def test_the_effective_size_is_kishs(beta, n, m):
    weight = beta * m / ((1 - beta) * n) if beta < 1 else None
    if weight is None:
        assert effective_size(n, m, None) == n
        return
    total, squares = n * weight + m, n * weight**2 + m  # weights N of n samples and 1 of m
    assert effective_size(n, m, weight) == pytest.approx(total**2 / squares, rel=1e-9)
    assert effective_size(n, m, weight) <= (n + m) * (1 + 1e-9)
    assert effective_size(n, m, 1.0) == pytest.approx(n + m)


def test_the_table_and_each_of_its_points_from_the_others():
    """Inner points come out within one step of the published sweep's grid; the outer ones cannot be foretold at all."""
    for size, area in PUBLISHED:
        assert crop_for(size) == pytest.approx(area)
    for left_out in (1, 2):
        size, area = PUBLISHED[left_out]
        said = crop_for(size, tuple(p for p in PUBLISHED if p[0] != size))
        step = int(np.argmin([abs(math.log(said / x)) for x in PUBLISHED_GRID]))
        assert abs(step - PUBLISHED_GRID.index(area)) <= 1
    assert crop_for(1) == 0.02
    assert crop_for(10**9) == 0.30
    sizes = np.geomspace(1000, 10**8, 50)
    assert [crop_for(s) for s in sizes] == sorted(crop_for(s) for s in sizes)


@pytest.mark.parametrize("s", [0.05, 0.3, 0.5, 0.77, 1.0])
def test_the_strength_of_a_crop_turns_the_plan_round(s):
    assert strength_of_crop(simclr().at_strength(s).image_groups[0].scale[0]) == pytest.approx(s)
    assert strength_of_crop(0.02) == 1  # stronger than strong is strong


def test_the_published_optima_at_their_sizes():
    assert strength_prior(HOME, 0, None).strength == 1
    assert strength_prior(HOME, 100_000, 1.0).strength == pytest.approx(0.5)  # area 0.20, AdaInf's weak
    most = strength_prior(HOME, 1_000_000, 1.0)
    assert simclr().at_strength(most.strength).image_groups[0].scale[0] == pytest.approx(0.30)
    adainf = strength_prior(HOME, 1_000_000, 10.0)  # weighted: fewer effective samples, stronger views
    assert adainf.growth == pytest.approx(7.5)
    assert 0.20 < simclr().at_strength(adainf.strength).image_groups[0].scale[0] < 0.30


def test_strength_without_inflation_and_relative_to_another_default():
    none = strength_prior(1000, 0, 10.0)
    assert (none.strength, none.use) == (1.0, False)
    assert strength_prior(1000, 500, None, "weak").strength == 0.5
    assert strength_prior(1000, 2000, 1.0, "weak").strength == pytest.approx(0.25)
    for bad in ((0, 5, 1.0, "weak"), (5, 5, 0.0, "weak"), (5, 5, 1.0, "wek")):
        with pytest.raises(InputError):
            strength_prior(*bad)
    with pytest.raises(InputError, match="divergence"):
        weight_prior(1.5, 10, 10)
