"""The plan: a search costs no more than it is allowed, and is counted as it is carried out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.adaptive.plan import (
    LEAST_STEPS,
    PRIORS,
    Plan,
    Rung,
    counts,
    how_many,
    plan,
    samples_to_score,
    share_of_priors,
    stable_steps,
)
from swell.adaptive.search import Budget
from swell.errors import InputError


def walked(made):
    """Steps by carrying the plan out, run by run: (candidate, seed) -> where its trunk stands."""
    trunk, total = {}, 0
    for number, rung in enumerate(made.rungs):
        for seed in range(made.seeds if number == len(made.rungs) - 1 else 1):
            for candidate in range(rung.count):
                total += rung.steps - trunk.get((candidate, seed), 0)
                trunk[candidate, seed] = stable_steps(rung.steps)
    return total


@settings(max_examples=50, deadline=None)
@given(st.floats(0.2, 8), st.integers(20, 200_000), st.integers(2, 16))
def test_the_budget_is_kept_and_used(budget, final, number):
    try:
        made = plan(budget, final, number)
    except InputError:
        assert 0.9 * budget * final < LEAST_STEPS * min(number, 4) * 2 or final < LEAST_STEPS
        return
    number = made.rungs[0].count
    assert made.steps == walked(made)
    assert made.cost <= 0.9 * budget
    assert all(rung.steps >= LEAST_STEPS for rung in made.rungs)
    assert all(b.steps >= 2 * a.steps for a, b in zip(made.rungs, made.rungs[1:], strict=False))
    assert made.rungs[-1].steps <= final
    longer = Plan(final, tuple(Rung(r.count, r.steps + 2**i) for i, r in enumerate(made.rungs)))
    assert longer.cost > 0.9 * budget or longer.rungs[-1].steps > final
    assert number >= 2


def test_the_default_is_eight_candidates_within_two_runs():
    made = plan(2, 10_000, how_many(2))
    assert [rung.count for rung in made.rungs] == [8, 3]
    assert 1.79 < made.cost <= 1.8
    assert made.rungs[1].steps in (2 * made.rungs[0].steps, 2 * made.rungs[0].steps + 1)
    assert made.scorings == 8 + 3 + 3
    assert made.warmup == pytest.approx(0.2 * made.rungs[0].steps / 10_000)


def test_a_smaller_budget_means_fewer_candidates_and_a_larger_one_more():
    assert [how_many(b) for b in (0.1, 1, 2, 3, 4, 9)] == [4, 4, 8, 12, 16, 16]
    assert counts(12) == [12, 6, 3]
    assert counts(3) == [3]


def test_where_steps_are_few_candidates_go_first_and_then_rungs():
    assert [rung.count for rung in plan(2, 120, 8).rungs] == [8, 3]
    assert [rung.count for rung in plan(2, 85, 8).rungs] == [5, 3]
    assert [rung.count for rung in plan(2, 50, 8).rungs] == [4]
    with pytest.raises(InputError, match="give --budget"):
        plan(2, 30, 8)


def test_what_the_priors_took_is_not_trained_with():
    made = plan(2, 1000, 8, priors=share_of_priors(1e10, 2, 1000 * 1e8))
    assert [rung.count for rung in made.rungs] == [8, 3]
    assert 1.8 - 0.1 - 0.02 < made.cost <= 1.8 - 0.1
    assert share_of_priors(1e12, 2, 1000 * 1e8) == PRIORS
    assert share_of_priors(1e12, 2, 0) == 0  # a search begun by an earlier version, which did not count


@settings(max_examples=50, deadline=None)
@given(st.floats(0.2, 8), st.integers(20, 5000), st.floats(0, 1e4))
def test_a_budget_that_is_enough_for_the_dearest_priors_is_enough_for_any(budget, final, flops):
    try:
        plan(budget, final, 8, priors=PRIORS)
    except InputError:
        return
    plan(budget, final, 8, priors=share_of_priors(flops, budget, final))


@pytest.mark.parametrize("steps", [10, 13, 64, 1000, 12_345])
def test_a_fifth_of_a_rung_is_its_decay(steps):
    assert steps - stable_steps(steps) == pytest.approx(0.2 * steps, abs=1)


def test_scores_take_a_tenth_of_the_budget():
    made = plan(2, 1000, 8)
    n = samples_to_score(made, 2, 256, 2, 14, 100_000)
    forwards = n * 14 * made.scorings
    assert forwards <= 0.1 * 2 * 1000 * 256 * 2 * 3 < forwards + 14 * made.scorings
    assert samples_to_score(made, 2, 256, 2, 14, 300) == 300
    assert samples_to_score(made, 0.01, 8, 2, 14, 3000) == 256
    assert samples_to_score(made, 0.01, 8, 2, 14, 30) == 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2x", Budget(2.0)), ("0.5X", Budget(0.5)), (" 90m", Budget(None, 90.0)), ("15min", Budget(None, 15.0))],
)
def test_budgets_are_read(text, expected):
    assert Budget.read(text) == expected


@pytest.mark.parametrize("text", ["2", "x", "-1x", "0x", "nanx", "1e9x", "2h", "", 2.0, "infm"])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="--budget"):
        Budget.read(text)
