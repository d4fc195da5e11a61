"""The probe with few labels: which rows are drawn, by scikit-learn's regression, by property."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from swell.errors import InputError
from swell.evaluation.few_labels import DRAWS, few_labels, parse_budgets, rows_of


def blobs(n, seed, classes=3, d=5):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (1.5 * np.eye(classes, d)[y] + rng.normal(0, 0.8, (n, d))).astype(np.float32), y


def test_shares_and_numbers_are_told_apart():
    assert parse_budgets("1%, 10%,5") == parse_budgets(["1%", "10%", 5]) == ["1%", "10%", "5"]


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "1.5", "ten", "%", "-3", "5,5", "nan%"])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="few labels"):
        parse_budgets(text)


def test_rows_are_of_every_class_and_smaller_budgets_are_parts_of_larger_ones():
    y = torch.tensor([0] * 200 + [1] * 50 + [2] * 4)
    drawn = {budget: rows_of(y, budget, 0) for budget in ("1%", "10%", "100%", "1", "10")}
    counts = {budget: y[rows].bincount().tolist() for budget, rows in drawn.items()}
    assert counts == {"1%": [2, 1, 1], "10%": [20, 5, 1], "100%": [200, 50, 4], "1": [1, 1, 1], "10": [10, 10, 4]}
    assert set(drawn["1%"].tolist()) < set(drawn["10%"].tolist()) < set(drawn["100%"].tolist())
    assert set(drawn["1"].tolist()) < set(drawn["1%"].tolist())
    assert not torch.equal(rows_of(y, "10%", 0), rows_of(y, "10%", 1))
    assert not torch.equal(rows_of(y, "10%", 0), rows_of(y, "10%", 0, seed=1))


def test_scores_are_those_of_scikit_learns_regression_on_the_same_rows():
    (x, y), (q, z) = blobs(300, 0), blobs(120, 1)
    found, shares = few_labels(x, y, q, z, ["2"])  # too few to choose the penalty on: 0.01
    scaler = StandardScaler().fit(x)
    right = []
    for draw in range(DRAWS):
        rows = rows_of(torch.from_numpy(y), "2", draw).numpy()
        model = LogisticRegression(C=1 / (len(rows) * 1e-2), tol=1e-8, max_iter=1000)
        right.append(model.fit(scaler.transform(x[rows]), y[rows]).predict(scaler.transform(q)) == z)
    told = found["budgets"]["2"]
    assert told["accuracy"] == pytest.approx(np.mean(right), abs=1 / 120)
    assert told["sd"] == pytest.approx(np.std(np.mean(right, 1), ddof=1), abs=1 / 120)
    assert (told["n_labels"], told["draws"]) == (6, DRAWS)
    assert np.abs(shares["2"] - np.mean(right, 0)).mean() < 0.02


def test_more_labels_are_better_and_all_of_them_need_no_luck():
    (x, y), (q, z) = blobs(300, 0), blobs(120, 1)
    found, shares = few_labels(x, y, q, z, "1%,100%")
    few, all_ = found["budgets"]["1%"], found["budgets"]["100%"]
    assert few["accuracy"] < all_["accuracy"]
    assert few["sd"] > all_["sd"]
    assert shares["100%"].mean() == pytest.approx(all_["accuracy"])
    assert all_["interval"][0] < all_["accuracy"] < all_["interval"][1]
    json.dumps(found, allow_nan=False)
