"""Few-shot accuracy: the draws, the batched closed form, and known answers."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from swell.evaluation.features import unit_rows
from swell.evaluation.few_shot import draw_rows, few_shot, ridge_weights


def blobs(n: int, d: int, classes: int, seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return unit_rows(centres[y] + spread * torch.randn(n, d, generator=g)), y


def test_draws_are_stratified_without_replacement_and_nested() -> None:
    y = torch.tensor([0] * 30 + [2] * 4 + [5] * 30)
    ten, one = draw_rows(y, 10, 50, seed=0), draw_rows(y, 1, 50, seed=0)
    for few, many in zip(one.tolist(), ten.tolist(), strict=True):
        assert len(set(many)) == len(many)
        assert set(few) <= set(many)
        assert y[many].bincount().tolist() == [10, 0, 4, 0, 0, 10]
    assert len({tuple(sorted(row)) for row in ten.tolist()}) == 50
    assert torch.equal(ten, draw_rows(y, 10, 50, seed=0))
    assert not torch.equal(ten, draw_rows(y, 10, 50, seed=1))


def test_every_row_of_a_class_is_drawn_about_equally_often() -> None:
    counts = draw_rows(torch.arange(100) % 2, 5, 2000, seed=3).flatten().bincount(minlength=100)
    assert counts.min() > 130  # 200 expected, sd 13.4
    assert counts.max() < 270


@pytest.mark.parametrize("shape", [(6, 40), (60, 5)])  # solved over rows, over features
def test_weights_equal_scikit_learn_ridge(shape: tuple[int, int]) -> None:
    rows, width = shape
    z, y = blobs(rows, width, 3, seed=0)
    found = ridge_weights(z.double()[None], y[None], 3)[0]
    target = np.eye(3)[y.numpy()]
    expected = Ridge(alpha=1.0, fit_intercept=False, tol=1e-12).fit(z.double().numpy(), target).coef_.T
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_batched_draws_equal_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    train, y = blobs(200, 12, 4, seed=1, spread=2.0)
    test, test_y = blobs(90, 12, 4, seed=2, spread=2.0)
    expected = []
    for rows in draw_rows(y, 5, 30, seed=0):
        weights = ridge_weights(train[rows].double()[None], y[rows][None], 4)[0].float()
        expected.append(((test @ weights).argmax(1) == test_y).double().mean())
    whole = few_shot(train, y, test, test_y, 4, shots=5, draws=30)
    monkeypatch.setattr("swell.evaluation.few_shot._CHUNK", 1000)  # two draws, then a few test rows at a time
    pieces = few_shot(train, y, test, test_y, 4, shots=5, draws=30)
    torch.testing.assert_close(whole, torch.stack(expected))
    torch.testing.assert_close(pieces, whole)


def test_more_shots_are_better_and_separable_classes_are_solved() -> None:
    train, y = blobs(400, 10, 4, seed=1, spread=2.5)
    test, test_y = blobs(400, 10, 4, seed=2, spread=2.5)
    one, ten = (few_shot(train, y, test, test_y, 4, shots).mean() for shots in (1, 10))
    assert 0.4 < one < ten - 0.1
    clean, clean_y = blobs(40, 10, 4, seed=3, spread=0.01)
    assert few_shot(clean, clean_y, clean, clean_y, 4, shots=1).min() == 1
