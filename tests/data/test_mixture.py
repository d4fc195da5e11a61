"""The mixture: exact shares, whole epochs, no duplicates, a pure function of (seed, t)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.data.mixture import Mixture, real_share
from swell.errors import InputError


def test_real_share_is_adainfs_formula():
    # 50,000 real, 1,000,000 generated: 0.0476 plain, 0.333 with weight 10 (facts of the published runs)
    assert real_share(50_000, 1_000_000, 1) == pytest.approx(1 / 21)
    assert real_share(50_000, 1_000_000, 10) == pytest.approx(1 / 3)
    assert real_share(100, 0, 0.5) == 1.0


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 400),
    m=st.integers(0, 400),
    batch=st.integers(2, 64),
    weight=st.floats(0.01, 50),
    seed=st.integers(0, 9),
)
def test_stratified_shares_are_exact_and_batches_full(n, m, batch, weight, seed):
    mix = Mixture(n, m, batch=batch, weight=weight, seed=seed)
    reals = 0
    for t in range(30):
        draw = mix(t)
        assert len(draw.real) + len(draw.generated) == batch
        assert ((draw.real >= 0) & (draw.real < n)).all()
        if m:
            assert ((draw.generated >= 0) & (draw.generated < m)).all()
        reals += len(draw.real)
    assert abs(reals - 30 * batch * real_share(n, m, weight)) <= 1


def test_a_fractional_weight_reaches_its_share_over_a_run():
    mix = Mixture(1000, 7000, batch=32, weight=0.37)
    reals = sum(len(mix(t).real) for t in range(2000))
    assert reals / (2000 * 32) == pytest.approx(0.37 * 1000 / (0.37 * 1000 + 7000), abs=1e-4)


@pytest.mark.parametrize(("n", "batch"), [(1000, 64), (192, 64), (777, 100)])
def test_an_epoch_shows_every_sample_once_and_no_batch_repeats_one(n, batch):
    mix = Mixture(n, 0, batch=batch, seed=3)
    seen = []
    for t in range(5 * n // batch + 2):
        real = mix(t).real
        assert len(real.unique()) == batch, f"batch {t} holds a sample twice"
        seen.append(real)
    stream = torch.cat(seen)
    for epoch in range(5):
        assert stream[epoch * n : (epoch + 1) * n].sort().values.equal(torch.arange(n))
    assert not stream[:n].equal(stream[n : 2 * n])  # a fresh order every time


@pytest.mark.parametrize("n", [40, 64, 100, 150])
def test_small_sets_never_repeat_inside_a_batch_while_they_can(n):
    mix = Mixture(n, 0, batch=32, seed=1)
    for t in range(50):
        assert len(mix(t).real.unique()) == 32


def test_a_set_smaller_than_its_share_is_used_evenly():
    counts = torch.bincount(Mixture(5, 0, batch=12)(7).real, minlength=5)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("mixing", ["stratified", "bernoulli"])
def test_batches_depend_on_seed_and_t_alone(mixing):
    a, b, other = (Mixture(500, 900, batch=50, weight=3.3, seed=s, mixing=mixing) for s in (5, 5, 6))
    wanted = [a(t) for t in range(40)]
    for t in (39, 0, 17, 18, 3):  # any order, no history
        assert b(t).real.equal(wanted[t].real)
        assert b(t).generated.equal(wanted[t].generated)
    assert not all(other(t).real.equal(wanted[t].real) for t in range(40))


def test_bernoulli_shares_follow_the_binomial():
    mix = Mixture(1000, 1000, batch=64, weight=1.0, mixing="bernoulli")
    counts = torch.tensor([float(len(mix(t).real)) for t in range(400)])
    assert counts.mean().item() == pytest.approx(32, abs=1)
    assert counts.std().item() == pytest.approx(4, abs=0.6)  # sqrt(64 / 4)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(InputError, match="above 0"):
        Mixture(10, 10, batch=4, weight=weight)
