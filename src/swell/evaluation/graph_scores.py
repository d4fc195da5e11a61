"""Scores that read features as a graph of views: who is whose neighbour, which functions tell samples apart.

A positive pair is two views of one sample; the augmentation graph joins views by how often they are such a pair
(HaoChen et al. 2021, arXiv 2106.04156). Its connectivity and the labels that views carry over bound the downstream
error by alpha / lambda_{k+1}. Views [q, n, D] are features of q exchangeable views of n samples; all sums are in
float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from swell.errors import InputError
from swell.evaluation import clusters
from swell.evaluation.features import as_features, exact_arithmetic, unit_rows
from swell.seeding import generator_for

VIEW_ROWS = 8192  # views at most of which every pair is compared
K = 10  # of lambda_{k+1}: the number of classes, which nobody knows
RIDGE = 1e-4  # of a covariance, in units of its mean eigenvalue
PSEUDO_CLASSES = (10, 30, 100)  # clusters, as long as there are ten samples for each
STARTS = 3  # of k-means
_BLOCK = 512  # rows of a matrix of distances at a time


def acr(views: Tensor, max_rows: int = VIEW_ROWS) -> float:
    """Share of views whose nearest other view is of another sample: from 0 to 1, which is collapse.

    `views` [q, n, D], by cosine. A view that is as near to one of another sample as to the nearest of its own counts
    as confused. Of more than `max_rows` views a fixed random part of the samples, with all their views. Which sample a
    view is of is known, not worked out from its place: the released code takes place modulo batch size for it, so that
    samples of equal place in two batches pass for one.

    Source: Wang et al. 2022 (arXiv 2203.13457), average confusion ratio.
    Fails: depends on the views, on n and on q; an encoder that recognises samples by trifles confuses none.
    """
    q, n = views.shape[:2]
    kept = _some(n, max(2, max_rows // q)).to(views.device)
    u = unit_rows(views[:, kept].double().flatten(0, 1))
    owner = torch.arange(len(kept), device=u.device).repeat(q)
    confused = 0
    for start in range(0, len(u), _BLOCK):
        rows = torch.arange(start, min(start + _BLOCK, len(u)), device=u.device)
        cosine = u[rows] @ u.T
        same = owner[rows, None] == owner
        others = cosine.masked_fill(same, -torch.inf).amax(1)
        cosine[torch.arange(len(rows), device=u.device), rows] = -torch.inf  # no view is its own neighbour
        own = cosine.masked_fill(~same, -torch.inf).amax(1)
        confused += int((others >= own).sum())
    return confused / len(u)


def arc(final: float, initial: float) -> float:
    """(1 - ACR) / (1 - ACR before training), of two `acr`: above 1 where training tells samples better apart.

    infinite, or NaN, where the untrained encoder confuses every view. Source: Wang et al. 2022 (arXiv 2203.13457).
    """
    if initial == 1:
        return float("nan") if final == 1 else float("inf")
    return (1 - final) / (1 - initial)


def canonical_correlations(views: Tensor, ridge: float = 0.0) -> Tensor:
    """rho [D], falling: the correlations that two views of a sample can reach, one direction after the other.

    Canonical correlations of all ordered pairs of `views` [q, n, D] taken together, so both sides share their
    directions: eigenvalues of T^-1/2 C T^-1/2, T the covariance of views, C that between different views of a sample.
    They are Rayleigh-Ritz estimates, from below, of the eigenvalues of the augmentation graph's normalised adjacency
    but for the constant function's. They may be negative; a direction without variance has 0. Not cross-fitted: near
    1 by chance where n is not far above D; see `connectivity`.
    """
    total, between = _moments(views.double())
    directions, kept = _whitening(total, ridge)
    rho = torch.zeros(views.shape[2], dtype=torch.float64, device=views.device)
    rho[:kept] = torch.linalg.eigvalsh(_symmetric(directions.T @ between @ directions)).flip(0)
    return rho.sort(descending=True).values


def connectivity(views: Tensor, k: int = K) -> float:
    """1 - rho_k, an estimate of lambda_{k+1} of the augmentation graph: 0 when k directions survive any view.

    Cross-fitted: the k best directions of every second sample are judged on the other half, and the reverse; `views`
    [q, n, D]. Too high, never too low, where the encoder does not span the graph's own functions. Hence two readings:
    of one encoder under different views or data it tells how connected these are; of different encoders under the same
    views the lowest knows the graph best, and directions that are missing, as after collapse, make it 1.

    Source: ours, after HaoChen et al. 2021 (arXiv 2106.04156).
    Fails: needs many more samples than k; counts whatever views leave alone, of use or not.

    Raises:
        InputError: fewer than 2 k + 4 samples, or k below 1.
    """
    n = views.shape[1]
    if k < 1 or n < 2 * k + 4:
        raise InputError(f"connectivity for k = {k} of {n} samples", f"k from 1 up and {2 * k + 4} samples")
    x = views.double()
    halves = x[:, 0::2], x[:, 1::2]
    found = [_surviving(fit, test, k) for fit, test in (halves, halves[::-1])]
    return 1 - min(1.0, max(0.0, sum(found) / 2))


def _surviving(fit: Tensor, test: Tensor, k: int) -> float:
    """rho_k on `test` within the span of the k best directions of `fit`, both [q, n, D]."""
    total, between = _moments(fit)
    directions, kept = _whitening(total, RIDGE)
    if kept < k:
        return 0.0
    _, vectors = torch.linalg.eigh(_symmetric(directions.T @ between @ directions))
    best = directions @ vectors[:, -k:]
    return canonical_correlations(test @ best)[k - 1].item()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances [D, D] of views and between two different views of a sample; `x` [q, n, D] float64."""
    q, n = x.shape[:2]
    centred = x - x.mean((0, 1))
    total = torch.einsum("qni,qnj->ij", centred, centred) / (q * n)
    sums = centred.sum(0)
    between = (sums.T @ sums / n - q * total) / (q * (q - 1))
    return total, between


def _whitening(total: Tensor, ridge: float) -> tuple[Tensor, int]:
    """Directions W [D, r] with W^T total W = 1 up to the ridge, and their number r: those that have variance."""
    values, vectors = torch.linalg.eigh(total)
    mean = values.clamp_min(0).mean()
    kept = values > 1e-10 * values[-1].clamp_min(1e-300)
    scale = (values[kept] + ridge * mean).rsqrt()
    return vectors[:, kept] * scale, int(kept.sum())


def label_error(clean: Tensor, views: Tensor, seed: int = 0) -> float:
    """How often views leave their sample's cluster, against chance: 0 never, 1 as often as a random view would.

    k-means on `clean` [n, D] at unit length, for 10, 30 and 100 clusters as far as n allows; P[cluster of a view is not
    its sample's] over `views` [q, n, D], divided by the same for views of random samples; the mean over the k-means.
    1 for a single cluster, which says nothing. Of features of one fixed encoder and a candidate's views it estimates
    alpha, the labelling error of these views.

    Source: ours, after the labelling error of HaoChen et al. 2021 (arXiv 2106.04156).
    Fails: clusters need not be classes; k-means depends on the order of the samples, so keep it.
    """
    q, n = views.shape[:2]
    rows = torch.cat([clean, views.flatten(0, 1)])
    found = []
    for k in cluster_counts(n):
        labels, _ = clusters.assign(clean, rows, k, seed, STARTS)
        own, seen = labels[:n], labels[n:].reshape(q, n)
        share, seen_share = (part.flatten().bincount(minlength=k).double() / part.numel() for part in (own, seen))
        chance = 1 - (share * seen_share).sum().item()
        flips = (seen != own).double().mean().item()
        found.append(flips / chance if len(own.unique()) > 1 and chance > 0 else 1.0)
    return sum(found) / len(found)


def learnability(features: Mapping[str, Tensor], seed: int = 0) -> dict[str, float]:
    """For each candidate, how well its neighbours predict the clusters that the other candidates see.

    `features`: clean features [n, D_c] of the same n samples in the same order by name of candidate. The label of each
    sample's nearest neighbour (cosine, in the candidate's features) against its own, where labels are the other
    candidates' k-means for 10, 30 and 100 clusters as far as n allows; accuracy over chance, (a - c) / (1 - c) with c
    the sum of squared cluster shares, averaged. 0 is chance, 1 is certain. No candidate is judged by its own clusters.

    Source: learnability after Lu et al. 2023 (CLID, TMLR); the consensus over candidates is ours.
    Fails: the majority decides, so many candidates alike vote for one another; clusters need not be classes.

    Raises:
        InputError: fewer than two candidates, or features that are not finite, not [n, D], or of unequal n.
    """
    if len(features) < 2:
        raise InputError(f"{len(features)} candidate", "at least two, which judge one another")
    with exact_arithmetic():
        given = {name: as_features(z, name) for name, z in features.items()}
        counts = {len(z) for z in given.values()}
        if len(counts) > 1 or min(counts) < 2:
            raise InputError(f"candidates with {sorted(counts)} rows", "the same samples, at least two, for each")
        n = min(counts)
        labels = {
            name: [clusters.assign(z, z, k, seed, STARTS)[0] for k in cluster_counts(n)] for name, z in given.items()
        }
        nearest = {name: nearest_rows(z).cpu() for name, z in given.items()}
    return {
        name: _mean([_over_chance(y, nearest[name]) for other in given if other != name for y in labels[other]])
        for name in given
    }


def cluster_counts(n: int) -> list[int]:
    """How many clusters to look for among n samples."""
    return [k for k in PSEUDO_CLASSES if n >= 10 * k] or [max(2, n // 10)]


def nearest_rows(z: Tensor) -> Tensor:
    """Index int64 [n] of each row's nearest other row by cosine; `z` [n, D]."""
    u = unit_rows(z.double())
    found = []
    for start in range(0, len(u), _BLOCK):
        cosine = u[start : start + _BLOCK] @ u.T
        cosine[:, start : start + _BLOCK].fill_diagonal_(-torch.inf)
        found.append(cosine.argmax(1))
    return torch.cat(found)


def _over_chance(labels: Tensor, nearest: Tensor) -> float:
    """Accuracy of a neighbour's label, 0 at chance and 1 at best; NaN for a single cluster, which needs no learning."""
    share = labels.bincount().double() / len(labels)
    chance = share.square().sum().item()
    accuracy = (labels == labels[nearest]).double().mean().item()
    return (accuracy - chance) / (1 - chance) if (share > 0).sum() > 1 else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _some(n: int, limit: int) -> Tensor:
    """At most `limit` of n samples, chosen once and for all by their number."""
    order = torch.randperm(n, generator=generator_for(0, "graph_scores", n))
    return torch.arange(n) if n <= limit else order[:limit].sort().values
