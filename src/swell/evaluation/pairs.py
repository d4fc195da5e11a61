"""Differences between arms: over their common seeds, corrected for many pairs, and on the same test samples.

Two things may be luck, the seeds and the test samples. Student's interval over seeds is about the first and decides
what is clear; the bootstrap over test samples, of the encoders there are, is about the second and stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from swell.evaluation.arms import Row
from swell.evaluation.paired import paired_bootstrap
from swell.evaluation.predictions import has_predictions, read_predictions
from swell.evaluation.statistics import holm, paired

LEVEL = 0.95


def compare_pairs(
    arms: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[Row]], by: str, n_test: int
) -> list[dict[str, Any]]:
    """Every pair of arms: points of a less b by the score `by`, and whether that is clear.

    "mean", "low", "high", "p" are Student's over common seeds, "p_holm" Holm's correction of p for all pairs that have
    one, "clear" whether that is below 0.05. An interval narrower than one test sample is no evidence, as two seeds may
    agree so well by chance. "samples" has the bootstrap over test samples, where predictions were kept for each.
    """
    step, told = 100 / n_test, _kept(groups, by)
    pairs = []
    for a, b in combinations(arms, 2):
        seeds = [seed for seed in a["by_seed"] if seed in b["by_seed"]]
        found: dict[str, Any] = {"mean": None, "low": None, "high": None, "n": 0, "p": None}
        if seeds:
            x, y = ([100 * arm["by_seed"][seed][by] for seed in seeds] for arm in (a, b))
            found = {**paired(x, y)}
        pairs.append({"a": a["name"], "b": b["name"], **found, "samples": _on_samples(told, a, b, seeds)})
    tested = [pair for pair in pairs if pair["p"] is not None]
    for pair, p in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair |= {"p_holm": p, "clear": p < 1 - LEVEL and pair["high"] - pair["low"] >= step}
    return [{"p_holm": None, "clear": False, **pair} for pair in pairs]


def _kept(groups: Mapping[str, Sequence[Row]], by: str) -> dict[tuple[str, str], np.ndarray]:
    """What each test sample adds to the score, by arm and seed; nothing of all, where one run has not kept it."""
    found = {}
    for name, rows in groups.items():
        for row in rows:
            if not has_predictions(row.path):
                return {}
            kept, _ = read_predictions(row.path)
            if by not in kept.scores:
                return {}
            found[name, str(row.recipe.seed)] = kept.of(by)
    return found


def _on_samples(
    told: Mapping[tuple[str, str], np.ndarray], a: Mapping[str, Any], b: Mapping[str, Any], seeds: Sequence[str]
) -> dict[str, float] | None:
    """The difference in points on the same test samples, of the mean over common seeds, or over all without any."""
    if not told:
        return None
    x, y = (np.mean([told[arm["name"], s] for s in seeds or arm["by_seed"]], 0) for arm in (a, b))
    found = paired_bootstrap(x, y)
    return {key: 100 * found[key] for key in ("difference", "low", "high")} | {"p": found["p"]}
