"""From features to a flat map of them."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from swell.seeding import generator_for


def project(features: np.ndarray, seed: int = 0, limit: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, D] -> (index [m] of the rows shown, places xy [m, 2]), m <= `limit`.

    PCA to at most 50 dimensions, then t-SNE started from the first two (scikit-learn), on one thread so that
    the same features give the same map. Rows that are not finite are left out. Fewer than ten rows, or
    features with fewer than two directions, get the PCA itself.
    """
    features = np.asarray(features, dtype=np.float64)
    order = torch.randperm(len(features), generator=generator_for(seed, "report", "map")).numpy()
    finite = np.isfinite(features).all(1)
    index = np.sort(order[finite[order]][:limit])
    rows = features[index]
    if not len(rows):
        return index, np.zeros((0, 2))
    rows = rows - rows.mean(0)
    rows /= max(float(np.abs(rows).max(initial=0.0)), 1e-30)  # t-SNE adapts to any scale, PCA must not underflow
    with threadpool_limits(1):
        few = min(50, *rows.shape)
        reduced = np.zeros((len(rows), few))
        if rows.any():
            reduced = PCA(few, random_state=seed).fit_transform(rows)
        spread = reduced.std(0)
        directions = int((spread > 1e-6 * spread.max(initial=1e-30)).sum())
        if len(rows) < 10 or directions < 2:
            flat = np.zeros((len(rows), 2))
            flat[:, : min(2, few)] = reduced[:, :2]
            return index, flat
        perplexity = min(30.0, (len(rows) - 1) / 3)
        maker = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        return index, np.asarray(maker.fit_transform(reduced.astype(np.float32)), dtype=np.float64)
