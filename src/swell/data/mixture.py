"""The mixture: which real and which generated samples batch t of a run holds.

Inflation (AdaInf, arXiv 2403.12448): one real sample counts as N generated ones, so the share of real draws is
beta = N n / (N n + m) for n real and m generated samples. Nothing is copied N times: every batch draws its share, so
any real-valued N works, memory does not grow, and an image never meets its own copy as a negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.seeding import generator_for

WINDOW = 64  # blocks among which samples are shuffled


def real_share(n: int, m: int, weight: float) -> float:
    """beta = N n / (N n + m); 1 without generated samples."""
    return weight * n / (weight * n + m) if m else 1.0


class Stream:
    """Draws k = 0, 1, 2, ... from `n` samples: a fresh permutation every epoch, addressable by k.

    A window of up to `batch` consecutive draws never holds a sample twice, also where it crosses from one permutation
    into the next: there the head of the new permutation is cleared of what the tail of the old one holds. Sets
    smaller than three batches cannot afford that; their windows are independent random subsets.

    With `blocks`, the first sample of each run of neighbours, int64 [K], an epoch is a permutation of blocks, cut into
    windows of `WINDOW` of them in each of which all samples are shuffled: what is read at about the same time lies in
    few places of a disk.
    """

    def __init__(self, n: int, batch: int, seed: int, name: str, blocks: np.ndarray | None = None) -> None:
        self.n, self.batch, self.seed, self.name, self.blocks = n, batch, seed, name, blocks
        self._epochs: dict[int, Tensor] = {}  # the last two: batches are prepared across the border

    def draws(self, first: int, last: int, t: int) -> Tensor:
        """Indices [last - first] of draws first..last-1, which belong to batch t."""
        count = last - first
        if self.n < 3 * self.batch:
            return self.subset(count, t)
        epoch, at = divmod(first, self.n)
        here = self._permutation(epoch)[at : at + count]
        if len(here) == count:
            return here
        return torch.cat([here, self._permutation(epoch + 1)[: count - len(here)]])

    def subset(self, count: int, t: int) -> Tensor:
        """`count` random indices that belong to batch t and to no running order; none twice while there are enough."""
        g = generator_for(self.seed, self.name, "batch", t)
        rounds = math.ceil(count / self.n) if count else 0
        return torch.cat(
            [torch.empty(0, dtype=torch.long), *(torch.randperm(self.n, generator=g) for _ in range(rounds))]
        )[:count]

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            order = self._raw(epoch)
            if epoch:
                order = self._clear_head(order, self._raw(epoch - 1)[-self.batch :])
            kept = list(self._epochs.items())[-1:]
            self._epochs = {**dict(kept), epoch: order}
        return self._epochs[epoch]

    def _raw(self, epoch: int) -> Tensor:
        g = generator_for(self.seed, self.name, "epoch", epoch)
        if self.blocks is None:
            return torch.randperm(self.n, generator=g)
        ends = np.append(self.blocks[1:], self.n)
        parts = []
        for some in torch.randperm(len(self.blocks), generator=g).split(WINDOW):
            window = torch.cat([torch.arange(self.blocks[k], ends[k]) for k in some.tolist()])
            parts.append(window[torch.randperm(len(window), generator=g)])
        return torch.cat(parts)

    def _clear_head(self, order: Tensor, tail: Tensor) -> Tensor:
        """Swap what `tail` holds out of the first `batch` places, into the middle; the last `batch` places stay raw.

        Because the tail of every epoch stays raw, an epoch depends on its predecessor's raw order alone and not on all
        epochs before.
        """
        b = self.batch
        clash = torch.isin(order, tail)
        head = clash[:b].nonzero().flatten()
        free = (~clash[b : self.n - b]).nonzero().flatten()[: len(head)] + b
        head = head[: len(free)]
        order = order.clone()
        order[head], order[free] = order[free], order[head].clone()
        return order


@dataclass(frozen=True)
class Draw:
    """Indices of one batch: real rows first, then generated ones."""

    real: Tensor
    generated: Tensor


class Mixture:
    """Batch t of the run with `seed`, a pure function of both.

    `stratified`: batch t holds floor((t+1) beta B) - floor(t beta B) real samples, so shares are exact over a run for
    any beta. `bernoulli`: every slot is real with probability beta.
    """

    def __init__(
        self,
        n: int,
        m: int,
        *,
        batch: int,
        weight: float = 1.0,
        seed: int = 0,
        mixing: str = "stratified",
        blocks: np.ndarray | None = None,
    ) -> None:
        if not (weight > 0 and math.isfinite(weight)):
            raise InputError(f"weight {weight}", "a finite number above 0", "give --weight 10")
        if batch < 2:
            raise InputError(f"batch size {batch}", "at least 2")
        if mixing not in ("stratified", "bernoulli"):
            raise InputError(f"mixing {mixing!r}", "stratified or bernoulli")
        self.batch, self.seed, self.mixing = batch, seed, mixing
        self.beta = real_share(n, m, weight)
        self._real = Stream(n, batch, seed, "real", blocks)
        self._generated = Stream(m, batch, seed, "generated")

    def reals_before(self, t: int) -> int:
        """Real draws in batches 0..t-1 (stratified mixing)."""
        return math.floor(t * self.beta * self.batch + 1e-9)

    def __call__(self, t: int) -> Draw:
        b = self.batch
        if self.mixing == "bernoulli":
            k = int((torch.rand(b, generator=generator_for(self.seed, "mix", t)) < self.beta).sum())
            # Independent shares leave no running position to address: each batch is a random subset of its own.
            return Draw(self._real.subset(k, t), self._generated.subset(b - k, t))
        first, last = self.reals_before(t), self.reals_before(t + 1)
        real = self._real.draws(first, last, t)
        if last - first == b:
            return Draw(real, torch.empty(0, dtype=torch.long))
        return Draw(real, self._generated.draws(t * b - first, (t + 1) * b - last, t))
