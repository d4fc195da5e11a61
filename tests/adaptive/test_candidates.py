"""The candidates: who is always there, who comes next, and that no two are the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.adaptive.candidates import Candidate, alike, candidates
from swell.adaptive.priors import StrengthPrior, WeightPrior

YES = WeightPrior(0.2, 4.2, True, 0.3, "")
NO = WeightPrior(1.0, None, False, 0.0, "")


def strength(s, use=True):
    return StrengthPrior(s, 3.0, use, "table", "")


def test_the_fixed_ones_and_the_priors_centre_are_always_there():
    found = candidates(4, 9000, YES, [strength(0.4)])
    assert found == (
        Candidate("none", 1.0, 1.0, 0),
        Candidate("weak_only", 1.0, 0.5, 0),
        Candidate("adainf", 10.0, 0.5, 9000),
        Candidate("prior", 4.2, 0.4, 9000),
    )
    assert candidates(1, 9000, YES, [strength(0.4)]) == found
    assert [one.generated for one in found] == [False, False, True, True]


def test_the_next_ones_lie_around_the_prior_the_stronger_first():
    found = candidates(8, 9000, YES, [strength(0.4), strength(0.2)])
    assert [one.name for one in found[4:]] == [
        "weight4.2-strength0.65",
        "weight4.2-strength0.2",
        "weight8.4-strength0.4",
        "weight2.1-strength0.4",
    ]


def test_a_prior_against_inflation_leaves_adainf_to_test_it():
    found = candidates(6, 9000, NO, [strength(1.0, use=False)])
    assert [one.name for one in found[:3]] == ["none", "weak_only", "adainf"]
    assert "prior" not in {one.name for one in found}
    assert found[3] == Candidate("weight10-strength0.75", 10.0, 0.75, 9000)


def test_a_prior_that_says_what_adainf_says_is_no_candidate_of_its_own():
    found = candidates(8, 100, WeightPrior(0.5, 10.4, True, 0.1, ""), [strength(0.52)])
    assert [one.name for one in found[:3]] == ["none", "weak_only", "adainf"]
    assert "prior" not in {one.name for one in found}


def test_without_generated_samples_only_views_differ():
    found = candidates(8, 0, YES, [strength(0.4)])
    assert [(one.name, one.strength) for one in found] == [
        ("none", 1.0),
        ("weak_only", 0.5),
        ("real-strength0.75", 0.75),
        ("real-strength0.25", 0.25),
    ]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(2, 30), st.integers(0, 50_000), st.floats(0.01, 300), st.floats(0, 1), st.floats(0, 1), st.booleans()
)
def test_they_all_differ_and_are_in_bounds(limit, amount, weight, s, other, use):
    prior = WeightPrior(0.5, weight, True, 0.1, "") if use else NO
    found = candidates(limit, amount, prior, [strength(s), strength(other)])
    assert len({one.name for one in found}) == len(found) <= max(limit, 4)
    assert all(0 <= one.strength <= 1 and one.weight > 0 and 0 <= one.amount <= amount for one in found)
    assert not any(alike(a, b) for i, a in enumerate(found) for b in found[:i])
    assert found[: min(limit, 2)] == candidates(2, 0)[: min(limit, 2)]
    for fewer in range(2, limit):  # a larger budget adds candidates and takes none away
        assert set(candidates(fewer, amount, prior, [strength(s), strength(other)])) <= set(found)


def test_words():
    assert Candidate("none").words == "real samples only, views of strength 1"
    assert Candidate("a", 2.5, 0.5, 1000).words == "weight 2.5 on 1,000 generated samples, views of strength 0.5"
    assert pytest.approx(10) == candidates(4, 10)[2].weight
