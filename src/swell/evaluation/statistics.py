"""Means over seeds, and differences between two arms that share their seeds."""

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

    Returns "mean", "low", "high", "n"; the ends are None for a single pair. Assumes the differences are about
    normal: with three seeds the interval is wide, and rightly so.

    Raises:
        InputError: for unequal lengths or no pairs.
    """
    if len(a) != len(b):
        raise InputError(f"{len(a)} values against {len(b)}", "pairs", "run both arms with the same seeds")
    mean, sd = summarise([x - y for x, y in zip(a, b, strict=True)])
    if sd is None:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(a) - 1)) * sd / sqrt(len(a))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(a)}
