"""The loop around generators: budgets, the schedule, the running average, what is kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from swell.errors import InputError
from swell.generators.fitting import LOOKS, PATIENCE, WARM_UP, Budget, Training, run_training
from swell.ledger import Cost


def run(losses: list[float], steps: int, decay: str = "cosine") -> tuple[Training, list[dict[str, float]], list[float]]:
    """Train a single number, which counts the steps; the held-out loss at look i is losses[i]."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    training, history, rates = Training(net, [optimiser], decay=decay), [], []  # type: ignore[arg-type]

    def step(t: int) -> torch.Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        with torch.no_grad():
            net.weight += 1
        return torch.tensor(float(t))

    run_training(
        training,
        step,
        lambda averaged: {"held_out_loss": losses[min(len(history), len(losses) - 1)]},
        Budget(steps),
        cost=Cost(),
        history=history,
        samples_a_step=1,
        quiet=True,
    )
    return training, history, rates


def test_looks_are_even_and_the_schedule_ends_at_zero() -> None:
    _, history, rates = run([1.0 / (i + 1) for i in range(LOOKS + 1)], steps=400)
    assert [row["step"] for row in history] == [20 * i for i in range(LOOKS + 1)]
    assert rates[0] == pytest.approx(0.5 / WARM_UP)
    assert rates[200] == pytest.approx(0.25)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 399 / 400)) / 2)
    _, _, linear = run([1.0 / (i + 1) for i in range(LOOKS + 1)], steps=400, decay="linear")
    assert linear[300] == pytest.approx(0.125)


def test_best_average_is_kept_and_stale_training_ends() -> None:
    """The number counts steps and its average lags behind: the best look was the fourth, at step 60."""
    training, history, _ = run([3.0, 2.0, 1.5, 1.0, *[2.0] * 30], steps=400)
    assert len(history) == 4 + PATIENCE
    assert history[-1]["step"] == 20 * (3 + PATIENCE)
    assert 50 < training.network.weight.item() < 60  # type: ignore[arg-type]
    assert not training.network.training


def test_average_has_a_half_life_of_a_twentieth_of_the_budget() -> None:
    """A running mean with half-life h of a ramp lags behind by h / ln 2, less what the short beginning adds."""
    training, _, _ = run([1.0 / (i + 1) for i in range(LOOKS + 1)], steps=2000)
    lag = 2000 - training.network.weight.item()  # type: ignore[arg-type]
    assert lag == pytest.approx(100 / math.log(2), rel=0.05)


@pytest.mark.parametrize("budget", [(None, None), (0, None), (None, 0.0), (-3, None), (None, math.nan), (5, 0.0)])
def test_budgets_that_are_none_are_refused(budget: tuple[int | None, float | None]) -> None:
    with pytest.raises(InputError, match="budget"):
        Budget(*budget)
