"""Means, standard deviations and paired intervals."""

import numpy as np
import pytest
from scipy import stats

from swell.errors import InputError
from swell.evaluation.statistics import paired, summarise


def test_summary_uses_n_minus_one_and_admits_a_single_value() -> None:
    assert summarise([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert summarise([0.5]) == (0.5, None)
    with pytest.raises(InputError, match="no values"):
        summarise([])


def test_paired_interval_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(size=8)
    found, expected = paired(a.tolist(), b.tolist()), stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found["n"] == 8
    assert found["mean"] == pytest.approx((a - b).mean())
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_no_interval_and_unpaired_values_are_refused() -> None:
    assert paired([0.9], [0.7]) == {"mean": pytest.approx(0.2), "low": None, "high": None, "n": 1}
    with pytest.raises(InputError, match="pairs"):
        paired([1.0, 2.0], [1.0])
