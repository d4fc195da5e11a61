"""Whether alternating training goes well: numbers at every switch, alarms in plain words, and when to go back.

Encoder and generator feed each other, so an error of one can grow in the other. After every phase the encoder's
features of the same samples are measured, and the positives that a generator made are compared with their anchors; all
without labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from swell.seeding import generator_for

ROWS = 1024  # samples that are looked at, the same at every switch
RANK_KEPT, SPREAD_KEPT = 0.5, 0.3  # share of the last good phase's that must be left
LEAST_RANK, LEAST_SPREAD = 1.5, 0.02  # without a phase to compare with
SAME = 0.02  # squared distances under this share of the usual one between two samples are called none
LOST = 0.9  # and from this share on, a positive is hardly nearer to its anchor than any sample


def watched_rows(count: int) -> Tensor:
    """The samples to look at, int64 [n] in rising order: all of up to 1,024, else a fixed random part."""
    if count <= ROWS:
        return torch.arange(count)
    return torch.randperm(count, generator=generator_for(0, "stability", count))[:ROWS].sort().values


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the covariance's eigenvalues, as shares, of features z [n, D]; 0 when all rows are equal.

    Roy & Vetterli 2007, of centred features: so a shift that all samples share is no direction of its own.
    """
    z = z.double() - z.double().mean(0)
    values = torch.linalg.svdvals(z).square()
    total = values.sum()
    if total <= 1e-12 * len(z):
        return 0.0
    p = values / total
    return math.exp(-torch.special.xlogy(p, p).sum().item())


def feature_spread(z: Tensor) -> float:
    """Root mean squared distance of features z [n, D] from their mean, as a share of their root mean square: 0 when all
    rows are equal, 1 when they are centred."""
    z = z.double()
    whole = z.square().sum()
    return float(((z - z.mean(0)).square().sum() / whole).sqrt()) if whole > 0 else 0.0


def drift(before: Tensor, after: Tensor) -> float:
    """1 - linear CKA of features [n, D] and [n, D'] of the same samples: 0 if one is the other turned, moved or scaled.

    Kornblith et al. 2019 (arXiv 1905.00414). 1 where either is constant: then nothing is left of what was.
    """
    a, b = (z.double() - z.double().mean(0) for z in (before, after))
    norms = (a.T @ a).norm() * (b.T @ b).norm()
    return 1 - float((a.T @ b).square().sum() / norms) if norms > 0 else 1.0


def usual_distance(z: Tensor) -> float:
    """Mean squared distance between two different rows of z [n, D]."""
    z = z.double()
    return 2 * float((z - z.mean(0)).square().sum()) / (len(z) - 1)


def positive_distances(anchors: Tensor, positives: Tensor) -> dict[str, float]:
    """Where positives [k, n, D] of anchors [n, D] lie; all as shares of the usual squared distance between anchors.

    `to_anchor`, `to_nearest` (the nearest other anchor); `astray`, the share of positives that lie nearer to another
    anchor than to their own; `diversity`, between two positives of one anchor (0 with k = 1, which has no two);
    `apart`, between positives of different anchors: 0 when the generator answers the same to everybody.
    """
    k = len(positives)
    usual = max(usual_distance(anchors), 1e-300)
    a, p = anchors.double(), positives.double()
    centre = a.mean(0)  # cancels less far from the origin
    a, p = a - centre, p - centre
    own = (p - a).square().sum(-1)  # [k, n]
    nearest = torch.stack([_nearest_other(one, a) for one in p])
    within = 2 * (p - p.mean(0)).square().sum(-1).mean() * k / max(k - 1, 1)
    apart = sum(usual_distance(one) for one in p) / k
    return {
        "to_anchor": own.mean().item() / usual,
        "to_nearest": nearest.mean().item() / usual,
        "astray": (nearest < own).double().mean().item(),
        "diversity": within.item() / usual,
        "apart": apart / usual,
    }


def _nearest_other(positives: Tensor, anchors: Tensor) -> Tensor:
    d2 = (positives.square().sum(1)[:, None] + anchors.square().sum(1) - 2 * positives @ anchors.T).clamp_min(0)
    return d2.fill_diagonal_(torch.inf).min(1).values


def moved(before: Tensor, after: Tensor, anchors: Tensor) -> float:
    """How far a generator's answers went from one round to the next: mean squared distance of the mean positives of
    each anchor, [k, n, D] both, as a share of the usual distance between anchors [n, D]."""
    step = (before.double().mean(0) - after.double().mean(0)).square().sum(-1).mean().item()
    return step / max(usual_distance(anchors), 1e-300)


def encoder_alarm(now: Mapping[str, float], good: Mapping[str, float] | None) -> str:
    """What is wrong with the encoder, in a sentence; nothing if it is well.

    Args:
        now, good: `effective_rank` and `spread` after this phase, and after the last good one, if there was one.
    """
    rank, spread = now["effective_rank"], now["spread"]
    if not (math.isfinite(rank) and math.isfinite(spread)):
        return "the encoder's features are not finite"
    if spread < LEAST_SPREAD or rank < LEAST_RANK:
        return (
            f"the encoder has collapsed: its features differ along {rank:.1f} directions and by {100 * spread:.1f} % "
            "of their size"
        )
    if good is None:
        return ""
    if rank < RANK_KEPT * good["effective_rank"]:
        return (
            f"the encoder is collapsing: its features used {good['effective_rank']:.1f} directions after the last "
            f"good phase and {rank:.1f} now"
        )
    if spread < SPREAD_KEPT * good["spread"]:
        return (
            f"the encoder is collapsing: its features differed by {100 * good['spread']:.0f} % of their size after "
            f"the last good phase and by {100 * spread:.0f} % now"
        )
    return ""


def positives_alarm(found: Mapping[str, float]) -> str:
    """What is wrong with positives, in a sentence; nothing if they may be of use. See `positive_distances`."""
    if found["apart"] < SAME:
        return "the generator has collapsed: positives of different samples are all but the same"
    if found["to_anchor"] < SAME:
        return "the positives are copies: they hardly differ from their anchors, so they teach no more than those"
    if found["to_anchor"] >= LOST:
        return (
            "the positives have lost their samples: they lie hardly nearer to them than any two samples to each other "
            f"({found['to_anchor']:.2f} of that squared distance)"
        )
    return ""
