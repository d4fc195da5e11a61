"""From features to a flat map of them: who is nearest to whom, and t-SNE of that graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import fft
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from swell.evaluation.features import unit_rows
from swell.evaluation.knn import TEST_ROWS, neighbours

NEIGHBOURS = 15  # of each sample in the graph
PULL, EARLY, ITERATIONS = 12.0, 80, 350  # attraction times that for the first `EARLY` steps, so that kinds gather
SPACING = 0.5  # of the grid that repulsion is summed on, in units of the kernel's width
FEWEST_NODES, GROWTH = 32, 1.1  # along a side of it; by which factor it grows


@dataclass(frozen=True, eq=False)
class Projection:
    """Of n samples: places xy float32 [n, 2], and the `near` int64 [n, k] nearest of the others, nearest first."""

    xy: np.ndarray
    near: np.ndarray


def project(features: np.ndarray) -> Projection:
    """Features [n, D] -> the map. NaN and infinite values count as 0; equal features give the same map.

    Nearness is the cosine, as for the kNN probe. Places are t-SNE (van der Maaten & Hinton 2008) of the graph of the
    nearest neighbours, each with equal weight, begun at the first two principal components. Fewer than ten rows, or
    features with fewer than two directions, get these components themselves.
    """
    x = np.nan_to_num(np.asarray(features, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if len(x) < 2:
        return Projection(np.zeros((len(x), 2), np.float32), np.zeros((len(x), 0), np.int64))
    x = x / max(float(np.abs(x).max(initial=0.0)), 1e-30)  # so that the squares of tiny values stay above 0
    with threadpool_limits(1):  # sums over threads have no fixed order
        near = nearest_of_others(x, NEIGHBOURS)
        flat, directions = _components(x)
        if len(x) < 10 or directions < 2:
            return Projection(flat, near)
        return Projection(tsne(near[:, : max(2, len(x) // 3)], flat), near)


def nearest_of_others(x: np.ndarray, k: int) -> np.ndarray:
    """The rows int64 [n, k] of the k nearest others of each of x [n, D] by the cosine; k shrinks to n - 1."""
    unit = unit_rows(torch.from_numpy(np.nan_to_num(np.ascontiguousarray(x, np.float32), posinf=0.0, neginf=0.0)))
    k = min(k, len(x) - 1)
    found = []
    for start in range(0, len(unit), TEST_ROWS):
        rows = unit[start : start + TEST_ROWS]
        index = neighbours(unit, rows, k + 1)[1].numpy()
        own = index == np.arange(start, start + len(rows))[:, None]
        own[~own.any(1), -1] = True  # among many equals a row may miss itself: then the last one goes
        found.append(index[~own].reshape(len(rows), k))
    return np.concatenate(found)


def _components(x: np.ndarray) -> tuple[np.ndarray, int]:
    """The first two principal components float32 [n, 2], and how many directions x [n, D] has (2 for more)."""
    flat = np.zeros((len(x), 2), np.float32)
    centred = x - x.mean(0)
    few = min(2, *x.shape)
    if centred.any():
        flat[:, :few] = PCA(few, random_state=0).fit_transform(centred)
    spread = flat.std(0)
    return flat, int((spread > 1e-6 * spread.max(initial=1e-30)).sum())


def tsne(near: np.ndarray, start: np.ndarray, iterations: int = ITERATIONS) -> np.ndarray:
    """Places float32 [n, 2] of a graph of neighbours [n, k], begun at those of `start`.

    Gradient descent with momentum and a gain a number, the step n / attraction (Belkina et al. 2019).
    """
    n = len(near)
    ends = np.arange(0, near.size + 1, near.shape[1])
    graph = csr_array((np.ones(near.size, np.float32), near.ravel(), ends), (n, n))
    graph = (graph + graph.T).tocsr()
    weights, first = graph.data / graph.data.sum(), graph.indptr[:-1]  # of each row's edges; every row has some
    rows, others = np.repeat(np.arange(n), np.diff(graph.indptr)), graph.indices
    y = (start / max(float(start[:, 0].std()), 1e-30) * 1e-4).astype(np.float32)
    step, gain = np.zeros_like(y), np.ones_like(y)
    for i in range(iterations):
        pull, momentum = (PULL, 0.5) if i < EARLY else (1.0, 0.8)
        dx, dy = (column[rows] - column[others] for column in np.ascontiguousarray(y.T))
        w = weights / (1 + dx * dx + dy * dy)
        attraction = np.stack([np.add.reduceat(w * d, first) for d in (dx, dy)], 1)
        gradient = pull * attraction - repulsion(y)
        gain = np.maximum(np.where(step * gradient < 0, gain + 0.2, gain * 0.8), 0.01)
        step = momentum * step - n / pull * gain * gradient
        y = y + step
        y -= y.mean(0)
    return y.astype(np.float32)


def repulsion(y: np.ndarray, spacing: float = SPACING) -> np.ndarray:
    """sum_j (y_i - y_j) q_ij^2 / sum_kl q_kl with q_ij = 1 / (1 + |y_i - y_j|^2), for places y [n, 2].

    Points are spread over the nodes of a grid, summed there by convolution and read off again (after Linderman et al.
    2019, arXiv 1712.09005), so the cost grows with n and not with its square.
    """
    span = max(float(np.ptp(y, axis=0).max()), 1e-6)
    span = GROWTH ** math.ceil(math.log(span, GROWTH))  # the same for many steps, and so are the kernels
    nodes = max(FEWEST_NODES, int(span / spacing) + 2)
    h = span / (nodes - 2)
    place = (y - y.min(0)) / h
    cell = place.astype(np.int64)
    share = (place - cell).astype(np.float32)
    u = np.stack([1 - share, share])  # [2, n, 2]
    around = [(a, b) for a in (0, 1) for b in (0, 1)]
    corners = [(cell[:, 0] + a) * nodes + cell[:, 1] + b for a, b in around]
    parts = [u[a, :, 0] * u[b, :, 1] for a, b in around]  # of each point's mass, [n] a corner
    mass = sum(np.bincount(c, p, nodes * nodes) for c, p in zip(corners, parts, strict=True))
    size = fft.next_fast_len(2 * nodes, real=True)
    spectrum = fft.rfft2(np.reshape(mass, (nodes, nodes)).astype(np.float32), (size, size))

    def summed(kernel: np.ndarray) -> np.ndarray:
        field = fft.irfft2(kernel * spectrum, (size, size))[:nodes, :nodes].ravel()
        return np.asarray(sum(p * field[c] for c, p in zip(corners, parts, strict=True)))

    total, along, across = _kernels(size, h)
    itself = sum(
        float(p @ r) / (1 + h * h * ((a - c) ** 2 + (b - e) ** 2))
        for p, (a, b) in zip(parts, around, strict=True)
        for r, (c, e) in zip(parts, around, strict=True)
    )  # which is no repulsion
    return np.stack([summed(along), summed(across)], 1) / max(float(summed(total).sum()) - itself, 1e-12)


@lru_cache(maxsize=1)
def _kernels(size: int, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transforms of q, and of d q^2 along both axes, on a grid of `size` nodes a side, h apart, that wraps around."""
    steps = np.arange(size)
    d = (np.minimum(steps, size - steps) * np.sign(size / 2 - steps) * h).astype(np.float32)
    q = 1 / (1 + d[:, None] ** 2 + d[None] ** 2)
    along = d[:, None] * q * q
    return fft.rfft2(q), fft.rfft2(along), fft.rfft2(np.ascontiguousarray(along.T))
