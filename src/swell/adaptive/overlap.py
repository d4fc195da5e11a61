"""Overlap of views: how often a view lies closer to a view of another sample than to one of its own.

The share falls with the distance between samples and grows with their number and with the strength of the views; after
the augmentation overlap of Wang et al. 2022 (arXiv 2203.13457), whose ACR measures it in the trained encoder under
its own views. Here the encoder is a fixed reference, so that strengths and sets can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.adaptive.divergence import Encode, some
from swell.adaptive.priors import StrengthPrior, effective_size
from swell.errors import InputError
from swell.seeding import generator_for
from swell.views.checks import strength_number
from swell.views.plan import VectorGroup, ViewPlan
from swell.views.render import render

RENDERED = 512  # samples at once
BLOCK = 4096  # views compared with at once
MOST_REAL, MOST_GENERATED = 500, 8000  # of the samples that `overlap_strength` looks at
HALVINGS = 6  # so that the strength is found to 1/64 of the default


@dataclass
class Overlap:
    """Of 2n views with a growing set of others."""

    queries: Tensor  # [2n, d] features
    own: Tensor  # [2n] squared distance to the other view of the same sample
    nearer: Tensor  # [2n] views of other samples that are nearer than that

    @classmethod
    def of(cls, views: Tensor) -> Overlap:
        """views [2, n, d]: two views of each of n samples, which count as others of each other."""
        n = views.shape[1]
        if n < 2:
            raise InputError(f"the overlap of {n} samples", "at least 2")
        flat = views.flatten(0, 1).float()
        found = cls(flat, (flat[:n] - flat[n:]).square().sum(1).repeat(2), flat.new_zeros(2 * n))
        found._count(flat, torch.arange(2 * n, device=flat.device) % n)
        return found

    def add(self, others: Tensor) -> None:
        """Views [M, d] of further samples."""
        self._count(others.to(self.queries), None)

    def _count(self, others: Tensor, sample: Tensor | None) -> None:
        """`sample` [M] says which queries' own views `others` are; None: nobody's."""
        norms = self.queries.square().sum(1)
        for start in range(0, len(others), BLOCK):
            part = others[start : start + BLOCK]
            near = norms[:, None] + part.square().sum(1) - 2 * self.queries @ part.T < self.own[:, None]  # [2n, m]
            if sample is not None:
                near &= sample[:, None] != sample[start : start + BLOCK]
            self.nearer += near.sum(1)

    @property
    def value(self) -> float:
        """Share of the views whose nearest view is another sample's."""
        return float((self.nearer > 0).double().mean())

    @property
    def crowding(self) -> float:
        """Mean of ln(1 + number of views of other samples between a view and its own): goes on where all overlap."""
        return float(self.nearer.double().log1p().mean())


def view_features(samples: np.ndarray, plan: ViewPlan, encode: Encode, seed: int, first: int = 0) -> Tensor:
    """Features [2, n, d] of two views of each sample, from the plan's first group, at the samples' own size.

    The draws of a block of samples depend on the seed and on its first sample's number (`first` is that of samples[0])
    and not on the plan: a sample has the same views at any strength but for the strength, so that differences between
    strengths are not differences between draws.
    """
    group = replace(plan.groups[0], count=2, of="sample")
    if not isinstance(group, VectorGroup):
        group = replace(group, size=None)
    pair, made = replace(plan, groups=(group,)), []
    for start in range(0, len(samples), RENDERED):
        part = torch.from_numpy(np.ascontiguousarray(samples[start : start + RENDERED]))
        draws = generator_for(seed, "adapt", "views", first + start)
        partners = part.roll(1, 0) if pair.mixes else None
        (views,) = render(pair, part, draws, partners)
        seen = (views * 255).round().byte() if pair.of_images else views
        made.append(torch.as_tensor(encode(seen.numpy())).unflatten(0, (2, len(part))))
    return torch.cat(made, 1)


def overlap_strength(
    real: Any,
    generated: Any,
    encode: Encode,
    plan: ViewPlan,
    weight: float | None,
    default: float | str = "strong",
    seed: int = 0,
) -> StrengthPrior:
    """The strength at which views of real samples are as crowded by those of real and generated ones as they are by
    those of real ones alone at the `default` strength.

    More samples lie denser, so as many of them come between two views at weaker strength already; that this number is
    what serves the encoder is our hypothesis. It is counted as `Overlap.crowding` has it, of three ways to count that
    benchmarks/adapt/overlap.py compares the one nearest to the published optima, so these are no proof of it.
    Each set is thinned to as many as 500 real samples and what belongs to them at the mixture's effective size, so that
    only the ratio of the two densities counts. Says no inflation where no strength is weak enough: generated samples
    then lie between a real one and its bare views.

    Args:
        real, generated: [n, ...] and [m, ...], arrays or SparseRows.
        encode: a reference encoder trained on real samples.
        plan: the views at full strength; see `ViewPlan.at_strength`.
        weight: N of the mixture, None without inflation.
    """
    s0, n, m = strength_number(default), len(real), len(generated)
    growth = effective_size(n, m, weight) / n
    if growth <= 1:
        return StrengthPrior(s0, 1.0, weight is not None and m > 0, "overlap", "no more data than the default is for")
    count = max(int(min(MOST_REAL, n, MOST_GENERATED / (growth - 1))), 2)
    a = some(real, count, seed, "real")
    b = some(generated, max(round(count * (growth - 1)), 1), seed, "generated")

    def at(s: float, inflated: bool = True) -> float:
        views = plan.at_strength(s)
        found = Overlap.of(view_features(a, views, encode, seed))
        if inflated:
            found.add(view_features(b, views, encode, seed, 1 + MOST_REAL).flatten(0, 1))
        return found.crowding

    target, low, high = at(s0, inflated=False), 0.0, s0
    told = f"the mixture is worth {growth:.1f} times the real samples"
    if at(0.0) > target:
        reason = f"{told}, but even undistorted ones are crowded more than strong views of real samples alone"
        return StrengthPrior(s0, growth, False, "overlap", reason)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) <= target else (low, middle)
    reason = f"{told}; views at strength {low:.2f} are as crowded by it as strong ones are by the real samples alone"
    return StrengthPrior(low, growth, True, "overlap", reason)
