"""Generated samples beside the real ones nearest to them, and which of these pairs look like copies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from swell.data.source import Source
from swell.generators.neighbours import AROUND, closeness, low_quantile, nearest_real
from swell.report.page import Pairs

SHOWN_PAIRS = 24
_BYTES = 1 << 28  # of real samples in shards that are decoded to be looked at
YARDSTICK, AMONG = 500, 20_000  # real samples that are searched for near-duplicates, and among how many


def pairs(generated: Source | None, real: Source | None) -> Pairs | None:
    """Generated images, evenly picked, beside the real ones nearest to them in pixels; of vectors there is nothing to
    show."""
    if generated is None or real is None or not real.is_images:
        return None
    among = ""
    if not isinstance(
        real.samples, np.ndarray
    ):  # in shards, where looking at all of them would mean to decode them all
        some = np.unique(np.linspace(0, len(real) - 1, min(len(real), _BYTES // math.prod(real.shape))).astype(int))
        among = f" Looked for among {len(some):,} of {len(real):,} real samples." if len(some) < len(real) else ""
        real = replace(real, samples=real.samples[some], labels=None)
    rows = np.linspace(0, len(generated) - 1, min(SHOWN_PAIRS, len(generated))).astype(int)
    picked = generated.samples[rows]
    index, distance = nearest_real(picked, real.samples, AROUND)
    return Pairs(
        "Generated samples and the real ones nearest to them",
        picked,
        real.samples[index[:, 0]],
        distance[:, 0],
        "Evenly picked, not chosen. A pair is marked where the two are the same, or closer than all but one in a "
        f"hundred real samples are to another one (as a share of the distance to the nearest twenty).{among}",
        copy_flags(distance, real.samples),
    )


def copy_flags(distance: np.ndarray, real: np.ndarray) -> list[str]:
    """What to say of samples whose distances [n, k] to the nearest real ones, nearest first, are these."""
    close = closeness(torch.from_numpy(distance)).numpy()
    threshold = _threshold(real)
    return [
        "a copy" if nearest == 0 else "close" if near <= threshold else ""
        for nearest, near in zip(distance[:, 0].tolist(), close.tolist(), strict=True)
    ]


def _threshold(real: np.ndarray) -> float:
    """The closeness that one in a hundred real samples fall below, among the others."""
    base = real[np.linspace(0, len(real) - 1, min(AMONG, len(real))).astype(int)]
    rows = np.linspace(0, len(base) - 1, min(YARDSTICK, len(base))).astype(int)
    index, distance = nearest_real(base[rows], base, AROUND + 1)
    if distance.shape[1] < 3:
        return 0.0  # too few to compare with
    others = index != rows[:, None]
    others[others.all(1), -1] = False  # among equals a sample may miss itself
    left = distance[others].reshape(len(rows), -1)
    return low_quantile(closeness(torch.from_numpy(left)), fewest=1)[0]
