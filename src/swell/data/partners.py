"""Partners: for every sample of the real source another one that means the same, to make a view of or to mix with.

    partners = Neighbours(source, k=15)                  # the k nearest samples of each
    y = partners.draw(rows, generator_for(seed, "partners", t))

Near neighbours are positives that need no generator: DiffAug's hand-made views of vectors mix with them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from swell.data.source import Source
from swell.errors import InputError
from swell.largest import largest_of
from swell.ranks import Ranks
from swell.seeding import generator_for

if TYPE_CHECKING:
    from swell.data.sparse import SparseRows

    Held = Tensor | SparseRows

K, COMPONENTS = 15, 50  # neighbours of each sample, and principal components that distances are measured in
ROUNDS, SPARE = 4, 10  # of the search for components: passes over the data, and directions more than are wanted
QUERIES, BASE = 1024, 16_384  # rows compared at once
BLOCK = 1 << 22  # numbers of samples that are dense at once: 16 MiB


class Partners(Protocol):
    """A source of partners. What is drawn depends on the rows and the generator only."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One partner of each of the real samples `rows`, int64 [B]: [B, ...], of the samples' dtype and shape."""
        ...


class Neighbours:
    """The k nearest other samples of each, of which `draw` takes one at random, all alike.

    Exact in the space they are looked for: the first `pca` principal components of wider samples, else the samples
    themselves (images as pixels). Memory grows with N k and with the blocks compared, never with N^2.
    """

    def __init__(
        self,
        source: Source,
        k: int = K,
        pca: int = COMPONENTS,
        device: torch.device | str = "cpu",
        held: Held | None = None,
    ) -> None:
        """Args:
            k: neighbours of each sample; fewer where there are not so many other samples.
            device: where to search, and where indices and partners are kept.
            held: the samples where the caller has them on the device already.

        Raises:
            InputError: k or pca below 1, fewer than two samples.
        """
        for name, value in (("k", k), ("pca", pca)):
            if value < 1:
                raise InputError(f"{name} {value} of neighbours", "at least 1")
        if len(source) < 2:
            raise InputError(f"{len(source)} sample", "at least 2 for a neighbour")
        self.held = held_samples(source.samples) if held is None else held
        begun = time.perf_counter()
        codes = Components.fit(source.samples, pca, device)(source.samples)
        self.index = nearest_others(codes, min(k, len(source) - 1))  # int64 [N, k], nearest first
        self.seconds = time.perf_counter() - begun  # of the search, for the ledger

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        which = torch.randint(self.index.shape[1], (len(rows),), generator=generator)
        device = self.index.device
        return take(self.held, self.index[rows.to(device), which.to(device)])


class OfFirst:
    """Partners that the first rank draws for all, so that only it need hold them."""

    def __init__(self, partners: Partners | None, source: Source, ranks: Ranks) -> None:
        """`partners` of the samples of `source` on the first rank; on the others they are not looked at."""
        self.partners, self.ranks = partners, ranks
        self.like = torch.from_numpy(np.asarray(source.samples[:1]))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.ranks.first:
            assert self.partners is not None
            drawn = self.partners.draw(rows, generator).cpu()
        else:
            drawn = self.like.new_empty(len(rows), *self.like.shape[1:])
        self.ranks.share([drawn])
        return drawn


def held_samples(samples: np.ndarray | SparseRows) -> Held:
    """Samples as the training loop takes rows from them, in host memory and without a copy where that can be."""
    return torch.from_numpy(np.ascontiguousarray(samples)) if isinstance(samples, np.ndarray) else samples


def take(held: Held, rows: Tensor) -> Tensor:
    """The samples `rows`, int64 [B], of a tensor (on its device) or of sparse rows (dense then)."""
    if isinstance(held, Tensor):
        return held.index_select(0, rows.to(held.device))
    return held.take(rows)


@dataclass(frozen=True)
class Components:
    """Projection on principal components: a centre [D] and directions [D, c], or none where there are no more than c.

    Found by subspace iteration (Halko et al. 2011, arXiv 0909.4061, algorithm 4.4) from a fixed start: a few passes
    over the data, a block at a time, so that sparse samples are never dense as a whole. Exact where samples or features
    are hardly more than the components; beyond, as close as scikit-learn's own solver for wide data.
    """

    centre: Tensor
    directions: Tensor | None

    @classmethod
    def fit(cls, samples: np.ndarray | SparseRows, count: int, device: torch.device | str = "cpu") -> Components:
        """The first `count` components of samples [N, ...]."""
        n, d = len(samples), math.prod(samples.shape[1:])
        centre = (torch.stack([x.double().sum(0) for x in _blocks(samples, device)]).sum(0) / n).float()
        if d <= count:
            return cls(centre, None)
        start = torch.randn(d, min(count + SPARE, n, d), generator=generator_for(0, "principal components"))
        basis = torch.linalg.qr(start.to(device)).Q  # [D, c]
        for _ in range(ROUNDS):
            product = torch.zeros_like(basis)
            for x in _blocks(samples, device):
                x = x - centre
                product += x.T @ (x @ basis)
            basis = torch.linalg.qr(product).Q
        codes = cls(centre, basis)(samples).double()
        turn = torch.linalg.eigh(codes.T @ codes).eigenvectors.flip(1)[:, :count]
        return cls(centre, basis @ turn.float())

    def __call__(self, samples: np.ndarray | SparseRows) -> Tensor:
        """Samples [N, ...] -> float32 [N, c], centred."""
        centred = (x - self.centre for x in _blocks(samples, self.centre.device))
        return torch.cat([x if self.directions is None else x @ self.directions for x in centred])


def _blocks(samples: np.ndarray | SparseRows, device: torch.device | str) -> Iterator[Tensor]:
    """Samples as float32 [n, D], a few at a time."""
    step = max(1, BLOCK // math.prod(samples.shape[1:]))
    for start in range(0, len(samples), step):
        part = torch.tensor(samples[start : start + step], device=device)
        yield part.flatten(1).float()


def nearest_others(codes: Tensor, k: int) -> Tensor:
    """Indices int64 [N, k] of the k nearest other rows of `codes` [N, d] by Euclidean distance, nearest first."""
    squares = codes.square().sum(1)
    held = codes.new_empty(min(len(codes), QUERIES), min(len(codes), BASE))  # one block for all

    def nearness(first: int, start: int) -> Tensor:
        """2 q.b - |b|^2 of queries and base rows [n, m] from there on: minus the squared distance, but for |q|^2, which
        is the same for a whole row; least where a row meets itself."""
        queries, base = codes[first : first + QUERIES], codes[start : start + BASE]
        near = held[: len(queries), : len(base)]
        torch.addmm(squares[start : start + BASE], queries, base.T, beta=-1, alpha=2, out=near)
        own = torch.arange(first, first + len(queries), device=codes.device) - start
        here = (own >= 0) & (own < len(base))
        near[here.nonzero()[:, 0], own[here]] = -torch.inf
        return near

    found = []
    for first in range(0, len(codes), QUERIES):
        found.append(largest_of((nearness(first, start) for start in range(0, len(codes), BASE)), k)[1])
    return torch.cat(found)
