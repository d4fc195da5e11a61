"""Multinomial logistic regression against scikit-learn's, and the choice of the penalty."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from swell.evaluation import logistic


def data(n: int = 300, d: int = 6, classes: int = 3, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    y = rng.integers(classes, size=n)
    x = rng.normal(size=(classes, d))[y] + spread * rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("with_moment", [True, False])
def test_coefficients_equal_scikit_learn_at_equal_penalty(penalty: float, with_moment: bool) -> None:
    x, y = data()
    moment = logistic.second_moment(x) if with_moment else None
    ours = logistic.fit(x, y, 3, penalty, moment=moment, tolerance=1e-9)
    model = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000)
    theirs = model.fit(x.numpy(), y.numpy())
    assert ours.converged
    np.testing.assert_allclose(ours.weights[:-1].T, theirs.coef_, atol=1e-4)
    centred = theirs.intercept_ - theirs.intercept_.mean()  # biases are free up to a constant
    np.testing.assert_allclose(ours.weights[-1] - ours.weights[-1].mean(), centred, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x.numpy()))


def test_gradient_is_the_derivative_of_the_objective() -> None:
    x, y = data(40)
    function = logistic.objective(x, y, 0.3)
    w = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    leaf = w.clone().requires_grad_()
    logits = x @ leaf[:-1] + leaf[-1]
    loss = torch.nn.functional.cross_entropy(logits, y) + 0.15 * leaf[:-1].square().sum()
    (expected,) = torch.autograd.grad(loss, leaf)
    value, gradient = function(w)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_float32_features_reach_the_float64_optimum() -> None:
    x, y = data(2000, 40, 5)
    x = (x - x.mean(0)) / x.std(0)
    exact = logistic.fit(x, y, 5, 1e-3, moment=logistic.second_moment(x), tolerance=1e-9)
    quick = logistic.fit(x.float(), y, 5, 1e-3, moment=logistic.second_moment(x.float()))
    assert quick.converged
    assert (quick.weights[:-1] - exact.weights[:-1]).abs().max() < 2e-2
    value = logistic.objective(x, y, 1e-3)
    assert value(quick.weights)[0] - value(exact.weights)[0] < 1e-6


def test_correlated_features_take_few_iterations() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 60, generator=g) @ (torch.randn(60, 60, generator=g) * torch.logspace(0, -3, 60))
    y = (x[:, :3] + 0.5 * torch.randn(3000, 3, generator=g)).argmax(1)
    x = (x - x.mean(0)) / x.std(0)
    found = logistic.fit(x, y, 3, 1e-4, moment=logistic.second_moment(x))
    assert found.converged
    assert found.iterations <= 60
    theirs = LogisticRegression(C=1 / 0.3, tol=1e-8, max_iter=10_000).fit(x.numpy(), y.numpy())
    assert (found.predict(x).numpy() == theirs.predict(x.numpy())).mean() > 0.999


def test_hundreds_of_copies_of_one_feature_are_solved() -> None:
    column = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    x, y = column.repeat(1, 800), (column[:, 0] > 0).long()  # X^T X has rank 1, and is indefinite after rounding
    found = logistic.fit(x, y, 2, 1e-5, moment=logistic.second_moment(x))
    assert found.converged
    assert (found.predict(x) == y).float().mean() > 0.999


def test_split_is_stratified_and_depends_on_labels_and_seed_only() -> None:
    y = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    order, m = logistic.validation_split(y, seed=0)
    assert sorted(order.tolist()) == list(range(63))
    assert y[order[m:]].bincount(minlength=4).tolist() == [10, 2, 0, 0]
    again, _ = logistic.validation_split(y, seed=0)
    other, _ = logistic.validation_split(y, seed=1)
    assert torch.equal(order, again)
    assert not torch.equal(order, other)


def test_the_best_validation_accuracy_chooses_and_all_of_train_is_fitted() -> None:
    x, y = data(400, 30, 4, spread=0.6)
    x = ((x - x.mean(0)) / x.std(0)).float()
    found, how = logistic.choose_and_fit(x, y, 4, seed=0)
    scores = {float(p): a for p, a in how["validation"].items()}
    assert list(scores) == list(logistic.PENALTIES[: len(scores)])
    ended = list(scores.values())
    assert max(ended[-2:]) < max(ended) or len(ended) == len(logistic.PENALTIES)
    assert len(ended) < 4 or max(ended[-3:-1]) == max(ended[:-1])  # no sooner and no later
    assert how["penalty"] == max(p for p, a in scores.items() if a == max(scores.values()))
    alone = logistic.fit(x, y, 4, how["penalty"], moment=logistic.second_moment(x))
    torch.testing.assert_close(found.weights[:-1], alone.weights[:-1], atol=2e-2, rtol=0)
    order, m = logistic.validation_split(y, 0)
    part = LogisticRegression(C=1 / (m * 1e-2), tol=1e-8, max_iter=5000).fit(x[order[:m]], y[order[:m]])
    assert scores[1e-2] == pytest.approx(part.score(x[order[m:]].numpy(), y[order[m:]].numpy()), abs=0.02)


def test_two_rows_a_class_take_the_default_penalty() -> None:
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1, 2, 2])
    _, how = logistic.choose_and_fit(x, y, 3, seed=0)
    assert how["penalty"] == logistic.DEFAULT_PENALTY
    assert how["chosen_on"] == 0
    assert how["validation"] == {}
