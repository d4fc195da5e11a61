"""Data to try things on, and the sentence that says which promise is broken."""

from __future__ import annotations

import numpy as np


def require(kept: bool, sentence: str) -> None:
    """Raises AssertionError with `sentence` unless the promise is kept."""
    if not kept:
        raise AssertionError(sentence)


def example_samples(name: str, count: int = 96) -> np.ndarray:
    """Small data that differ from sample to sample: "grey 8x8", "colour 16x16" or "vectors"."""
    rng = np.random.default_rng(0)
    if name == "vectors":
        rows = rng.standard_normal((count, 3)) @ rng.standard_normal((3, 6)) * [1, 10, 0.1, 1, 1, 1]
        return np.asarray(rows, dtype=np.float32)
    channels, side = {"grey 8x8": (1, 8), "colour 16x16": (3, 16)}[name]
    y, x = np.mgrid[:side, :side] / side
    a, b, c = rng.uniform(-1, 1, (3, count, channels, 1, 1))
    waves = np.sin(4 * (a * x + b * y) + 3 * c) + 0.1 * rng.standard_normal((count, channels, side, side))
    return (127.5 + 100 * waves).clip(0, 255).astype(np.uint8)
