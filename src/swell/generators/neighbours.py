"""Nearest neighbours in blocks: which training sample a generated one resembles most, and whether it is a copy.

Memory grows with the number of queries and of base rows, never with their product.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swell.largest import largest

COMPARED_SIDE = 32  # larger images are averaged down to this before they are compared
QUERIES, BASE = 1024, 8192  # rows compared at once

AROUND = 20  # nearest training samples, whose mean distance is the yardstick for the nearest one's
LOW_QUANTILE = 0.01
FEWEST_BELOW = 5  # values at or below a low quantile, however few there are


def nearest(queries: Tensor, base: Tensor, k: int = 1, *, among_themselves: bool = False) -> tuple[Tensor, Tensor]:
    """For every row of `queries` [N, D] its k nearest rows of `base` [M, D], on their device.

    Returns indices int64 [N, k] and Euclidean distances float32 [N, k], nearest first; k shrinks to what
    there is. With `among_themselves`, `base` is `queries` and no row is its own neighbour.
    """
    k = min(k, len(base) - among_themselves)
    return _search(queries.float(), (block.float() for block in base.split(BASE)), k, among_themselves)


def nearest_real(
    generated: np.ndarray, real: np.ndarray, k: int = 1, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """For every generated sample its k nearest real ones: indices int64 [N, k] and distances float32 [N,
    k], nearest first.

    The distance is the root mean square difference over values: of bytes for images (averaged down to 32
    pixels a side where they are larger), in standard deviations of the real samples for vectors.
    """
    values = values_of(real)
    queries = values(generated).to(device)
    blocks = (values(real[start : start + BASE]).to(device) for start in range(0, len(real), BASE))
    index, distance = _search(queries, blocks, min(k, len(real)), False)
    return index.cpu().numpy(), (distance / math.sqrt(queries.shape[1])).cpu().numpy()


def nearest_pairs(generated: np.ndarray, train: np.ndarray, count: int) -> np.ndarray:
    """The `count` generated samples closest to any training sample, closest first, for pictures: int64
    [count, 2], rows (index into generated, index into train). Distance as in `nearest_real`.
    """
    index, distance = nearest_real(generated, train)
    closest = np.argsort(distance[:, 0], kind="stable")[:count]
    return np.stack([closest, index[closest, 0]], 1)


def exact_copies(generated: np.ndarray, real: np.ndarray) -> float:
    """Share of generated samples that equal a real one in every value."""
    known = {_digest(sample) for sample in real}
    return sum(_digest(sample) in known for sample in generated) / len(generated)


def values_of(real: np.ndarray) -> Callable[[np.ndarray], Tensor]:
    """A function from samples to the values they are compared by, float32 [N, D]: images as bytes at 32
    pixels a side at most, vectors in standard deviations of `real`.
    """
    if real.ndim == 2:
        std = real.std(0, dtype=np.float64)
        std[std == 0] = 1
        return lambda samples: torch.from_numpy((samples / std).astype(np.float32))
    return lambda samples: torch.cat(
        [small(torch.from_numpy(np.ascontiguousarray(part))).flatten(1) for part in _parts(samples)]
    )


def small(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] -> float32 of the same values, averaged down to 32 pixels a side at most."""
    x = images.float()
    side = (min(x.shape[2], COMPARED_SIDE), min(x.shape[3], COMPARED_SIDE))
    return x if side == x.shape[2:] else F.adaptive_avg_pool2d(x, side)


def closeness(distances: Tensor) -> Tensor:
    """Distances to the nearest training samples [N, k], nearest first -> nearest / mean of all, [N]; 0 for a
    copy, 1 where none stands out.

    After Carlini et al. 2023 (arXiv 2301.13188), section 4. The bare distance to the nearest would suspect what
    is merely blurred or pale, as that lies nearer to everything.
    """
    return torch.nan_to_num(distances[:, 0] / distances.mean(1), nan=0.0)


@dataclass(frozen=True)
class CopyTest:
    """Whether samples lie suspiciously close to a training sample, in one feature space.

    The threshold t is a low quantile of the `closeness` of unseen real samples: real data hold near-duplicates
    too, so only more of them than among unseen real samples is suspicious. The quantile is 1 %, or as much more
    as leaves `fewest` unseen samples at t or below: more of them make t surer, fewer keep more of what is new.
    """

    train: Tensor  # [M, D] features of the training samples
    threshold: float  # t
    unseen_below: float  # share of unseen real samples at t or closer

    @classmethod
    def fit(cls, train: Tensor, held_out: Tensor, fewest: int = FEWEST_BELOW) -> Self:
        """train [M, D], held_out [N, D] features."""
        return cls(train, *low_quantile(closeness(nearest(held_out, train, AROUND)[1]), fewest))

    def suspects(self, features: Tensor) -> Tensor:
        """features [N, D] -> bool [N]: at t or closer to a training sample."""
        return closeness(nearest(features, self.train, AROUND)[1]) <= self.threshold


def low_quantile(values: Tensor, fewest: int = FEWEST_BELOW) -> tuple[float, float]:
    """The threshold t of values [N], their 1 % quantile or their `fewest`-th, and the share of them that is
    not above t.
    """
    count = min(max(fewest, math.ceil(LOW_QUANTILE * len(values))), len(values))
    t = values.kthvalue(count).values
    return float(t), float((values <= t).double().mean())


def _search(queries: Tensor, blocks: Iterable[Tensor], k: int, among_themselves: bool) -> tuple[Tensor, Tensor]:
    """Indices [N, k] and Euclidean distances [N, k] of the nearest rows of all blocks [m, D]."""
    index = queries.new_zeros(len(queries), k, dtype=torch.int64)
    squared = queries.new_full((len(queries), k), torch.inf, dtype=torch.float32)
    at = 0
    for block in blocks:
        norms = block.square().sum(1)  # [m]
        for start in range(0, len(queries), QUERIES):
            rows = slice(start, start + QUERIES)
            q = queries[rows]
            near = torch.addmm(norms, q, block.T, beta=-1, alpha=2)  # [n, m], minus the squared distance, but for |q|^2
            if among_themselves:
                own = torch.arange(start, start + len(q), device=q.device) - at
                inside = (own >= 0) & (own < len(block))
                near[inside.nonzero()[:, 0], own[inside]] = -torch.inf
            value, where = largest(near, k)  # [n, k]
            exact = torch.stack([(q - block[column]).square().sum(1) for column in where.T], 1)  # a copy gets exactly 0
            exact[value.isinf()] = torch.inf
            squared[rows], chosen = torch.cat([squared[rows], exact], 1).topk(k, dim=1, largest=False)
            index[rows] = torch.cat([index[rows], where + at], 1).gather(1, chosen)
        at += len(block)
    return index, squared.sqrt()


def _parts(samples: np.ndarray) -> Iterator[np.ndarray]:
    return (samples[start : start + 1024] for start in range(0, len(samples), 1024))


def _digest(sample: np.ndarray) -> bytes:
    return hashlib.blake2b(sample.tobytes(), digest_size=16).digest()
