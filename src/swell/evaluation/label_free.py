"""Scores of representations that need no labels.

Features z [n, D] are backbone features of clean samples; views [V, n, D] are features of V views of each of n
samples under one fixed reference augmentation. Compare scores between encoders at equal n, D and views only,
never across layers, and never optimise one alone: RankMe and its kin favour weak augmentation, LiDAR and
alignment favour strong invariance, uniformity alone is met by noise. All sums are in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from swell.errors import InputError
from swell.evaluation.features import Array, as_features, exact_arithmetic, unit_rows
from swell.seeding import generator_for

EPSILON = 1e-7
SPECTRUM_ROWS = 25_600  # as many as RankMe's authors use
PAIR_ROWS = 4096


def label_free(z: Array, views: Array | None = None) -> dict[str, float]:
    """All scores of features `z` [n, D] and, where given, of `views` [V, n', D]; n' need not be n.

    "rows" is the number of rows behind rankme and alpha_req, to be equal between the encoders compared. A
    score that does not exist for these features (alpha_req of fewer than three dimensions) is NaN.

    Raises:
        InputError: features not finite or not [n, D]; fewer than two rows; views of another shape.
    """
    with exact_arithmetic():
        x = as_features(z, "given")
        if len(x) < 2:
            raise InputError(f"features of {len(x)} sample", "at least two")
        part = _some(x, SPECTRUM_ROWS)
        scores = {
            "rows": float(len(part)),
            "rankme": rankme(part),
            "alpha_req": alpha_req(part),
            "feature_std": feature_std(x),
            "uniformity": uniformity(x),
        }
        if views is not None:
            v = as_views(views)
            scores |= {"alignment": alignment(v), "lidar": lidar(v)}
    return scores


def as_views(views: Array) -> Tensor:
    """`views` as finite float32 [V, n, D] with V, n >= 2; InputError otherwise."""
    shape = list(views.shape)
    if len(shape) != 3 or shape[0] < 2 or shape[1] < 2:
        raise InputError(f"views {shape}", "[V, n, D] with at least two views of two samples")
    return as_features(views.reshape(-1, shape[2]), "view").reshape(shape)


def spectrum(z: Tensor) -> Tensor:
    """Singular values [min(n, D)] of the uncentred features `z` [n, D], falling, divided by their sum."""
    s = torch.linalg.svdvals(z.double())
    return s / s.sum().clamp_min(torch.finfo(torch.float64).tiny)


def rankme(z: Tensor) -> float:
    """Effective rank exp(-sum_k p_k log p_k), p = spectrum + 1e-7: from 1 (one direction) to min(n, D).

    Source: Garrido et al. 2023 (arXiv 2210.02885); the entropy measure is Roy & Vetterli's
    (2007).
    Fails: grows with n; directions of pure noise raise it; prefers encoders trained with weak augmentation;
    not monotone within a run, so it does not choose checkpoints. 0 for features that are all zero.
    """
    return _effective_rank(torch.linalg.svdvals(z.double()))


def alpha_req(z: Tensor, last: int = 100) -> float:
    """Decay alpha of the covariance eigenvalues, lambda_j ~ j^-alpha; good encoders lie near 1.

    Slope of log lambda_j on log j over ranks 1 + r // 10 .. r, r = min(`last`, numerical rank), so 11..100
    for wide features; weights 1 / j, for the ranks crowd together on the logarithmic axis.

    Source: Agrawal et al. 2022 (alpha-ReQ, NeurIPS); weights as Stringer et al. 2019 fit cortical spectra.
    Fails: assumes a power law and depends on the range fitted; not comparable across D; NaN below three
    usable ranks.
    """
    centred = z.double() - z.double().mean(0)
    s = torch.linalg.svdvals(centred)
    rounding = torch.finfo(torch.float32).eps * z.double().norm() / min(z.shape) ** 0.5  # of float32 features
    r = min(last, int((s > rounding).sum()))
    if r < 3:
        return math.nan
    j = torch.arange(1 + r // 10, r + 1, dtype=torch.float64, device=z.device)
    x, y, w = j.log(), 2 * s[r // 10 : r].log(), 1 / j
    x = x - (w * x).sum() / w.sum()
    return -((w * x * y).sum() / (w * x * x).sum()).item()


def feature_std(z: Tensor) -> float:
    """Mean over features of the sd of unit-length rows, times sqrt(D): 1 spread over the sphere, 0 collapsed.

    Source: Chen & He 2021 (SimSiam, arXiv 2011.10566).
    Fails: an alarm, not a score; sees collapse onto a point, not onto a few directions.
    """
    unit = unit_rows(z.double())
    return (unit.std(0, correction=0).mean() * math.sqrt(z.shape[1])).item()


def uniformity(z: Tensor, t: float = 2.0, max_rows: int = PAIR_ROWS) -> float:
    """log mean over pairs i != j of exp(-t |u_i - u_j|^2), u unit rows: 0 collapsed, about -2t spread out.

    On at most `max_rows` rows, a fixed random part. Source: Wang & Isola 2020 (arXiv 2005.10242).
    Fails: noise scores best; bound to its t, and flat once D is large.
    """
    u = unit_rows(_some(z, max_rows).double())
    n, total = len(u), 0.0
    squares = u.square().sum(1)
    for start in range(0, n, 512):
        block = u[start : start + 512]
        distance = (squares[start : start + 512, None] + squares - 2 * block @ u.T).clamp_min(0)
        distance[:, start : start + 512].fill_diagonal_(torch.inf)  # no row with itself
        total += (-t * distance).exp().sum().item()
    return math.log(total / (n * (n - 1)))


def alignment(views: Tensor) -> float:
    """Mean squared distance between unit rows of two views of one sample, `views` [V, n, D]: 0 is invariant.

    Source: Wang & Isola 2020 (arXiv 2005.10242) with alpha = 2, over all pairs of views.
    Fails: a constant encoder scores best; read it beside uniformity.
    """
    count = len(views)
    u = unit_rows(views.double().flatten(0, 1)).reshape(views.shape)
    # sum over v, w of |u_v - u_w|^2 = 2 V sum_v |u_v|^2 - 2 |sum_v u_v|^2
    both = 2 * count * u.square().sum((0, 2)) - 2 * u.sum(0).square().sum(1)  # [n]
    return (both.mean() / (count * (count - 1))).clamp_min(0).item()


def lidar(views: Tensor, ridge: float = 1e-4) -> float:
    """Effective rank of S_w^-1/2 S_b S_w^-1/2: how many directions tell samples apart beyond the views.

    `views` [V, n, D]. S_b is the covariance of the n sample means, S_w the mean covariance of views within a
    sample plus `ridge` times the mean total variance of a feature. (The paper's ridge is absolute, so its
    score moves with the scale of the features; this one does not.) 0 when the samples do not differ.

    Source: Thilak et al. 2024 (arXiv 2312.04000).
    Fails: depends on the views used and on V and n; a V-th of S_w stays in S_b, so noise in every direction passes
    for rank where views are few; with n <= D at most n - 1; tens of thousands of views for a stable value.
    """
    x = views.double()
    means = x.mean(0)  # [n, D]
    between = _second_moment(means - means.mean(0))
    within = _second_moment((x - means).flatten(0, 1))
    variance = (between.trace() + within.trace()) / x.shape[2]
    if between.trace() <= 1e-12 * means.square().mean() * x.shape[2]:
        return 0.0
    within.diagonal().add_(ridge * variance)
    factor = torch.linalg.cholesky(within)  # L^-1 S_b L^-T has the eigenvalues of S_w^-1/2 S_b S_w^-1/2
    half = torch.linalg.solve_triangular(factor, between, upper=False)
    matrix = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    return _effective_rank(torch.linalg.eigvalsh((matrix + matrix.mT) / 2).clamp_min(0))


def _effective_rank(values: Tensor) -> float:
    """exp of the entropy of non-negative `values` as shares of their sum, plus epsilon; 0 when all are 0."""
    if values.sum() == 0:
        return 0.0
    p = values / values.sum() + EPSILON
    return math.exp(-(p * p.log()).sum().item())


def _second_moment(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def _some(z: Tensor, limit: int) -> Tensor:
    """At most `limit` rows of `z`, chosen once and for all by the number of rows."""
    if len(z) <= limit:
        return z
    return z[torch.randperm(len(z), generator=generator_for(0, "label_free", len(z)))[:limit].to(z.device)]
