"""The linear probe with few labels: a share of them, such as 1 % and 10 %, or so many a class.

    few_labels(train_x, train_y, test_x, test_y, ("1%", "10%", 5))

The probe's own few-shot score uses ridge regression, in closed form, for 1 and 10 labels a class. This one is the
logistic regression of the probe, penalty chosen on a fifth of the few labels, so that it can be read beside "linear".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.errors import InputError
from swell.evaluation import logistic
from swell.evaluation.features import Array, Standardiser, as_splits, exact_arithmetic
from swell.evaluation.intervals import mean_interval
from swell.evaluation.statistics import summarise
from swell.seeding import generator_for

FEW_LABELS = "swell-few-labels-1"
BUDGETS = ("1%", "10%")
DRAWS = 5


def parse_budgets(text: str | Sequence[str | int]) -> list[str]:
    """`"1%,10%,5"` or `["1%", 5]` as `["1%", "10%", "5"]`: shares of the labels, and whole numbers of labels a class.

    Raises:
        InputError: none, one twice, or one that is neither.
    """
    given = [str(part).strip() for part in (text.split(",") if isinstance(text, str) else text)]
    for budget in given:
        try:
            right = 0 < float(budget[:-1]) <= 100 if budget.endswith("%") else int(budget) >= 1
        except ValueError:
            right = False
        if not right:
            raise InputError(f"few labels {budget!r}", "a share such as 1% or a number a class such as 5")
    if not given or len(set(given)) < len(given):
        raise InputError(f"few labels {','.join(given)!r}", "each of them once", "give --few-labels 1%,10%")
    return given


def rows_of(y: Tensor, budget: str, draw: int, seed: int = 0) -> Tensor:
    """Rows of `y` [n] that have a label: of every class its share, at least one row, or so many as there are.

    Depends on `y`, the draw and the seed only; within a draw smaller budgets are parts of larger ones.
    """
    taken = []
    for c in torch.unique(y).tolist():
        rows = (y == c).nonzero()[:, 0].cpu()
        rows = rows[torch.randperm(len(rows), generator=generator_for(seed, "few labels", draw, int(c)))]
        share = float(budget[:-1]) / 100 * len(rows) if budget.endswith("%") else int(budget)
        taken.append(rows[: max(1, int(share + 0.5))])
    return torch.cat(taken).to(y.device)


def few_labels(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    budgets: str | Sequence[str | int] = BUDGETS,
    *,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `evaluation.json` holds under "few_labels", and per budget the share of draws, float32 [m], in which each
    test row was named correctly.

    Under "budgets" each has its mean "accuracy" over draws of the labels, their "sd", the "interval" over test rows and
    "n_labels". Features are standardised with all train rows, which takes no labels.

    Raises:
        InputError: what the probe and `parse_budgets` refuse.
    """
    names = parse_budgets(budgets)
    train, test, classes = as_splits(train_x, train_y, test_x, test_y)
    started = time.perf_counter()
    found: dict[str, Any] = {}
    shares: dict[str, np.ndarray] = {}
    with exact_arithmetic(), Progress("few labels", len(names) * DRAWS, "fits") as bar:
        standardise = Standardiser.fit(train.x)
        x, queries = standardise(train.x), standardise(test.x)
        for name in names:
            accuracies, total = [], np.zeros(len(test.x))
            for draw in range(DRAWS):
                rows = rows_of(train.y, name, draw, seed)
                fit, _ = logistic.choose_and_fit(x[rows], train.y[rows], len(classes), seed)
                right = (fit.predict(queries) == test.y).cpu().numpy()
                accuracies.append(float(right.mean()))
                total += right
                bar.update(bar.done + 1)
            mean, sd = summarise(accuracies)
            shares[name] = (total / DRAWS).astype(np.float32)
            found[name] = {
                "accuracy": mean,
                "sd": sd,
                "interval": mean_interval(total / DRAWS, seed),
                "n_labels": len(rows),
                "draws": DRAWS,
            }
    settings = {"draws": DRAWS, "features": "standardised with all train rows", "seed": seed}
    told = {"protocol": FEW_LABELS, "budgets": found, "seconds": time.perf_counter() - started, "settings": settings}
    return told, shares
