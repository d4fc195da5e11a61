"""What the benchmarks of single cells share: the six sets, cross-validated probing, and whether positives keep a class."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch

from _common import ROOT
from swell.data.open import open_data
from swell.data.partners import Components
from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.probe import probe
from swell.generators.positives import PositiveCache
from swell.training.stability import watched_rows

SETS = {  # name here: file in ../shared/data
    "pbmc68k": "pbmc68k_reduced",
    "pancreas": "baron_mouse_pancreas",
    "paul15": "paul15",
    "cite_cbmc": "cite_cbmc_top2000",
    "bladder": "mouse_bladder_mca_top2000",
    "pbmc4k": "pbmc4k_scdcc_top2000",
}
FOLDS, COMPONENTS, NEAR = 5, 50, 15
SCORES = ("linear", "knn", "ari", "nmi")


def cells_file(name: str) -> Path:
    """Raises InputError where the file is not there."""
    path = Path(os.environ.get("SWELL_SHARED", ROOT.parent / "shared" / "data")) / f"{SETS[name]}.h5ad"
    if not path.exists():
        raise InputError(f"no {path.name} in {path.parent}", "that set", "set SWELL_SHARED to the folder that holds it")
    return path


def cells_source(name: str) -> Source:
    """All cells of a set, prepared without a look at their labels."""
    return open_data(cells_file(name), labels="label", quiet=True)


def folds_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """Which of the folds each cell belongs to, int64 [N]: the same for every arm, each class spread over all of them."""
    rng, fold, start = np.random.default_rng(seed), np.empty(len(labels), np.int64), 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold[rows] = (start + np.arange(len(rows))) % FOLDS
        start += len(rows)
    return fold


def cross_validated(features: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, list[float]]:
    """Scores in per cent on each fold, by a probe fitted on the other four; ARI and NMI as the probe has them."""
    fold, scores = folds_of(labels, seed), {name: [] for name in SCORES}
    for k in range(FOLDS):
        fit, rest = fold != k, fold == k
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes of a handful of cells
            found = probe(features[fit], labels[fit], features[rest], labels[rest])
        for name in ("linear", "knn"):
            scores[name].append(100 * found[name]["accuracy"])
        for name in ("ari", "nmi"):
            scores[name].append(100 * found["clusters"][name])
    return scores


def components_of(source: Source) -> np.ndarray:
    """The first principal components of all cells, [N, 50]: fitted without labels, as the encoders are."""
    return Components.fit(source.samples, COMPONENTS)(source.samples).numpy()


def class_kept(folder: Path, source: Source) -> dict[str, float]:
    """Of how many positives the nearest real cells, the anchor left out, vote for the anchor's class; in per cent.

    Beside it the same of the anchors themselves. Labels only look at what was made without them.
    """
    rows = watched_rows(len(source)).numpy()
    made = PositiveCache.open(folder, source).all_of(rows)  # [n, k, D]
    projection = Components.fit(source.samples, COMPONENTS)
    real, labels = projection(source.samples), torch.from_numpy(source.labels)

    def right(codes: torch.Tensor) -> float:
        distance = torch.cdist(codes, real)
        distance[torch.arange(len(rows)), torch.from_numpy(rows)] = torch.inf
        near = labels[distance.topk(NEAR, largest=False).indices]
        return 100 * (near.mode(1).values == labels[rows]).float().mean().item()

    kept = [right(projection(np.ascontiguousarray(made[:, j]))) for j in range(made.shape[1])]
    return {"class_of_positives": float(np.mean(kept)), "class_of_anchors": right(real[rows])}
