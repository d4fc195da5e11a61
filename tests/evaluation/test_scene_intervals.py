"""Intervals of the dense probe against scenes drawn one by one."""

import numpy as np
import pytest

from swell.evaluation import dense
from swell.evaluation.dense import scene_intervals


def test_scenes_are_resampled_whole(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (60, 40))
    named = np.where(rng.random((60, 40)) < rng.uniform(0.4, 1.0, (60, 1)), truth, (truth + 1) % 3)
    counts = [
        [(truth[:, :, None] == c) & (named[:, :, None] == c), truth[:, :, None] == c, named[:, :, None] == c]
        for c in [np.arange(3)]
    ]
    scenes = np.stack([part.sum(1) for part in counts[0]], 1)  # [60, 3, 3]
    accuracy, miou = [], []
    for _ in range(600):
        rows = rng.integers(0, 60, 60)
        y, z = truth[rows], named[rows]
        accuracy.append((y == z).mean())
        miou.append(np.mean([((y == c) & (z == c)).sum() / ((y == c) | (z == c)).sum() for c in range(3)]))
    found = scene_intervals(scenes)
    np.testing.assert_allclose(found["interval"], np.quantile(accuracy, [0.025, 0.975]), atol=0.012)
    np.testing.assert_allclose(found["miou_interval"], np.quantile(miou, [0.025, 0.975]), atol=0.012)
    assert found["interval"][1] - found["interval"][0] > 1.5 * 4 * np.sqrt(0.7 * 0.3 / 2400)  # pixels are no samples
    monkeypatch.setattr(dense, "SAMPLED", 60 * 100)  # several blocks
    assert scene_intervals(scenes)["interval"] == pytest.approx(found["interval"], abs=0.01)
