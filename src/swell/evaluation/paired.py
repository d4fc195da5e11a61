"""Is one run better than another on the very same test samples? Paired tests, which two accuracies alone do not allow.

    compare_predictions("run_a", "run_b", by="linear")["mcnemar"]["p"]

Both runs name the same samples, so most of the luck of the draw is theirs in common and falls out of the difference.
What is tested is these two encoders on samples like these; that the next seed of either would do the same takes several
seeds to say, see `swell.evaluation.compare`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from swell.errors import InputError
from swell.evaluation.intervals import INTERVALS, LEVEL, RESAMPLES, checked, percentiles, resampled_means
from swell.evaluation.predictions import read_predictions
from swell.evaluation.protocol import refuse_other_protocol
from swell.files import read_json


def mcnemar(a: Any, b: Any) -> dict[str, float | int]:
    """McNemar's exact test: of the samples that only one of two is right about, would a coin explain the split?

    `a` and `b` [n] are 1 where the first, the second is right, else 0. Returns "only_a" and "only_b", the number of
    samples that only that one is right about, and the two-sided binomial "p".

    Raises:
        InputError: unequal lengths, or values other than 0 and 1.
    """
    x, y = _pair(a, b)
    if not (np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all()):
        raise InputError("values other than 0 and 1", "right (1) or wrong (0)", "use the bootstrap for shares")
    from scipy.stats import binomtest

    only_a, only_b = int((x > y).sum()), int((y > x).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def paired_bootstrap(a: Any, b: Any, seed: int = 0) -> dict[str, float | int]:
    """The mean of a - b over n common samples, its bootstrap interval "low" to "high", and a two-sided "p".

    p is twice the share of resampled differences on the rarer side of 0, the observed one counted in on both sides.

    Raises:
        InputError: unequal lengths, none, or values that are not finite.
    """
    x, y = _pair(a, b)
    difference = x - y
    means = resampled_means(difference, seed)
    below, above = (means <= 0).sum(), (means >= 0).sum()
    p = min(1.0, 2 * (1 + float(min(below, above))) / (1 + RESAMPLES))
    low, high = percentiles(means)
    return {"difference": float(difference.mean()), "low": low, "high": high, "p": p, "n": len(x)}


def compare_predictions(a: Path | str, b: Path | str, by: str = "linear", on: str = "probe") -> dict[str, Any]:
    """Test run `a` against run `b` by the score `by`, on the test samples of the set `on` ("probe", "transfer-1", ...).

    Returns the two "scores", the paired bootstrap's "difference" (a less b), "low", "high", "p" and "n", and "mcnemar"
    where each sample was right or wrong (None for shares, such as few-shot accuracies over draws).

    Raises:
        InputError: runs that were not evaluated by this version, on the same samples with the same labels, or by
            one protocol; a score that was not kept.
    """
    refuse_other_protocol(*((str(run), read_json(Path(run) / "evaluation.json")) for run in (a, b)), by=by, on=on)
    (first, of_first), (second, of_second) = read_predictions(a, on), read_predictions(b, on)
    for key, what in (("train", "train samples"), ("test", "test samples"), ("labels", "labels")):
        if of_first[key] != of_second[key]:
            given = f"{b} (evaluated with other {what} than {a}, {of_second[key]} instead of {of_first[key]})"
            raise InputError(given, "runs evaluated on the same data", "run swell evaluate RUN DATA alike for both")
    x, y = first.of(by), second.of(by)
    binary = bool(np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all())
    return {
        "a": str(a),
        "b": str(b),
        "by": by,
        "on": on,
        "scores": [float(x.mean()), float(y.mean())],
        **paired_bootstrap(x, y),
        "mcnemar": mcnemar(x, y) if binary else None,
        "settings": {"protocol": INTERVALS, "level": LEVEL, "resamples": RESAMPLES},
    }


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked(a), checked(b)
    if len(x) != len(y):
        raise InputError(f"{len(x)} values against {len(y)}", "one of each for every sample")
    return x, y
