"""Does the linear probe know how sure it may be? Its probabilities against how often it is right, as they come.

No temperature is fitted: that would need labels the probe has not, and would hide what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.evaluation.intervals import mean_interval
from swell.seeding import seed_for

CALIBRATION = "swell-calibration-1"
BINS = 15  # of equal width, as Guo et al. 2017 (arXiv 1706.04599) take them
DRAWS = 200  # of labels that agree with the probabilities
_CHUNK = 1 << 24  # probabilities at a time: 128 MiB in float64


@dataclass(frozen=True)
class Confidences:
    """What is kept of each row's probabilities p; all float64 [m]."""

    confidence: np.ndarray  # p of the most probable class
    brier: np.ndarray  # sum over classes of (p - [class is true])^2, from 0 to 2
    nll: np.ndarray  # -log p of the true class


def confidences(logits: Tensor, truth: Tensor) -> Confidences:
    """From logits [m, C] and classes [m]; never more than a block of probabilities in memory."""
    confidence, brier, nll = [], [], []
    size = max(1, _CHUNK // logits.shape[1])
    for rows, y in zip(logits.split(size), truth.split(size), strict=True):
        log_p = rows.double().log_softmax(1)
        p = log_p.exp()
        confidence.append(p.amax(1))
        of_truth = log_p.gather(1, y[:, None])[:, 0]
        brier.append((p.square().sum(1) - 2 * of_truth.exp() + 1).clamp_min(0))
        nll.append(-of_truth)
    return Confidences(*(torch.cat(part).cpu().numpy() for part in (confidence, brier, nll)))


def calibration(found: Confidences, right: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How far confidence and accuracy are apart, ready for JSON; `right` [m] says which rows were named correctly.

    "ece" is the expected calibration error: over bins of equal width, |accuracy - confidence| weighted by their rows.
    It is above 0 by chance alone, the more the fewer rows there are, so "ece_by_chance" tells its mean and 95th
    percentile where labels are drawn with the very probabilities of the predictions. "overconfidence" is mean
    confidence less accuracy. "brier" sums over classes (0 to 2), "nll" is the mean of -log p of the true class. "bins"
    holds what a reliability diagram shows, empty bins left out.
    """
    c, hit = found.confidence, np.asarray(right, dtype=np.float64)
    which = np.minimum((c * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(which, minlength=BINS)
    sure = np.bincount(which, c, BINS)
    correct = np.bincount(which, hit, BINS)
    rng = np.random.default_rng(seed_for(seed, "calibration"))
    chance = [_ece(sure, np.bincount(which, rng.random(len(c)) < c, BINS), len(c)) for _ in range(DRAWS)]
    return {
        "protocol": CALIBRATION,
        "ece": _ece(sure, correct, len(c)),
        "ece_by_chance": {"mean": float(np.mean(chance)), "p95": float(np.quantile(chance, 0.95))},
        "overconfidence": float(c.mean() - hit.mean()),
        "confidence": float(c.mean()),
        "brier": float(found.brier.mean()),
        "brier_interval": mean_interval(found.brier, seed),
        "nll": float(found.nll.mean()),
        "bins": [
            {
                "low": i / BINS,
                "high": (i + 1) / BINS,
                "rows": int(rows[i]),
                "confidence": float(sure[i] / rows[i]),
                "accuracy": float(correct[i] / rows[i]),
            }
            for i in range(BINS)
            if rows[i]
        ],
        "settings": {"bins": BINS, "width": "equal", "temperature": None, "draws": DRAWS, "seed": seed},
    }


def _ece(sure: np.ndarray, correct: np.ndarray, n: int) -> float:
    """sum_b |correct_b - sure_b| / n, from the sums of confidences and of hits in each bin."""
    return float(np.abs(correct - sure).sum() / n)
