"""Means over seeds, differences between two arms that share their seeds, and what many of them prove together."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from swell.errors import InputError


def summarise(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1) of `values`; the sd of a single value is unknown: None.

    Raises:
        InputError: without any value.
    """
    if not values:
        raise InputError("no values", "at least one", "run at least one seed")
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def paired(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> dict[str, float | int | None]:
    """Mean of a - b over pairs (same seed, same data) with Student's t interval at `level`.

    Returns "mean", "low", "high", "n" and "p", the two-sided probability of a mean at least as far from 0 by chance;
    for a single pair only mean and n are known. Assumes the differences are about normal: with three seeds the interval
    is wide, and rightly so.

    Raises:
        InputError: for unequal lengths or no pairs.
    """
    if len(a) != len(b):
        raise InputError(f"{len(a)} values against {len(b)}", "pairs", "run both arms with the same seeds")
    mean, sd = summarise([x - y for x, y in zip(a, b, strict=True)])
    if sd is None:
        return {"mean": mean, "low": None, "high": None, "n": 1, "p": None}
    from scipy.stats import t

    error = sd / sqrt(len(a))
    half = float(t.ppf((1 + level) / 2, len(a) - 1)) * error
    p = 2 * float(t.sf(abs(mean) / error, len(a) - 1)) if error else float(mean == 0)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(a), "p": p}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment of m probabilities, in their order:

        p~_(i) = min(1, max over j <= i of (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    Rejecting where p~ < 0.05 errs in any of the m comparisons at most 5 % of the time, however they depend on each
    other.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, (len(p) - rank) * p[i])
        adjusted[i] = min(largest, 1.0)
    return adjusted


def on_front(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Whether each point lies on the Pareto front: no other costs no more and scores no less, one of the two better."""

    def beaten(c: float, s: float) -> bool:
        return any(x <= c and y >= s and (x < c or y > s) for x, y in zip(costs, scores, strict=True))

    return [not beaten(c, s) for c, s in zip(costs, scores, strict=True)]
