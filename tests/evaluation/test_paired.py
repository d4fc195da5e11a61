"""Paired tests against SciPy, loops and cases by hand; what must not be compared is refused."""

import copy
import json
from math import comb

import numpy as np
import pytest

from swell.errors import InputError
from swell.evaluation.paired import compare_predictions, mcnemar, paired_bootstrap
from swell.evaluation.predictions import Predictions, write_predictions
from swell.evaluation.protocol import refuse_other_protocol, terms


def split(both, only_a, only_b, neither):
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    return a, np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])


def test_mcnemar_by_hand():
    """9 against 1 of 10: twice (1 + 10) / 2^10; samples on which both agree do not matter."""
    found = mcnemar(*split(70, 9, 1, 20))
    assert found == {"only_a": 9, "only_b": 1, "p": pytest.approx(2 * 11 / 1024)}
    assert mcnemar(*split(0, 9, 1, 0))["p"] == found["p"]
    assert mcnemar(*split(50, 0, 0, 5)) == {"only_a": 0, "only_b": 0, "p": 1.0}
    assert mcnemar(*split(1, 5, 5, 1))["p"] == 1.0


@pytest.mark.parametrize(("b", "c"), [(30, 12), (3, 17), (200, 160)])
def test_mcnemar_is_the_sum_of_the_binomials_tails(b, c):
    n = b + c
    tail = sum(comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar(*split(4, b, c, 4))["p"] == pytest.approx(min(1.0, 2 * tail))


def test_the_bootstrap_is_that_of_rows_drawn_in_pairs():
    a, b = split(300, 60, 30, 110)
    found = paired_bootstrap(a, b)
    assert found["difference"] == pytest.approx(0.06)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 500, (2000, 500))
    wanted = np.quantile(a[rows].mean(1) - b[rows].mean(1), [0.025, 0.975])
    np.testing.assert_allclose([found["low"], found["high"]], wanted, atol=0.005)
    assert found["p"] == pytest.approx(mcnemar(a, b)["p"], abs=0.003)
    back = paired_bootstrap(b, a)
    assert back["difference"] == -found["difference"]
    assert paired_bootstrap(a, a) == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "n": 500}


def test_no_difference_is_found_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    clear = [paired_bootstrap(rng.random(150) < 0.7, rng.random(150) < 0.7)["p"] < 0.05 for _ in range(200)]
    assert np.mean(clear) < 0.1


@pytest.mark.parametrize(("a", "b"), [([1, 0], [1]), ([], []), ([0.5, 1], [1, 1])])
def test_what_is_no_pair_is_refused(a, b):
    with pytest.raises(InputError):
        mcnemar(a, b)


EVALUATION = {
    "probe": "swell-probe-1",
    "settings": {"seed": 0},
    "retrieval": {"protocol": "swell-retrieval-1", "settings": {"seed": 0}},
    "transfer": [{"probe": "swell-probe-1", "settings": {"seed": 0}}],
}


@pytest.fixture
def evaluated(tmp_path):
    """Writes a RUN folder with predictions of `right` of 100 samples by both probes."""

    def write(name, right, about=None, evaluation=None):
        folder = tmp_path / name
        folder.mkdir()
        truth = np.arange(100) % 4
        predicted = np.where(np.arange(100) < right, truth, (truth + 1) % 4)
        share = np.linspace(0, right / 100, 100).astype(np.float32)
        kept = Predictions(truth, {"knn": predicted, "linear": predicted}, share, {"few_shot_10": share, "map": share})
        data = {"train": "t1", "test": "t2", "labels": "l1", **(about or {})}
        told = write_predictions(folder, {"probe": (kept, data), "transfer-1": (kept, data)})
        (folder / "evaluation.json").write_text(json.dumps({**EVALUATION, **(evaluation or {}), "predictions": told}))
        return folder

    return write


def test_two_runs(evaluated):
    a, b = evaluated("a", 80), evaluated("b", 70)
    found = compare_predictions(a, b)
    assert (found["scores"], found["n"]) == ([0.8, 0.7], 100)
    assert found["difference"] == pytest.approx(0.1)
    assert found["mcnemar"] == {"only_a": 10, "only_b": 0, "p": pytest.approx(2 / 1024)}
    assert 0 < found["low"] < 0.1 < found["high"]
    shares = compare_predictions(a, b, by="few_shot_10")
    assert shares["mcnemar"] is None
    assert compare_predictions(a, b, on="transfer-1")["difference"] == found["difference"]
    json.dumps([found, shares], allow_nan=False)


@pytest.mark.parametrize("key", ["train", "test", "labels"])
def test_other_samples_are_refused(evaluated, key):
    with pytest.raises(InputError, match=r"evaluated with other .* x9 instead of"):
        compare_predictions(evaluated("a", 80), evaluated("b", 70, {key: "x9"}))


@pytest.mark.parametrize(
    ("by", "change", "told"),
    [
        ("linear", {"probe": "swell-probe-2"}, "other probe than .*swell-probe-2 instead of swell-probe-1"),
        ("knn", {"settings": {"seed": 1}}, "other settings"),
        ("map", {"retrieval": {"protocol": "swell-retrieval-2", "settings": {"seed": 0}}}, "retrieval.protocol"),
        ("map", {"retrieval": None}, "no retrieval on probe"),
    ],
)
def test_another_version_is_refused(evaluated, by, change, told):
    with pytest.raises(InputError, match=told):
        compare_predictions(evaluated("a", 80), evaluated("b", 70, evaluation=change), by=by)


def test_only_what_the_score_is_of_has_to_be_alike():
    other = copy.deepcopy(EVALUATION)
    other["retrieval"]["protocol"] = "swell-retrieval-2"
    refuse_other_protocol(("a", EVALUATION), ("b", other), by="linear")
    with pytest.raises(InputError, match=r"b .evaluated with other retrieval\.protocol than a"):
        refuse_other_protocol(("a", EVALUATION), ("b", other), by="map")


@pytest.mark.parametrize("on", ["transfer-2", "transfer-0", "transfer-x", "other"])
@pytest.mark.parametrize("evaluation", [EVALUATION, {}, {"transfer": 3}])
def test_a_set_that_is_not_there_is_refused(evaluation, on):
    with pytest.raises(InputError, match=f"no scores on {on}"):
        terms(evaluation, "linear", on)
