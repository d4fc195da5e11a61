"""Means, standard deviations, paired intervals, Holm's correction and the Pareto front."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from swell.errors import InputError
from swell.evaluation.statistics import holm, on_front, paired, summarise


def test_summary_uses_n_minus_one_and_admits_a_single_value() -> None:
    assert summarise([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert summarise([0.5]) == (0.5, None)
    with pytest.raises(InputError, match="no values"):
        summarise([])


def test_paired_interval_and_p_are_scipys_paired_t() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(size=8)
    found, test = paired(a.tolist(), b.tolist()), stats.ttest_rel(a, b)
    expected = test.confidence_interval(0.95)
    assert found["n"] == 8
    assert found["mean"] == pytest.approx((a - b).mean())
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["p"] == pytest.approx(test.pvalue)


def test_differences_without_any_spread_have_the_p_of_the_limit() -> None:
    assert paired([0.5, 0.75], [0.25, 0.5])["p"] == 0.0
    assert paired([0.5, 0.5], [0.5, 0.5])["p"] == 1.0


def test_one_pair_has_no_interval_and_unpaired_values_are_refused() -> None:
    assert paired([0.9], [0.7]) == {"mean": pytest.approx(0.2), "low": None, "high": None, "n": 1, "p": None}
    with pytest.raises(InputError, match="pairs"):
        paired([1.0, 2.0], [1.0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def rejected_step_by_step(p: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he told it: go up from the smallest, stop at the first that is too large."""
    found: set[int] = set()
    for k, i in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[i] > alpha / (len(p) - k):
            break
        found.add(i)
    return found


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_adjusted_values_reject_what_holms_steps_reject(p: list[float], alpha: float) -> None:
    adjusted = holm(p)
    clear = [i for i, q in enumerate(adjusted) if abs(q - alpha) > 1e-12]  # ties of rounding aside
    assert {i for i in clear if adjusted[i] <= alpha} == rejected_step_by_step(p, alpha) & set(clear)
    assert all(a <= b <= min(1.0, len(p) * a) + 1e-12 for a, b in zip(p, adjusted, strict=True))


def test_the_front_by_hand() -> None:
    costs, scores = [1, 2, 3, 3, 4], [0.5, 0.7, 0.6, 0.8, 0.8]
    assert on_front(costs, scores) == [True, True, False, True, False]
    assert on_front([1, 1], [0.5, 0.5]) == [True, True]  # neither beats its equal


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_the_front_is_never_empty_and_all_others_are_beaten_by_one_on_it(points: list[tuple[int, int]]) -> None:
    kept = on_front([c for c, _ in points], [s for _, s in points])
    front = [point for point, on in zip(points, kept, strict=True) if on]
    assert front
    for point, on in zip(points, kept, strict=True):
        assert on == (not any(c <= point[0] and s >= point[1] and (c, s) != point for c, s in front))
