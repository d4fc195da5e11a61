"""Bootstrap intervals against closed forms, against resampling row by row, and by what they promise."""

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.metrics import balanced_accuracy_score

from swell.errors import InputError
from swell.evaluation.intervals import LEVEL, balanced_interval, mean_interval, resampled_means, settings


def test_an_accuracy_has_the_interval_of_a_binomial():
    right = np.arange(400) < 320
    low, high = mean_interval(right)
    np.testing.assert_allclose([low, high], binom.ppf([0.025, 0.975], 400, 0.8) / 400, atol=1.01 / 400)
    assert mean_interval(right) == mean_interval(right[::-1])  # the order of test samples does not matter
    assert mean_interval(right, seed=1) == pytest.approx([low, high], abs=0.006)


@pytest.mark.parametrize("n", [1, 30, 1000])
def test_where_all_are_right_or_wrong_the_open_end_is_clopper_and_pearsons(n):
    low, high = mean_interval(np.ones(n))
    assert (low, high) == (pytest.approx(beta.ppf(0.025, n, 1)), 1.0)
    assert mean_interval(np.zeros(n)) == pytest.approx([0.0, 1 - low])


@pytest.mark.parametrize("values", [np.random.default_rng(0).beta(2, 1, 3000), np.arange(51).repeat(7) / 50])
def test_means_are_those_of_rows_drawn_with_replacement(values):
    """3,000 different values, which are pooled, and 51."""
    found = resampled_means(values, resamples=4000)
    rng = np.random.default_rng(1)
    drawn = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)])
    sd = values.std() / np.sqrt(len(values))
    assert found.mean() == pytest.approx(values.mean(), abs=4 * sd / np.sqrt(4000))
    assert found.std() == pytest.approx(sd, rel=0.06)
    np.testing.assert_allclose(np.quantile(found, [0.025, 0.975]), np.quantile(drawn, [0.025, 0.975]), atol=0.3 * sd)


def test_a_balanced_accuracy_is_resampled_as_scikit_learn_scores_it():
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05])
    predicted = np.where(rng.random(300) < 0.9 - 0.15 * truth, truth, (truth + 1) % 4)
    rows = rng.integers(0, 300, (1500, 300))
    scores = [balanced_accuracy_score(truth[r], predicted[r]) for r in rows]
    wanted = np.quantile(scores, [0.025, 0.975])
    np.testing.assert_allclose(balanced_interval(predicted == truth, truth), wanted, atol=0.015)
    assert balanced_interval(np.ones(5), np.arange(5)) == mean_interval(np.ones(5))


def test_the_interval_holds_what_it_should_as_often_as_it_says():
    """Of 300 test sets of 200 samples, which are right with probability 0.7."""
    rng = np.random.default_rng(0)
    held = [low <= 0.7 <= high for low, high in (mean_interval(rng.random(200) < 0.7) for _ in range(300))]
    assert LEVEL - 0.04 <= np.mean(held) <= LEVEL + 0.03


@pytest.mark.parametrize("values", [[], [[0.5]], [np.nan, 1.0]])
def test_what_cannot_be_resampled_is_refused(values):
    with pytest.raises(InputError, match="finite numbers"):
        mean_interval(values)


def test_the_settings_tell_the_version():
    assert settings()["protocol"] == "swell-intervals-1"
    assert (settings()["level"], settings()["resamples"]) == (0.95, 2000)
