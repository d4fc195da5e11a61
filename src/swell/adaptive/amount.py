"""How many generated samples are enough: drawing stops where more of them change nothing.

Two curves over the number m of generated samples, both against the real data alone and without labels:

- coverage: the share of held-out real samples that have a generated one nearer than any training sample. Were the
  generated samples drawn from the true distribution it would be m / (m + n) with n training samples, whatever that
  distribution: each of the n + m is the nearest equally often. Copies never count, and what misses a region stays below
  1 for good.
- overlap: how often two views of a real sample lie further apart than a view of another sample, real or generated.

Enough is where neither grows by a point as m doubles. The rule is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from swell.adaptive.divergence import Encode, some
from swell.adaptive.overlap import Overlap, view_features
from swell.errors import InputError
from swell.generators.neighbours import nearest
from swell.views.plan import ViewPlan

Draw = Callable[[int, int], np.ndarray]  # count, first -> samples first .. first + count - 1 of one endless sequence
TOLERANCE = 0.01
MOST_HELD_OUT, MOST_OVERLAPPING = 4096, 1000
BLOCK = 4096  # generated samples looked at together
LARGEST = 1_000_000


@dataclass(frozen=True)
class Point:
    """What `count` generated samples reach."""

    count: int
    coverage: float
    overlap: float


@dataclass(frozen=True)
class Amount:
    """`count` samples are enough, or all that were allowed where not `saturated`."""

    count: int
    saturated: bool
    curve: tuple[Point, ...]
    reason: str


def most_samples(n: int) -> int:
    """As many as are ever asked for: 20 for each of `n` real samples, as AdaInf has, and a million at most."""
    return min(20 * n, LARGEST)


def saturated(curve: Sequence[Point], tolerance: float = TOLERANCE) -> bool:
    """Whether the last doubling raised neither coverage nor overlap by more than `tolerance`."""
    if len(curve) < 2:
        return False
    a, b = curve[-2:]
    doublings = math.log2(b.count / a.count)
    return max(b.coverage - a.coverage, b.overlap - a.overlap) <= tolerance * doublings


def enough(
    draw: Draw,
    train: Any,
    held_out: Any,
    encode: Encode,
    plan: ViewPlan,
    *,
    first: int | None = None,
    most: int | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Amount:
    """Draw first, 2 first, 4 first ... samples until both curves are level, or `most` are drawn.

    Args:
        draw: a generator's `sample` with its seed, or slices of samples that are there: called once for each block of
            4,096 or fewer, in order, so that samples are made while needed and need not be kept.
        train: [n, ...] real samples the generator learnt from.
        held_out: [h, ...] real samples it did not; at most 4,096 of them are used. A point of coverage is h / 100 of
            them: with fewer than some hundreds the curve is too rough to stop by.
        encode: a reference encoder trained on real samples.
        plan: the views whose overlap is looked at, at their strength.
        first: n unless told, no more than `most`.
        most: `most_samples(n)` unless told.

    Raises:
        InputError: no samples, or an empty range of amounts.
    """
    most = most_samples(len(train)) if most is None else most
    first = min(len(train), most) if first is None else first
    if len(train) < 1 or len(held_out) < 2 or not 0 < first <= most:
        given = f"{len(train)} real and {len(held_out)} held-out samples, {first} to {most} generated"
        raise InputError(given, "samples of each kind and 0 < first <= most")
    real = some(held_out, MOST_HELD_OUT, seed, "held out")
    targets = torch.as_tensor(encode(real)).float()
    reach = torch.full((len(real),), torch.inf).to(targets)
    for start in range(0, len(train), BLOCK):
        known = torch.as_tensor(encode(np.asarray(train[start : start + BLOCK]))).to(targets)
        reach = torch.minimum(reach, nearest(targets, known)[1][:, 0])
    overlap = Overlap.of(view_features(real[:MOST_OVERLAPPING], plan, encode, seed))
    covered = torch.zeros_like(reach, dtype=torch.bool)
    curve: list[Point] = []
    done, goal = 0, first
    while True:
        while done < goal:
            made = draw(min(BLOCK, goal - done), done)
            if len(made) == 0:
                raise InputError(f"{done} generated samples", f"{goal}", f"give most={done}")
            covered |= nearest(targets, torch.as_tensor(encode(made)).to(targets))[1][:, 0] < reach
            overlap.add(view_features(made, plan, encode, seed, 1 + MOST_OVERLAPPING + done)[0])
            done += len(made)
        curve.append(Point(done, float(covered.double().mean()), overlap.value))
        if saturated(curve, tolerance):
            return Amount(done, True, tuple(curve), _reason(curve, True))
        if done >= most:
            return Amount(done, False, tuple(curve), _reason(curve, False))
        goal = min(2 * goal, most)


def _reason(curve: Sequence[Point], level: bool) -> str:
    end = curve[-1]
    told = f"{end.coverage:.0%} of unseen real samples have a generated one nearer than any training sample"
    if level:
        return f"{told}; twice as many generated samples changed that and the overlap of views by less than a point"
    return f"{told}; more than the {end.count:,} allowed would still add to that"
