"""The frozen protocol as a whole: real digits, determinism, odd sets, bad input."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from swell.errors import InputError
from swell.evaluation.features import Standardiser, unit_rows
from swell.evaluation.probe import probe

Sets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> Sets:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    return x[:1257], y[:1257], x[1257:], y[1257:]


@pytest.fixture(scope="module")
def scores(digits: Sets) -> dict[str, Any]:
    return probe(*digits)


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k != "seconds"}


def test_digits_reach_what_raw_pixels_are_known_to_reach(scores: dict[str, Any]) -> None:
    assert scores["probe"] == "swell-probe-1"
    assert (scores["n_train"], scores["n_test"], scores["n_classes"]) == (1257, 540, 10)
    assert scores["knn"]["accuracy"] >= 0.95
    assert scores["linear"]["accuracy"] >= 0.95
    assert scores["linear"]["converged"]
    assert 0.85 <= scores["few_shot"]["10"] <= 0.93
    assert 0.5 <= scores["few_shot"]["1"] <= 0.7
    assert 0 < scores["few_shot"]["sd"]["10"] < scores["few_shot"]["sd"]["1"] < 0.1
    assert 0.5 < scores["clusters"]["ari"] < scores["clusters"]["nmi"] < 0.9
    assert set(scores["seconds"]) == {"knn", "linear", "few_shot", "clusters"}
    json.dumps(scores, allow_nan=False)


def test_same_input_same_output_bit_for_bit(digits: Sets, scores: dict[str, Any]) -> None:
    again = probe(*(torch.from_numpy(np.ascontiguousarray(a)) for a in digits))
    assert without_seconds(again) == without_seconds(scores)


def test_a_changed_precision_around_it_does_not_reach_it(digits: Sets, scores: dict[str, Any]) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = probe(*digits)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert without_seconds(inside) == without_seconds(scores)


def test_the_test_split_chooses_nothing_and_its_order_is_free(digits: Sets, scores: dict[str, Any]) -> None:
    train_x, train_y, test_x, test_y = digits
    order = np.random.default_rng(1).permutation(len(test_y))
    shuffled = probe(train_x, train_y, test_x[order], test_y[order])
    for name in ("knn", "linear"):
        assert shuffled[name]["accuracy"] == scores[name]["accuracy"]
    for shots in ("1", "10"):
        assert shuffled["few_shot"][shots] == pytest.approx(scores["few_shot"][shots], abs=1e-12)
    assert shuffled["clusters"] == pytest.approx(scores["clusters"], abs=1e-12)
    wrong = probe(train_x, train_y, test_x, test_y[order])
    for key in ("penalty", "validation", "iterations", "chosen_on"):
        assert wrong["linear"][key] == scores["linear"][key]
    assert wrong["linear"]["accuracy"] < 0.2


def test_scale_and_shift_do_not_move_linear_and_few_shot(digits: Sets, scores: dict[str, Any]) -> None:
    train_x, train_y, test_x, test_y = digits
    moved = probe(train_x * 8 - 64, train_y, test_x * 8 - 64, test_y)  # exact in float32
    assert moved["linear"]["accuracy"] == pytest.approx(scores["linear"]["accuracy"], abs=0.002)
    assert moved["few_shot"]["10"] == pytest.approx(scores["few_shot"]["10"], abs=1e-4)


def test_the_names_of_the_classes_do_not_matter(digits: Sets, scores: dict[str, Any]) -> None:
    train_x, train_y, test_x, test_y = digits
    renamed = probe(train_x, train_y * 1000 + 7, test_x, test_y * 1000 + 7)
    assert renamed["n_classes"] == 10
    for name in ("knn", "few_shot", "clusters"):
        assert renamed[name] == scores[name]


def rows(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (np.eye(classes, d)[y] * 4 + rng.normal(size=(n, d))).astype(np.float32), y


@pytest.mark.parametrize(("n", "d", "classes"), [(10, 5, 2), (10, 3, 10), (2, 4, 2), (60, 1, 2), (40, 90, 3)])
def test_small_and_narrow_sets_are_scored(n: int, d: int, classes: int) -> None:
    result = probe(*rows(n, d, classes), *rows(30, d, classes, 1))
    for name in ("knn", "linear"):
        assert 0 <= result[name]["accuracy"] <= 1
    assert result["knn"]["k"] == min(20, n)
    short = result["few_shot"]["short_classes"]
    assert short["1"] == []
    assert short["10"] == (list(range(classes)) if n // classes < 10 else [])
    json.dumps(result, allow_nan=False)


def test_constant_and_collapsed_features_are_scored_at_chance() -> None:
    x, y = rows(120, 4, 2)
    x[:, 2] = 0.1
    half = probe(x, y, x, y)
    assert half["linear"]["accuracy"] > 0.9
    collapsed = probe(np.full((120, 4), 0.1, np.float32), y, np.full((120, 4), 0.1, np.float32), y)
    assert collapsed["linear"]["accuracy"] == 0.5
    assert collapsed["few_shot"]["10"] == 0.5
    assert collapsed["clusters"] == {**collapsed["clusters"], "ari": 0.0, "nmi": 0.0}
    zeros = probe(np.zeros((120, 4), np.float32), y, np.zeros((120, 4), np.float32), y)
    assert zeros["knn"]["accuracy"] == 0.5


def test_classes_missing_from_one_split_are_named_and_count_as_wrong() -> None:
    x, y = rows(300, 5, 3)
    result = probe(x[y != 2], y[y != 2], x[y != 1], y[y != 1])
    assert result["n_classes"] == 3
    assert result["only_in_test"] == [2]
    assert result["only_in_train"] == [1]
    assert 0.4 < result["linear"]["accuracy"] <= 0.5  # half of the test rows are of class 2
    assert result["linear"]["balanced_accuracy"] == pytest.approx(result["linear"]["accuracy"])
    assert result["clusters"]["k"] == 2


def test_balanced_accuracy_gives_small_classes_their_weight() -> None:
    x, y = rows(400, 2, 2)
    keep = (y == 0) | (np.arange(400) < 40)
    x[y == 1] = x[y == 0][: (y == 1).sum()]  # indistinguishable: the large class wins
    result = probe(x[keep], y[keep], x[keep], y[keep])
    assert result["linear"]["accuracy"] == pytest.approx(200 / 220)
    assert result["linear"]["balanced_accuracy"] == pytest.approx(0.5)


GOOD_X, GOOD_Y = rows(20, 3, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train_x": np.where(np.arange(60).reshape(20, 3) == 4, np.nan, GOOD_X)}, "1 of 20 rows not finite"),
        ({"test_x": np.full((20, 3), 1e300)}, "not finite"),
        ({"train_y": np.ones(20, int)}, "two classes"),
        ({"train_x": GOOD_X[:, 0]}, r"\[n, D\]"),
        ({"train_x": np.empty((0, 3)), "train_y": np.empty(0, int)}, "non-empty"),
        ({"test_x": GOOD_X[:, :2]}, "equal widths"),
        ({"test_y": GOOD_Y[:5]}, "one label a row"),
        ({"train_y": GOOD_Y - 1}, "from 0 up"),
        ({"train_y": GOOD_Y + 0.5}, "integers"),
        ({"train_x": np.full((20, 3), "a")}, "numbers"),
    ],
)
def test_bad_input_is_told(change: dict[str, np.ndarray], told: str) -> None:
    given = {"train_x": GOOD_X, "train_y": GOOD_Y, "test_x": GOOD_X, "test_y": GOOD_Y, **change}
    with pytest.raises(InputError, match=told):
        probe(**given)


def test_read_only_input_stays_untouched(digits: Sets) -> None:
    train_x, train_y, test_x, test_y = (a[:100].copy() for a in digits)
    before = train_x.copy()
    for a in (train_x, train_y, test_x, test_y):
        a.setflags(write=False)
    probe(train_x, train_y, test_x, test_y)
    np.testing.assert_array_equal(train_x, before)


def test_standardiser_and_unit_rows() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g) * torch.tensor([1e-3, 1.0, 1e4]) + torch.tensor([1.0, 0.0, 1e6])
    x = torch.cat([x, torch.full((500, 1), 0.1), torch.zeros(500, 1)], 1)
    z = Standardiser.fit(x)(x)
    torch.testing.assert_close(z[:, :3].std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z[:, :3].mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    assert z[:, 3:].abs().max() == 0
    u = unit_rows(torch.tensor([[3e30, 4e30], [0.0, 0.0], [3e-30, 4e-30]]))
    torch.testing.assert_close(u, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]))
