"""Cosine k-nearest neighbours with weighted votes, after Wu et al. 2018 (arXiv 1805.01978)."""

from __future__ import annotations

import torch
from torch import Tensor

from swell.evaluation.features import unit_rows
from swell.largest import largest_of

TEST_ROWS, TRAIN_ROWS = 2048, 4096  # one block of similarities: 32 MiB, for the most part in the processor's cache


def neighbours(train: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines [m, k] and rows [m, k] of the k nearest of `train` [n, D] to `queries` [m, D], both unit rows.

    Never more than one block of similarities in memory. Which of several equally near rows is taken is left open: only
    then does the order of the train rows matter.
    """
    held = queries.new_empty(len(queries), min(len(train), TRAIN_ROWS))  # one block for all: new memory is slow memory
    blocks = (torch.mm(queries, part.T, out=held[:, : len(part)]) for part in train.split(TRAIN_ROWS))
    return largest_of(blocks, k)


def votes(
    train: Tensor, labels: Tensor, queries: Tensor, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes [m, classes] float64 for `queries` [m, D]: exp((cosine - 1) / temperature) from each neighbour.

    `train` [n, D] and `queries` are brought to unit length here; `k` is capped at n; `labels` [n] lie in
    0..classes-1.
    """
    train, k = unit_rows(train), min(k, len(train))
    out = torch.zeros(len(queries), classes, dtype=torch.float64, device=train.device)
    for rows, part in zip(torch.split(queries, TEST_ROWS), torch.split(out, TEST_ROWS), strict=True):
        cosine, index = neighbours(train, unit_rows(rows), k)
        part.scatter_add_(1, labels[index], ((cosine.double() - 1) / temperature).exp())
    return out
