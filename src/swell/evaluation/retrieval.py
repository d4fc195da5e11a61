"""Retrieval: are the nearest train samples of a test sample of its class? Mean average precision and recall@k.

Queries are test samples, the gallery train samples, likeness the cosine. No classifier is fitted, so it tells how
the features serve search as they are. Queries of a class that the gallery lacks count as found nowhere.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.evaluation.features import Array, as_splits, exact_arithmetic, unit_rows
from swell.evaluation.intervals import mean_interval
from swell.seeding import generator_for

RETRIEVAL = "swell-retrieval-1"
AT = (1, 5, 10)
MOST_QUERIES, MOST_GALLERY = 10_000, 100_000  # of more, so many are drawn, the same for every arm
_CHUNK = 1 << 22  # cosines at a time
_STEPS = 1 << 24  # cosines are told apart to 1 / _STEPS, about what float32 products are good for


def retrieval(
    train_x: Array, train_y: Array, test_x: Array, test_y: Array, *, seed: int = 0
) -> tuple[dict[str, Any], np.ndarray | None]:
    """What `evaluation.json` holds under "retrieval", and the average precision float32 [m] of each test row.

    "map" is the mean over queries of the average precision over the whole gallery, "recall" the share of queries with
    one of their class or more among the k nearest, under "1", "5" and "10"; all with intervals over queries. The
    average precisions are None where only a part of the test rows were queries.

    Raises:
        InputError: what the probe refuses.
    """
    train, test, _ = as_splits(train_x, train_y, test_x, test_y)
    started = time.perf_counter()
    gallery = _drawn(len(train.x), MOST_GALLERY, seed, "gallery").to(train.x.device)
    queries = _drawn(len(test.x), MOST_QUERIES, seed, "queries").to(train.x.device)
    with exact_arithmetic():
        precision, first = ranked(
            unit_rows(test.x[queries]), test.y[queries], unit_rows(train.x[gallery]), train.y[gallery]
        )
    found = {str(k): first <= k for k in AT}
    result = {
        "protocol": RETRIEVAL,
        "map": float(precision.mean()),
        "interval": mean_interval(precision, seed),
        "recall": {k: float(hit.mean()) for k, hit in found.items()},
        "recall_interval": {k: mean_interval(hit, seed) for k, hit in found.items()},
        "queries": len(queries),
        "gallery": len(gallery),
        "seconds": time.perf_counter() - started,
        "settings": {
            "features": "unit length",
            "likeness": "cosine",
            "most_queries": MOST_QUERIES,
            "most_gallery": MOST_GALLERY,
            "seed": seed,
        },
    }
    return result, precision.astype(np.float32) if len(queries) == len(test.x) else None


def ranked(queries: Tensor, query_y: Tensor, gallery: Tensor, gallery_y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Average precision float64 [q], and the rank [q] of the first of the same class (infinite without one).

    `queries` [q, D] and `gallery` [n, D] are unit rows. Equally near rows share a place: precision is taken after all
    of them, as scikit-learn takes it, so collapsed features score the share of the class and no more. For the rank of
    the first, equals of another class come before.
    """
    precision, first = np.zeros(len(queries)), np.full(len(queries), np.inf)
    size = max(1, _CHUNK // len(gallery))
    rank = torch.arange(1, len(gallery) + 1, device=gallery.device)
    with Progress("retrieval", len(queries), "queries") as bar:
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            near = ((queries[block] @ gallery.T).clamp(-1, 1) + 1).mul_(_STEPS).int()  # [b, n], at most 2^25
            other = (gallery_y != query_y[block, None]).int()
            key = _descending(near.mul_(2).add_(other))  # nearness first, then whether it is of another class
            hits = (1 - (key & 1)).cumsum(1)  # [b, n] of the same class up to each rank
            near = key >> 1
            last = torch.ones_like(near, dtype=torch.bool)  # of those that are equally near
            last[:, :-1] = near[:, 1:] != near[:, :-1]
            row, place = last.nonzero(as_tuple=True)
            there = hits[row, place]
            before = torch.cat([there.new_zeros(1), there[:-1]])
            before[torch.cat([row.new_ones(1), row.diff()]) > 0] = 0  # each row begins anew
            share = (there - before).double() * there / rank[place]
            total = hits[:, -1].double()
            sums = torch.zeros(len(hits), dtype=torch.float64, device=hits.device).index_add_(0, row, share)
            precision[block] = (sums / total.clamp_min(1)).cpu().numpy()
            found = (hits == 0).sum(1).double() + 1
            first[block] = torch.where(total > 0, found, torch.inf).cpu().numpy()
            bar.update(min(start + size, len(queries)))
    return precision, first


def _descending(key: Tensor) -> Tensor:
    """Rows of `key` [b, n] from large to small; NumPy sorts whole numbers many times faster than torch on a CPU."""
    if key.device.type == "cpu":
        a = key.numpy()
        a.sort(axis=1)
        return key.flip(1)
    return key.sort(1, descending=True).values


def _drawn(n: int, most: int, seed: int, what: str) -> Tensor:
    """All n rows, or `most` of them, ascending."""
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=generator_for(seed, "retrieval", what))[:most].sort().values
