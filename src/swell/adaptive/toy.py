"""The two-Gaussian toy of AdaInf: labelling error and connectivity of an augmentation graph, computed, not guessed.

Samples x in the plane come from the mixture of N((-1, 0), 0.7 I) and N((1, 0), 0.7 I); a view is z = x + r u, u uniform
on the unit disc, so that the radius r is the strength of the augmentation (Wang et al. 2024, arXiv 2403.12448, whose
sizes, k and discretisation are not known to us: those here are ours). The label of a point is the more likely
Gaussian, the sign of its first coordinate.

- Labelling error alpha(r): the probability that a view has another label than its sample. An expectation over samples:
  it does not know how many there are.
- Connectivity lambda_{k+1}: with a_i(z) the density of views of sample i and p = mean_i a_i, the normalised adjacency
  between views, (1/n) sum_i a_i(z) a_i(z') / sqrt(p(z) p(z')), is B B^T for B(z, i) = a_i(z) / sqrt(n p(z)), and so
  shares its eigenvalues with the n x n matrix B^T B,

      M_ij = 1/n  integral a_i(z) a_j(z) / p(z) dz.

  lambda_{k+1} = 1 - (the (k+1)-th largest of them): 0 where the graph falls into more than k parts. No view is ever
  drawn: the integral runs over a grid of cells, and for the population, where the sum over i is an integral too,
  nothing is random at all.
- The bound of HaoChen et al. 2021 (arXiv 2106.04156) on the error of a linear probe: 4 alpha / lambda_{k+1} + 8 alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swell.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MEAN, VARIANCE = 1.0, 0.7  # of the Gaussians, at (-MEAN, 0) and (MEAN, 0)
FINENESS = 8  # cells along the radius of a disc, for finite samples
REACH = 4.0  # of the population's grid beyond the means, in standard deviations


def samples(n: int, seed: int) -> np.ndarray:
    """[n, 2] points, half of them (up to one) from each Gaussian. The first m of a longer draw are the draw of m."""
    x = np.random.default_rng(seed).normal(0.0, math.sqrt(VARIANCE), (n, 2))
    x[:, 0] += np.where(np.arange(n) % 2 == 0, -MEAN, MEAN)
    return x


def flip_probability(x: np.ndarray, r: float) -> np.ndarray:
    """Probability [n] that a view of points with first coordinates `x` [n] has the other sign.

    It needs r u_1 < -|x|; u_1 has the semicircle's distribution function F(t) = 1/2 + (t sqrt(1 - t^2) + asin t) / pi.
    """
    t = np.clip(-np.abs(x) / r, -1, 0)
    flipped: np.ndarray = 0.5 + (t * np.sqrt(1 - t * t) + np.arcsin(t)) / np.pi
    return flipped


def labelling_error(r: float, nodes: int = 200) -> float:
    """alpha(r) = E over x of `flip_probability`, by Gauss-Legendre quadrature over |x| < r, where alone it is not 0."""
    _radius(r)
    t, w = np.polynomial.legendre.leggauss(nodes)
    x = r * (t + 1) / 2  # one side; the other is its mirror image
    density = sum(np.exp(-((x - m) ** 2) / (2 * VARIANCE)) for m in (-MEAN, MEAN)) / math.sqrt(8 * np.pi * VARIANCE)
    return float(r / 2 * (w * density * flip_probability(x, r)).sum() * 2)


@dataclass(frozen=True)
class Views:
    """The views of n samples, spread over cells of the plane."""

    a: csr_array  # [n, cells]: the probability of each cell among the views of each sample
    p: np.ndarray  # [cells]: the mean of `a`
    cells: np.ndarray  # [cells, 2]: their centres
    side: float

    @classmethod
    def of(cls, points: np.ndarray, r: float, fineness: int = FINENESS) -> Views:
        """Discs of radius `r` around `points` [n, 2]: the cells whose centres lie inside, `fineness` of them per r."""
        from scipy.sparse import csr_array

        _radius(r)
        h = r / fineness
        steps = np.arange(-fineness - 1, fineness + 2)
        offset = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)  # [s, 2]
        cells = np.floor(points / h).astype(np.int64)[:, None] + offset  # [n, s, 2]
        inside = (((cells + 0.5) * h - points[:, None]) ** 2).sum(-1) <= r * r  # [n, s]
        count = inside.sum(1)
        owner = np.repeat(np.arange(len(points)), count)
        found, column = np.unique(cells[inside], axis=0, return_inverse=True)
        a = csr_array(((1 / count)[owner], (owner, column.ravel())), shape=(len(points), len(found)))
        return cls(a, a.sum(0) / len(points), (found + 0.5) * h, h)

    def gram(self) -> csr_array:
        """M [n, n]; its rows sum to 1."""
        from scipy.sparse import diags_array

        return self.a @ diags_array(1 / self.p) @ self.a.T / self.a.shape[0]


def eigenvalues(points: np.ndarray, r: float, count: int, fineness: int = FINENESS) -> np.ndarray:
    """lambda_1 .. lambda_count of the graph of the views of `points` [n, 2], rising; exactly 0 for each part."""
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import connected_components

    n = len(points)
    if not 1 <= count <= n:
        raise InputError(f"{count} eigenvalues for {n} points", "1 to as many as there are points")
    m = Views.of(points, r, fineness).gram()
    gamma = eigh(m.toarray(), eigvals_only=True, subset_by_index=[n - count, n - 1])[::-1]
    found: np.ndarray = np.clip(1 - gamma, 0, 1)
    found[: connected_components(m, directed=False, return_labels=False)] = 0
    return found


def connectivity(points: np.ndarray, r: float, k: int, fineness: int = FINENESS) -> float:
    """lambda_{k+1}; see `eigenvalues`."""
    return float(eigenvalues(points, r, k + 1, fineness)[k])


def probe_error(points: np.ndarray, r: float, k: int, fineness: int = FINENESS) -> float:
    """Error of the best linear head on the encoder the graph asks for, which the bound is about.

    That encoder maps a view z to the k leading eigenfunctions f_j(z) = sum_i a_i(z) v_ij / (sqrt(n gamma_j) p(z)), v
    the eigenvectors of M (HaoChen et al., the minimiser of the spectral contrastive loss). The head is fitted by least
    squares to the whole population's labels and judged on it at clean samples, so that only the features are at fault;
    where no view reaches there are none, and half is wrong.
    """
    from scipy.linalg import eigh

    n = len(points)
    views = Views.of(points, r, fineness)
    gamma, v = eigh(views.gram().toarray(), subset_by_index=[n - k, n - 1])
    f = (views.a.T @ v) / views.p[:, None] / np.sqrt(n * np.maximum(gamma, 1e-9))  # [cells, k]
    x, y = views.cells.T
    mass = views.side**2 * sum(np.exp(-((x - m) ** 2 + y**2) / (2 * VARIANCE)) for m in (-MEAN, MEAN))
    mass = mass / (4 * np.pi * VARIANCE)
    label, root = np.sign(x), np.sqrt(mass)
    head = np.linalg.lstsq(f * root[:, None], label * root, rcond=None)[0]
    return float(mass[(f @ head) * label <= 0].sum() + max(0.0, 1 - mass.sum()) / 2)


def population_connectivity(r: float, k: int, spacing: float | None = None) -> float:
    """lambda_{k+1} for infinitely many samples: points and views both on a grid of `spacing`, r / 8 unless told.

    M becomes v -> sqrt(P) A (A (sqrt(P) v) / p), where A averages over the disc of radius r and p = A P.
    """
    from scipy.signal import fftconvolve
    from scipy.sparse.linalg import LinearOperator, eigsh

    _radius(r)
    h = spacing or min(r / FINENESS, 0.1)
    sd = math.sqrt(VARIANCE)
    x, y = (np.arange(-math.ceil(e / h), math.ceil(e / h) + 1) * h for e in (MEAN + REACH * sd + r, REACH * sd + r))
    square = x[:, None] ** 2 + y[None] ** 2 + 1
    mass = np.exp(-square / (2 * VARIANCE)) * np.cosh(x[:, None] * MEAN / VARIANCE)  # the sum of both Gaussians
    mass[(np.abs(x) > MEAN + REACH * sd)[:, None] | (np.abs(y) > REACH * sd)[None]] = 0
    mass /= mass.sum()
    steps = np.arange(-math.floor(r / h), math.floor(r / h) + 1) * h
    disc = (steps[:, None] ** 2 + steps[None] ** 2 <= r * r * (1 + 1e-9)).astype(float)
    disc /= disc.sum()
    root = np.sqrt(mass)

    def average(v: np.ndarray) -> np.ndarray:
        out: np.ndarray = fftconvolve(v, disc, mode="same")
        return out

    p = average(mass)
    weight = np.where(p > 1e-12 * p.max(), 1 / np.maximum(p, 1e-300), 0)

    def apply(v: np.ndarray) -> np.ndarray:
        return (root * average(weight * average(root * v.reshape(mass.shape)))).ravel()

    operator = LinearOperator((mass.size, mass.size), matvec=apply, dtype=float)
    gamma = eigsh(operator, k + 1, which="LA", return_eigenvectors=False, tol=1e-6, v0=root.ravel() * 1.0)
    return float(np.clip(1 - np.sort(gamma)[0], 0, 1))


def bound(alpha: float, connected: float) -> float:
    """4 alpha / lambda_{k+1} + 8 alpha; infinite for a graph in more than k parts."""
    return 4 * alpha / connected + 8 * alpha if connected > 0 else math.inf


def _radius(r: float) -> None:
    if not (r > 0 and math.isfinite(r)):
        raise InputError(f"radius {r}", "a finite number above 0")
