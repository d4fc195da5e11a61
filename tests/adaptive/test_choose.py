"""The choice: ranks against scipy, agreement against Spearman's, and every rule of the decision by a case of its own."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from swell.adaptive import choose as module
from swell.adaptive.choose import VOTERS, kendalls_w, seed_noise, survivors
from swell.errors import InputError

FIVE = ("lidar", "rotation", "learnability", "rankme", "acr")  # voters of all kinds, more than there are by default
choose, rank = partial(module.choose, voters=FIVE), partial(module.rank, voters=FIVE)
veto, voters_of = partial(module.veto, voters=FIVE), partial(module.voters_of, voters=FIVE)
FINE = {"feature_std": 0.8, "rankme": 9.0, "lidar": 5.0, "rotation": 0.5, "learnability": 0.5, "acr": 0.2}


def row(quality, **other):
    """Scores that all say the same of a candidate."""
    good = {"rankme": 9 + quality, "lidar": 5 + quality, "rotation": 0.5 + quality / 100}
    return {**FINE, **good, "learnability": 0.5 + quality / 100, "acr": 0.2 - quality / 100, **other}


def table(**qualities):
    return {name: [row(q) for q in values] for name, values in qualities.items()}


def test_ranks_go_by_each_scores_own_direction():
    found = rank({"a": row(2), "b": row(1, acr=0.01), "c": row(0)})
    assert found.by_score["rankme"] == {"a": 1, "b": 2, "c": 3}
    assert found.by_score["acr"] == {"b": 1, "a": 2, "c": 3}  # lower is better
    mean = {"a": (4 * 1 + 2) / 5, "b": (4 * 2 + 1) / 5, "c": 3.0}
    assert found.places == pytest.approx({name: (value - 1) / 2 for name, value in mean.items()})


def test_weights_of_scores():
    rows = {"a": row(1), "b": row(0, acr=0.0)}
    assert rank(rows).places["a"] < 0.5
    only = dict.fromkeys(("lidar", "rotation", "learnability", "rankme"), 0.0) | {"acr": 1.0}
    assert rank(rows, weights=only).places == {"a": 1.0, "b": 0.0}


def test_a_score_that_is_no_number_is_the_worst_and_one_that_is_missing_does_not_count():
    found = rank({"a": row(3, lidar=math.nan), "b": row(0)})
    assert found.by_score["lidar"] == {"a": 2, "b": 1}
    assert voters_of([row(0), {k: v for k, v in row(1).items() if k != "rotation"}]) == [
        "lidar",
        "learnability",
        "rankme",
        "acr",
    ]
    with pytest.raises(InputError):
        rank({"a": {"other": 1.0}})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=2, max_size=5))
def test_agreement_is_the_mean_rank_correlation_rescaled(values):
    """W = (1 + (m - 1) mean rho) / m, rho Spearman's over all pairs: without ties, where both are simplest."""
    ranks = np.stack([rankdata(np.array(v) + np.arange(5) / 100) for v in values])
    m = len(ranks)
    rho = [spearmanr(ranks[i], ranks[j]).statistic for i in range(m) for j in range(i)]
    assert kendalls_w(ranks) == pytest.approx((1 + (m - 1) * np.mean(rho)) / m)


def test_agreement_by_hand():
    assert kendalls_w(np.array([[1.0, 2, 3], [1, 2, 3]])) == pytest.approx(1)
    assert kendalls_w(np.array([[1.0, 2, 3], [3, 2, 1]])) == pytest.approx(0)
    # ties: sums 2.5, 3.5, 6 about 4, S = 6.5; m^2 (n^3 - n) = 96, one tie of two in one row: m T = 2 * 6
    assert kendalls_w(np.array([[1.5, 1.5, 3], [1, 2, 3]])) == pytest.approx(12 * 6.5 / (96 - 12))
    assert kendalls_w(np.array([[2.0, 2, 2], [2, 2, 2]])) == 1


def test_noise_by_hand():
    assert seed_noise([[0.1, 0.3], [0.5, 0.5]]) == pytest.approx(math.sqrt(0.02 / 2))  # two seeds: sqrt(s^2 * 2 / 2)
    assert math.isnan(seed_noise([[0.1], [0.5]]))


def test_the_best_is_chosen_where_it_is_clearly_ahead():
    found = choose(table(none=[0, 0.1], weak_only=[1, 1.1], adainf=[3, 3.1]), generated={"adainf"})
    assert found.name == found.leader == "adainf"
    assert found.clear
    assert found.margin > found.noise > 0
    assert found.agreement == pytest.approx(1)


def test_the_baseline_stays_within_noise_or_with_one_seed():
    found = choose(table(none=[0, 2.8], adainf=[1, 2.9]), generated={"adainf"})
    assert (found.name, found.clear) == ("none", False)
    assert "seeds" in found.reasons[-1]
    found = choose(table(none=[0], adainf=[5]), generated={"adainf"})
    assert (found.name, found.leader) == ("none", "adainf")
    assert "one seed" in found.reasons[-1]


def test_the_baseline_stays_where_it_is_best_or_ties():
    assert choose(table(none=[3, 3.1], adainf=[1, 1.1]), generated={"adainf"}).name == "none"
    assert choose(table(adainf=[1, 1], none=[1, 1]), generated={"adainf"}).leader == "none"


def test_generated_samples_must_beat_the_best_without_them():
    """The row that AdaInf's paper misses: weak views alone may do as well."""
    scores = table(none=[-7, -6.9], weak_only=[2.95, 3.2], adainf=[3.1, 3.3])
    found = choose(scores, generated={"adainf"})
    assert (found.leader, found.name) == ("adainf", "weak_only")
    assert "do not help" in found.reasons[-1]
    clearly = choose(table(none=[-7, -6.9], weak_only=[1, 1.1], adainf=[3, 3.1]), generated={"adainf"})
    assert clearly.name == "adainf"


def test_scores_that_contradict_one_another_leave_the_baseline():
    a = {**FINE, "rankme": 10.0, "lidar": 4.0, "rotation": 0.6, "learnability": 0.4, "acr": 0.1}
    b = {**FINE, "rankme": 9.0, "lidar": 5.0, "rotation": 0.5, "learnability": 0.5, "acr": 0.2}
    found = choose({"none": [b, b], "adainf": [a, a]}, generated={"adainf"})
    assert found.agreement < 1 / 5
    assert (found.leader, found.name) == ("adainf", "none")
    assert "chance" in found.reasons[-1]


def test_by_default_two_votes_have_to_agree():
    """With two rankings W is above chance where their rank correlation is positive."""
    assert VOTERS == ("learnability", "rankme")
    agreed = table(none=[0, 0.1], weak_only=[1, 1.1], adainf=[3, 3.1])
    assert module.choose(agreed, generated={"adainf"}).name == "adainf"
    quarrel = {name: [{**r, "rankme": 30 - r["rankme"]} for r in rows] for name, rows in agreed.items()}
    found = module.choose(quarrel, generated={"adainf"})
    assert (found.name, found.agreement) == ("none", pytest.approx(0, abs=1e-9))


def test_votes_that_did_not_agree_at_an_earlier_rung_are_not_believed():
    agreed = table(none=[0, 0.1], weak_only=[1, 1.1], adainf=[3, 3.1])
    assert choose(agreed, generated={"adainf"}, earlier=[0.8]).name == "adainf"
    found = choose(agreed, generated={"adainf"}, earlier=[0.8, 0.15])
    assert (found.name, found.leader, found.agreement) == ("none", "adainf", 0.15)
    assert "at an earlier rung" in found.reasons[-1]
    assert found.margin == choose(agreed, generated={"adainf"}).margin


def test_vetoes():
    assert veto(row(0)) == ""
    assert "collapsed" in veto(row(0, feature_std=0.01))
    assert "collapsed" in veto(row(0, feature_std=math.nan))
    assert veto(row(0, lidar=math.nan)) == "no finite value of lidar"
    scores = {**table(none=[0, 0.1], weak_only=[1, 1.1]), "adainf": [row(5), row(5, feature_std=0.0)]}
    found = choose(scores, generated={"adainf"}, vetoed={"prior": "diverged"})
    assert found.name == "weak_only"
    assert set(found.vetoed) == {"adainf", "prior"}
    assert found.reasons[0] == "prior was left out: diverged."


def test_without_the_baseline_the_best_of_real_samples_stands_for_it():
    found = choose(table(weak_only=[1, 1.1], adainf=[1, 1.2]), generated={"adainf"}, vetoed={"none": "diverged"})
    assert found.name == "weak_only"
    assert choose(table(adainf=[1, 1.1]), generated={"adainf"}, vetoed={"none": "diverged"}).name == "adainf"
    with pytest.raises(InputError, match="no candidate that trains"):
        choose({}, vetoed={"none": "diverged"})


@settings(max_examples=60, deadline=None)
@given(st.permutations(["none", "weak_only", "real", "adainf", "prior", "w5", "w20"]), st.integers(3, 6))
def test_baseline_best_real_and_best_generated_always_go_on(order, count):
    places = {name: i / 10 for i, name in enumerate(order)}
    generated = {"adainf", "prior", "w5", "w20"}
    strengths = dict.fromkeys(order, 0.5) | {"prior": 0.7, "w5": 0.9}
    kept = survivors(places, count, generated, strengths)
    assert len(kept) == count
    assert kept == sorted(kept, key=lambda name: places[name])
    assert {"none", next(n for n in order if n in generated)} <= {*kept}
    assert next(n for n in order if n in ("weak_only", "real")) in kept
    if count > 3 and order[0] == "adainf":
        assert "prior" in kept  # the next stronger neighbour of the leader


def test_the_choice_does_not_depend_on_the_order_of_the_table():
    scores = table(none=[0, 0.4], weak_only=[1, 1.1], adainf=[3, 2.7], prior=[2.2, 2])
    generated = {"adainf", "prior"}
    first = choose(scores, generated=generated)
    turned = choose(dict(reversed(scores.items())), generated=generated)
    assert (first.name, first.margin, first.noise, first.agreement) == pytest.approx(
        (turned.name, turned.margin, turned.noise, turned.agreement)
    )
