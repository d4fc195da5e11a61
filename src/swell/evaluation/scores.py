"""Every label-free score of an encoder on a reference, and what to know before trusting one.

    found = scores(run.encoder, reference)
    SCORES["lidar"].merit(found["lidar"])     # larger is better, whatever the score's own direction

Each score alone can be met by a bad encoder, and most lean towards weak or towards strong augmentation: read several
of opposite lean. Compare at equal reference (samples, views, seed) and equal width of features only. The formulas are
in `label_free`, `graph_scores` and `pretext_scores`; docs/scores.md has them in one table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from swell.data.source import Source
from swell.evaluation.features import exact_arithmetic
from swell.evaluation.graph_scores import K, acr, arc, connectivity, label_error, learnability
from swell.evaluation.label_free import label_free
from swell.evaluation.pretext_scores import PARTS, TURNS, can_rotate, masked_columns, rotation
from swell.evaluation.reference import Reference, clean_features, view_features
from swell.training.watchdog import COLLAPSED

if TYPE_CHECKING:
    from swell.nets.encoder import Encoder

__all__ = ["SCORES", "Score", "collapsed", "forwards_of", "learnability", "scores", "scores_of_features"]


def _always(_: Source | Reference) -> bool:
    return True


@dataclass(frozen=True)
class Score:
    """What is known of a score.

    Attributes:
        higher_is_better: its direction; `best_at`, where given, counts instead: the nearer the better.
        favours: "weak" or "strong", the views it prefers on every set of `benchmarks/adapt/`; "" where sets differ.
        applies: whether it means anything for these samples.
        cost: what it takes beyond the features of n clean samples and of their q views.
        failure: how a bad encoder gets a good one.
    """

    higher_is_better: bool
    favours: str
    source: str
    cost: str
    failure: str
    applies: Callable[[Source | Reference], bool] = _always
    best_at: float | None = None

    def merit(self, value: float) -> float:
        """`value` so that larger is better; a score that does not exist (NaN) is worst, -inf."""
        if math.isnan(value):
            return -math.inf
        if self.best_at is not None:
            return -abs(value - self.best_at)
        return value if self.higher_is_better else -value


def _rotates(source: Source | Reference) -> bool:
    return source.is_images and can_rotate(source.samples)


def _has_columns(source: Source | Reference) -> bool:
    return not source.is_images and source.shape[0] > 1


SCORES: dict[str, Score] = {
    "rankme": Score(
        True,
        "",
        "Garrido et al. 2023, arXiv 2210.02885",
        "one SVD [n, D]",
        "directions of pure noise raise it; grows with n",
    ),
    "alpha_req": Score(
        False,
        "",
        "Agrawal et al. 2022, NeurIPS",
        "one SVD [n, D]",
        "assumes a power law; noise of every size passes for one",
        best_at=1.0,
    ),
    "lidar": Score(
        True,
        "weak",
        "Thilak et al. 2024, arXiv 2312.04000",
        "two covariances [D, D]",
        "of few views, noise in every direction passes for rank; trifles that the views leave alone count in full",
    ),
    "alignment": Score(False, "", "Wang & Isola 2020, arXiv 2005.10242", "sums", "a constant encoder scores best"),
    "uniformity": Score(
        False, "weak", "Wang & Isola 2020, arXiv 2005.10242", "distances of 4,096 rows at most", "noise scores best"
    ),
    "feature_std": Score(
        True, "weak", "Chen & He 2021, arXiv 2011.10566", "sums", "an alarm: collapse onto a few directions passes"
    ),
    "acr": Score(
        False,
        "",
        "Wang et al. 2022, arXiv 2203.13457",
        "distances of 8,192 views at most",
        "an encoder that recognises each sample by a trifle confuses none",
    ),
    "arc": Score(
        True,
        "",
        "Wang et al. 2022, arXiv 2203.13457",
        "as acr, and the views' features by the untrained encoder",
        "as acr; rescales it by what the untrained encoder reaches",
    ),
    "rotation": Score(
        True,
        "",
        "Reed et al. 2021 (SelfAugment), arXiv 2009.07724",
        "4 n forwards, two ridge regressions",
        "rewards knowing which way is up, whether or not that matters; falls with invariance to rotation",
        _rotates,
    ),
    "masked_columns": Score(
        True,
        "",
        "ours, after SelfAugment's pretext tasks",
        "3 n forwards, six ridge regressions",
        "rewards copying the input through; a linear encoder that keeps all columns does well",
        _has_columns,
    ),
    "connectivity": Score(
        False,
        "",
        "ours, after HaoChen et al. 2021, arXiv 2106.04156",
        "four eigenproblems [D, D]",
        "counts what the views leave alone, of use or not; needs many more samples than k",
    ),
    "label_error": Score(
        False,
        "",
        "ours, after HaoChen et al. 2021, arXiv 2106.04156",
        "three k-means on n rows",
        "clusters by brightness or batch flip as seldom as clusters of classes",
    ),
    "learnability": Score(
        True,
        "",
        "after Lu et al. 2023 (CLID), TMLR; consensus ours",
        "three k-means and n^2 distances a candidate",
        "the majority decides: many candidates alike vote for one another",
    ),
}


def scores(encoder: Encoder, reference: Reference, initial: Encoder | None = None) -> dict[str, float]:
    """All scores of `encoder` on `reference`; "arc" where `initial`, the encoder before training, is given.

    A score that does not apply to such samples is left out, one that does not exist for these features is NaN.
    "learnability" needs all candidates at once and has a function of its own. "rows" is the number of samples.
    `forwards_of` says what it costs.

    Raises:
        InputError: samples of another shape than the encoder's; features that are not finite.
    """
    clean, views = clean_features(encoder, reference.samples), view_features(encoder, reference)
    found = scores_of_features(clean, views)
    if initial is not None:
        with exact_arithmetic():
            found["arc"] = arc(found["acr"], acr(view_features(initial, reference)))
    if SCORES["rotation"].applies(reference):
        found["rotation"] = rotation(encoder, reference.samples)
    if SCORES["masked_columns"].applies(reference):
        found["masked_columns"] = masked_columns(encoder, reference.samples, reference.seed)
    return found


def forwards_of(reference: Reference, arc: bool = False) -> int:
    """Samples and views that `scores` sends through encoders; with `arc`, through the untrained one too."""
    pretext = TURNS * SCORES["rotation"].applies(reference) + PARTS * SCORES["masked_columns"].applies(reference)
    return len(reference) * (1 + reference.q * (1 + arc) + pretext)


def scores_of_features(clean: Tensor, views: Tensor) -> dict[str, float]:
    """Those scores that features alone decide: of clean samples [n, D] and of their views [q, n, D].

    The alignment of collapsed features, which would be the best there is, is NaN.

    Raises:
        InputError: features not finite or of another shape.
    """
    found = label_free(clean, views)
    with exact_arithmetic():
        found["acr"] = acr(views)
        found["connectivity"] = connectivity(views) if len(clean) >= 2 * K + 4 else math.nan
        found["label_error"] = label_error(clean, views)
    if collapsed(found):
        found["alignment"] = math.nan
    return found


def collapsed(found: Mapping[str, float]) -> bool:
    """Whether features are all but one point: a spread below what training warns of, or one direction alone."""
    return not (found["feature_std"] >= COLLAPSED and found["rankme"] > 1.01)
