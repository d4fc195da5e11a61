"""Accuracy with a handful of labelled rows per class, averaged over many draws.

Classifier: ridge regression to one-hot targets without intercept, on standardised features of unit length,
penalty 1. With one row per class it is close to the nearest class mean, with more it uses the covariance as
well; its closed form makes fifty draws one batch of small linear systems.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from swell.seeding import generator_for

RIDGE = 1.0
DRAWS = 50
_CHUNK = 1 << 24  # numbers in one block of scores: 64 MiB


def draw_rows(y: Tensor, shots: int, draws: int, seed: int) -> Tensor:
    """Rows [draws, S]: of every class `shots` rows without replacement, or all it has.

    Depends on `y` and the seed only. The rows of fewer shots are among the rows of more shots of the same
    draw.
    """
    groups = [(y == c).nonzero()[:, 0].cpu() for c in torch.unique(y).tolist()]
    drawn = []
    for draw in range(draws):
        generator = generator_for(seed, "probe", "few_shot", draw)
        picks = [rows[torch.randperm(len(rows), generator=generator)[:shots]] for rows in groups]
        drawn.append(torch.cat(picks))
    return torch.stack(drawn).to(y.device)


def ridge_weights(z: Tensor, y: Tensor, classes: int) -> Tensor:
    """W [B, D, C] minimising ||Z W - Y||^2 + RIDGE ||W||^2 for B draws: z [B, S, D] float64, y [B, S].

    Solved in the smaller of the two spaces: W = Z^T (Z Z^T + RIDGE)^-1 Y = (Z^T Z + RIDGE)^-1 Z^T Y.
    """
    target = F.one_hot(y, classes).to(z)  # [B, S, C]
    rows, width = z.shape[1:]
    gram = z @ z.mT if rows <= width else z.mT @ z
    gram.diagonal(dim1=-2, dim2=-1).add_(RIDGE)
    factor = torch.linalg.cholesky(gram)
    if rows <= width:
        return z.mT @ torch.cholesky_solve(target, factor)
    return torch.cholesky_solve(z.mT @ target, factor)


def few_shot_hits(
    train: Tensor,
    train_y: Tensor,
    test: Tensor,
    test_y: Tensor,
    classes: int,
    shots: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """Whether each row of `test` [m, D] is named correctly: bool [draws, m], with `shots` rows per class of `train`.

    Both are standardised with train statistics and of unit length; labels lie in 0..classes-1.
    """
    rows = draw_rows(train_y, shots, draws, seed)
    out = []
    batch = max(1, _CHUNK // (rows.shape[1] * max(rows.shape[1], train.shape[1])))
    for index in torch.split(rows, batch):
        weights = ridge_weights(train[index].double(), train_y[index], classes).to(test)  # [B, D, C]
        flat = weights.transpose(0, 1).flatten(1)  # [D, B C]
        size = max(1, _CHUNK // flat.shape[1])
        right = []
        for x, y in zip(torch.split(test, size), torch.split(test_y, size), strict=True):
            scores = (x @ flat).reshape(len(x), len(index), classes)  # [rows, B, C]
            right.append(scores.argmax(2) == y[:, None])
        out.append(torch.cat(right).T)
    return torch.cat(out)


def few_shot(
    train: Tensor,
    train_y: Tensor,
    test: Tensor,
    test_y: Tensor,
    classes: int,
    shots: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """Accuracy [draws] on all of `test`; arguments as for `few_shot_hits`."""
    return few_shot_hits(train, train_y, test, test_y, classes, shots, draws, seed).double().mean(1)
