"""What theory says of weight and strength before anything is trained: where a search begins, never where it ends.

Everything here is derived by us and a hypothesis. The bound is the standard one of learning from two domains
(Ben-David et al. 2010, theorem 3) with the mass beta on real samples and total variation D as the distance of the
domains; AdaInf's own theorem (arXiv 2403.12448, 3.1) has its first term alone and so always says beta = 1:

    g(beta) = (1 - beta) D + c sqrt(beta^2 / n + (1 - beta)^2 / m)

for n real and m generated samples. c is unknown. It is taken from one published optimum, and so is the distance D
there, for which nobody has published a number in any feature space: `Anchor.divergence` is an assumption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from swell.data.mixture import real_share
from swell.errors import InputError
from swell.views.checks import STRENGTHS, strength_number

LEAST_GAIN = 0.01  # relative fall of the bound below which generated samples are not worth the trouble


@dataclass(frozen=True)
class Anchor:
    """An optimum somebody has published, from which c follows."""

    n: int
    m: int
    weight: float
    divergence: float  # of its generated samples, measured as the user's are

    @property
    def c(self) -> float:
        """The c for which `weight` minimises g: c = D S / ((a + b) beta - b) with S the root in g, from g' = 0."""
        a, b, beta = 1 / self.n, 1 / self.m, real_share(self.n, self.m, self.weight)
        return self.divergence * math.sqrt(a * beta**2 + b * (1 - beta) ** 2) / ((a + b) * beta - b)


# AdaInf on CIFAR-10: 50,000 real and 1,000,000 generated images, weight 10 the best of its sweep. A divergence of 0.1,
# an accuracy of 0.55 at telling them apart, is what we assume of its generator.
ADAINF = Anchor(50_000, 1_000_000, 10.0, 0.1)


@dataclass(frozen=True)
class WeightPrior:
    """The minimiser of g and what it is worth.

    `weight` N = beta m / ((1 - beta) n), None where no generated sample is to be used; `gain` is the share by which
    the bound falls below that of real samples alone, g(1).
    """

    beta: float
    weight: float | None
    use: bool
    gain: float
    reason: str


def bound(beta: float, divergence: float, n: int, m: int, c: float) -> float:
    """g(beta); see the head of the file."""
    return (1 - beta) * divergence + c * math.sqrt(beta**2 / n + (1 - beta) ** 2 / m)


def best_share(divergence: float, n: int, m: int, c: float) -> float:
    """The beta in [0, 1] that minimises g. With a = 1/n, b = 1/m, k = D/c and S the root in g:

        g'(beta) = 0  <=>  u = k S,  u = (a + b) beta - b;  and (a + b) S^2 = u^2 + ab
        =>  u^2 = k^2 ab / (a + b - k^2),  beta* = (b + u) / (a + b)

    g is convex, so this is the minimum where beta* <= 1, that is k^2 <= a or D <= c / sqrt(n); else beta = 1 is. D = 0
    gives n / (n + m), plain concatenation.
    """
    a, b, k = 1 / n, 1 / m, divergence / c
    if k * k >= a:
        return 1.0
    return (b + k * math.sqrt(a * b / (a + b - k * k))) / (a + b)


def weight_prior(divergence: float, n: int, m: int, anchor: Anchor = ADAINF) -> WeightPrior:
    """The weight of a real sample, for `n` real and `m` generated samples with total variation `divergence`.

    Says no inflation where the bound would not fall by 1 %: from D = c / sqrt(n) on, and a little below. Steep there:
    good to a factor of two at best. Blind to copies: m copies of real samples have D = 0 and are worth nothing.

    Raises:
        InputError: a divergence outside [0, 1], or no samples of a kind.
    """
    if not 0 <= divergence <= 1 or n < 1 or m < 1:
        given = f"divergence {divergence} of {m} generated from {n} real samples"
        raise InputError(given, "one from 0 to 1, and at least one sample of each")
    c = anchor.c
    beta, alone = best_share(divergence, n, m, c), c / math.sqrt(n)
    gain = 1 - bound(beta, divergence, n, m, c) / alone
    if gain < LEAST_GAIN:
        needed = f"{'clearly ' if divergence < alone else ''}below {alone:.2f}"
        reason = (
            f"generated samples lie {divergence:.2f} from real ones (0 = the same); with {n:,} real samples they would "
            f"pay {needed}"
        )
        return WeightPrior(1.0, None, False, 0.0, reason)
    weight = beta * m / ((1 - beta) * n)
    reason = (
        f"generated samples lie {divergence:.2f} from real ones, where {min(alone, 1.0):.2f} is the most that pays "
        f"with {n:,} real samples: one real sample counts as {weight:,.1f} of the {m:,} generated ones"
    )
    return WeightPrior(beta, weight, True, gain, reason)


# AdaInf's figure on strength against data size: images and the best minimum crop area of SimCLR's views on CIFAR-10,
# all else strong. Half of the set, the set, and with 0.1 and 1 million generated images.
PUBLISHED = ((25_000, 0.02), (50_000, 0.08), (150_000, 0.20), (1_050_000, 0.30))
HOME = 50_000  # the size at which the strong default (0.08) was best: sizes count relative to it


@dataclass(frozen=True)
class StrengthPrior:
    """`strength` in [0, 1] for the inflated set; `growth` is its effective size over that of the real set."""

    strength: float
    growth: float
    use: bool
    how: str  # "table" or "overlap"
    reason: str


def effective_size(n: int, m: int, weight: float | None) -> float:
    """1 / (beta^2 / n + (1 - beta)^2 / m), Kish's size of a weighted sample: n + m at weight 1, n without inflation."""
    if weight is None or m == 0:
        return float(n)
    beta = real_share(n, m, weight)
    return 1 / (beta**2 / n + (1 - beta) ** 2 / m)


def crop_for(size: float, table: tuple[tuple[float, float], ...] = PUBLISHED) -> float:
    """The best minimum crop area for `size` images: straight lines through `table` over ln size, level outside."""
    if size <= table[0][0]:
        return table[0][1]
    for (n0, y0), (n1, y1) in pairwise(table):
        if size <= n1:
            return y0 + (y1 - y0) * math.log(size / n0) / math.log(n1 / n0)
    return table[-1][1]


def strength_of_crop(area: float) -> float:
    """The strength at which SimCLR's views have this minimum crop area: `ViewPlan.at_strength` turned round, 1 at most.

    >>> strength_of_crop(0.08), round(strength_of_crop(0.2), 12)
    (1.0, 0.5)
    """
    g, weak = math.log(area) / math.log(0.08), math.log(0.2) / math.log(0.08)
    s = g / (2 * weak) if g <= weak else 0.5 + (g - weak) / (2 * (1 - weak))
    return min(max(s, 0.0), 1.0)


def strength_prior(n: int, m: int, weight: float | None, default: float | str = "strong") -> StrengthPrior:
    """The strength at no cost: `default`, right for `n` real samples alone, weakened as the published optima were.

    The table holds sizes of one data set with one network; that the ratio of sizes is what matters elsewhere, for other
    data and for views of vectors, is our guess. It says nothing else where nothing is inflated.

    Raises:
        InputError: a strength outside [0, 1], sizes or a weight that are none.
    """
    s0 = strength_number(default)
    if n < 1 or m < 0 or (weight is not None and not weight > 0):
        raise InputError(f"{n} real and {m} generated samples at weight {weight}", "counts, and a weight above 0")
    growth = effective_size(n, m, weight) / n
    if growth <= 1:
        return StrengthPrior(s0, 1.0, weight is not None and m > 0, "table", "no more data than the default is for")
    s = s0 * strength_of_crop(crop_for(HOME * growth))
    reason = (
        f"the mixture is worth {growth:.1f} times the real samples; at that growth the published optimum on CIFAR-10 "
        f"has strength {s / s0 if s0 else 0:.2f} of its default (strong = {STRENGTHS['strong']:g})"
    )
    return StrengthPrior(s, growth, True, "table", reason)
