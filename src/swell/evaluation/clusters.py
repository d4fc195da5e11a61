"""Do the features fall into the classes by themselves? k-means, then agreement with the labels."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from swell.evaluation.features import unit_rows
from swell.seeding import generator_for, seed_for

MAX_ROWS = 10_000
STARTS = 10


def assign(train: Tensor, test: Tensor, k: int, seed: int = 0, starts: int = STARTS) -> tuple[Tensor, int]:
    """Cluster [m] of each row of `test` [m, D], and the number of train rows its nearest centre came from.

    Centres: scikit-learn's k-means (k-means++, ten `starts` in the probe) on the rows of `train` [n, D] at unit
    length; of more than `MAX_ROWS` a random part, the same for every arm. One thread, because its sums over threads
    have no fixed order.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if len(train) > MAX_ROWS:
        order = torch.randperm(len(train), generator=generator_for(seed, "probe", "clusters", "rows"))
        train = train[order[:MAX_ROWS].to(train.device)]
    state = seed_for(seed, "probe", "clusters") % 2**32
    model = KMeans(min(k, len(train)), n_init=starts, random_state=state)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        model.fit(unit_rows(train).cpu().numpy())
        found = model.predict(unit_rows(test).cpu().numpy())
    return torch.from_numpy(found).long(), len(train)


def agreement(clusters: Tensor, labels: Tensor) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information (arithmetic mean) of two labellings [m]."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found, truth = clusters.cpu().numpy(), labels.cpu().numpy()
    return {"ari": float(adjusted_rand_score(truth, found)), "nmi": float(normalized_mutual_info_score(truth, found))}
