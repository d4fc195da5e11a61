"""Distances between two sets of samples, given as rows of features.

Every function takes float tensors [N, D] and [M, D] on one device and works there, in blocks: memory never
grows with N times M. None knows what made the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from swell.generators.neighbours import low_quantile, nearest
from swell.seeding import generator_for

BLOCK = 1024  # rows worked on at once
FOLDS = 5
RIDGE = 10.0  # of the logistic classifier, on standardised features: keeps it from fitting noise at a few hundred rows


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians with the moments of a [N, D] and b [M, D].

        |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))

    Heusel et al. 2017 (arXiv 1706.08500), equation 6. Biased upwards by few rows: compare at equal N only.
    """
    (m_a, s_a), (m_b, s_b) = _moments(a), _moments(b)
    values, vectors = torch.linalg.eigh(s_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # symmetric root of s_a
    cross = torch.linalg.eigvalsh(root @ s_b @ root).clamp(min=0).sqrt().sum()  # trace of (s_a s_b)^(1/2)
    return max(float((m_a - m_b).square().sum() + s_a.trace() + s_b.trace() - 2 * cross), 0.0)


class KernelDistance(NamedTuple):
    """`value` estimates MMD^2 without bias; `floor` is what the biased estimate would show for equal sets."""

    value: float
    floor: float


def kernel_distance(a: Tensor, b: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> KernelDistance:
    """Kernel distance (KID): the mean over random subsets of m = `size` rows (all, if fewer) of

        1/(m(m-1)) sum_{i != j} [k(a_i, a_j) + k(b_i, b_j)] - 2/m^2 sum_{i, j} k(a_i, b_j),   k(x, y) = (x.y/D + 1)^3

    Binkowski et al. 2018 (arXiv 1801.01401), equation 4 and section 4. Without bias, hence about 0 and of
    either sign for equal sets, which is nothing to divide by. The floor is: leaving i = j in for two sets
    distributed like a [N, D] adds 2/m (E k(x, x) - E k(x, x')) to the expectation, a positive number that
    every N estimates well. So 1 + value/floor reads like a ratio of Frechet distances at m rows.
    """
    m = min(size, len(a), len(b))
    values, floors = [], []
    for number in range(1 if m == len(a) == len(b) else subsets):
        draws = generator_for(seed, "kernel distance", number)
        x, y = (rows[torch.randperm(len(rows), generator=draws)[:m].to(rows.device)].double() for rows in (a, b))
        (xx, x_own), (yy, y_own), (xy, _) = _kernel_sums(x, x), _kernel_sums(y, y), _kernel_sums(x, y)
        values.append((xx - x_own + yy - y_own) / (m * (m - 1)) - 2 * xy / m**2)
        floors.append(2 / m * (x_own / m - (xx - x_own) / (m * (m - 1))))
    return KernelDistance(sum(values) / len(values), sum(floors) / len(floors))


def _kernel_sums(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Sum over all pairs of k(x_i, y_j), and over the pairs i = j."""
    total = sum(float((part @ y.T / x.shape[1] + 1).pow(3).sum()) for part in x.split(BLOCK))
    return total, float(((x * y).sum(1) / x.shape[1] + 1).pow(3).sum())


def density_and_coverage(real: Tensor, generated: Tensor, k: int = 5) -> tuple[float, float]:
    """Fidelity and diversity by the balls B(x_i, r_i) around real rows that reach to their k-th nearest real one.

        density = 1/(kM) sum_j #{i : y_j in B(x_i, r_i)},   coverage = 1/N #{i : some y_j in B(x_i, r_i)}

    Naeem et al. 2020 (arXiv 2002.09797), equations 4 and 5; real [N, D], generated [M, D]. For equal
    distributions and N = M the density is 1 and the coverage 1 - prod_{i < k} (N - 1 - i) / (2N - 1 - i). k
    shrinks to N - 1.
    """
    radius = nearest(real, real, k, among_themselves=True)[1][:, -1]  # [N]
    k, inside, covered = min(k, len(real) - 1), 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part in generated.float().split(BLOCK):
        for start in range(0, len(real), 8 * BLOCK):
            rows = slice(start, start + 8 * BLOCK)
            within = torch.cdist(part, real[rows].float()) < radius[rows]  # [m, n]
            inside += int(within.sum())
            covered[rows] |= within.any(0)
    return inside / (k * len(generated)), float(covered.double().mean())


def effective_rank(rows: Tensor) -> float:
    """exp(-sum_i p_i ln p_i) with p_i = s_i / sum s, s the singular values of the centred rows [N, D].

    Roy and Vetterli 2007. Between 0 (all rows are equal) and D; grows with N, compare at equal N only.
    """
    s = torch.linalg.eigvalsh(_moments(rows)[1]).clamp(min=0).sqrt()
    if not s.sum() > 0:
        return 0.0
    p = s / s.sum()
    return float(torch.special.entr(p).sum().exp())


def duplicates(generated: Tensor, real: Tensor, unseen: Tensor) -> tuple[float, float]:
    """Share of rows with a near-twin in their own set: of `generated`, and for comparison of `unseen`.

    All [N, D] with the same N, as twins grow more frequent with N. A near-twin is closer than a low
    quantile (1 %, or what 5 rows need) of the distances of `real` rows to their nearest other real one.
    """
    t, _ = low_quantile(_nearest_other(real))
    in_generated, in_unseen = (float((_nearest_other(rows) <= t).double().mean()) for rows in (generated, unseen))
    return in_generated, in_unseen


def _nearest_other(rows: Tensor) -> Tensor:
    return nearest(rows, rows, among_themselves=True)[1][:, 0]


@dataclass(frozen=True)
class Logistic:
    """Logistic regression: the log-odds of class 1 are x.w + c for rows x [N, D]."""

    weights: Tensor  # float64 [D]
    constant: Tensor  # float64 []

    @classmethod
    def fit(cls, rows: Tensor, which: Tensor) -> Self:
        """rows [N, D], which [N] of 0 and 1. Newton's method on the sum of the log losses plus a ridge on the
        weights of the standardised features.
        """
        x, y = rows.double(), which.double()
        mean, std = x.mean(0), x.std(0, correction=0)
        std = torch.where(std > 1e-9 * std.max(), std, torch.inf)  # constant features have no say
        x = torch.cat([(x - mean) / std, x.new_ones(len(x), 1)], 1)  # [N, D + 1]
        ridge = torch.full_like(x[0], RIDGE)
        ridge[-1] = 1e-9  # none on the constant
        w = torch.zeros_like(x[0])

        def loss(w: Tensor) -> Tensor:
            z = x @ w
            return (torch.nn.functional.softplus(z) - y * z).sum() + (ridge * w * w).sum() / 2

        for _ in range(30):
            p = torch.sigmoid(x @ w)
            gradient = x.T @ (p - y) + ridge * w
            step = torch.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + torch.diag(ridge), gradient)
            while loss(w - step) > loss(w) and step.abs().max() > 1e-9:
                step = step / 2
            w = w - step
            if step.abs().max() < 1e-7:
                break
        weights = w[:-1] / std
        return cls(weights, w[-1] - weights @ mean)

    def log_odds(self, rows: Tensor) -> Tensor:
        """rows [N, D] -> float64 [N]"""
        return rows.double() @ self.weights + self.constant


@dataclass(frozen=True)
class ClassifierTest:
    """How well classifiers tell two sets apart on rows they were not trained on."""

    logistic: float  # accuracy
    neighbours: float  # accuracy
    log_ratio: Tensor  # float64 [M]: of each generated row used, ln of the density of real over generated ones there

    @property
    def accuracy(self) -> float:
        """Of the better classifier: 0.5 if the sets cannot be told apart, 1 if always."""
        return max(self.logistic, self.neighbours)

    @property
    def ratio(self) -> Tensor:
        """The density ratio p / (1 - p) of each generated row, p the probability of being real."""
        return self.log_ratio.exp()


def classifier_test(real: Tensor, generated: Tensor, most: int = 2500, k: int = 5, seed: int = 0) -> ClassifierTest:
    """Two-sample test by classifiers, cross-validated: logistic regression, and the vote of the k nearest.

    Lopez-Paz and Oquab 2017 (arXiv 1610.06545). real [N, D], generated [M, D]; equally many rows of each are
    used, the first min(N, M, most). The density ratio is that of the logistic classifier, whose odds are
    smooth, out of fold.
    """
    n = min(len(real), len(generated), most)
    rows = torch.cat([real[:n], generated[:n]]).float()  # [2n, D]
    is_real = (torch.arange(2 * n) < n).to(rows.device)
    order = torch.cat([torch.randperm(n, generator=generator_for(seed, "folds", part)) for part in range(2)])
    fold = (order % min(FOLDS, n)).to(rows.device)
    log_odds, votes = torch.zeros(2 * n, dtype=torch.float64, device=rows.device), torch.zeros_like(is_real)
    for number in range(min(FOLDS, n)):
        learn, ask = fold != number, fold == number
        log_odds[ask] = Logistic.fit(rows[learn], is_real[learn]).log_odds(rows[ask])
        mean, std = rows[learn].mean(0), rows[learn].std(0, correction=0)
        known, asked = ((rows[part] - mean) / std.clamp(min=1e-6) for part in (learn, ask))
        index = nearest(asked, known, k)[0]
        votes[ask] = is_real[learn][index].double().mean(1) > 0.5
    right = [float((said == is_real).double().mean()) for said in (log_odds > 0, votes)]
    return ClassifierTest(right[0], right[1], log_odds[n:])


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of rows [N, D], in float64."""
    mean = torch.stack([part.double().sum(0) for part in rows.split(8 * BLOCK)]).sum(0) / len(rows)
    covariance = mean.new_zeros(rows.shape[1], rows.shape[1])
    for part in rows.split(8 * BLOCK):
        centred = part.double() - mean
        covariance += centred.T @ centred
    return mean, covariance / max(len(rows) - 1, 1)
