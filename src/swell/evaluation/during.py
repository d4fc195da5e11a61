"""Quick label-free scores for the log of a run: fewer scores, of fewer samples and views, than a finished run gets."""

from __future__ import annotations

import math
from collections.abc import Mapping

from swell.data.source import Source
from swell.evaluation.features import exact_arithmetic
from swell.evaluation.graph_scores import acr
from swell.evaluation.label_free import alignment, feature_std, rankme, uniformity
from swell.evaluation.reference import Reference, clean_features, reference_plan, view_features
from swell.nets.encoder import Encoder
from swell.training.watch import Watch

ROWS, VIEWS = 256, 2
BATCH = 512  # vectors that `Encoder.encode` sends through at least


def watch(real: Source, every: float) -> Watch:
    """RankMe, feature std, uniformity, alignment and ACR of 256 of the run's own samples under two reference views,
    each time the share `every` of the budget is used up.

    The samples are not held out, so that logging does not change the run: read the numbers for their course, and for
    collapse. What needs many samples (alpha-ReQ, LiDAR, connectivity), k-means or more forwards waits for `scores`.

    Raises:
        InputError: `every` is no share.
    """
    reference = Reference(real.samples, reference_plan(real, VIEWS)).first(ROWS)

    def measure(encoder: Encoder) -> Mapping[str, float]:
        clean, views = clean_features(encoder, reference.samples), view_features(encoder, reference)
        if not bool(clean.isfinite().all() and views.isfinite().all()):
            return {}  # the loss will tell
        with exact_arithmetic():
            found = {
                "rankme": rankme(clean),
                "feature_std": feature_std(clean),
                "uniformity": uniformity(clean),
                "alignment": alignment(views),
                "acr": acr(views),
            }
        return {name: value for name, value in found.items() if math.isfinite(value)}

    encoded = len(reference) if reference.is_images else BATCH * math.ceil(len(reference) / BATCH)
    return Watch(every, encoded + VIEWS * len(reference), measure)
