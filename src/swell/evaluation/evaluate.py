"""One frozen probe for every arm: encode, probe, score, and put the baselines beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.baselines import pca, pixels, untrained
from swell.evaluation.label_free import label_free
from swell.evaluation.probe import probe
from swell.ledger import Cost, timed
from swell.nets.encoder import Encoder
from swell.seeding import generator_for
from swell.views.plan import ViewPlan
from swell.views.render import render

LABEL_FREE_ROWS = 2048  # samples the label-free scores read
LABEL_FREE_VIEWS = 4  # views of each for alignment and LiDAR
PCA_DIMENSIONS = 64


def split(source: Source, test_share: float = 0.3, seed: int = 0) -> tuple[Source, Source]:
    """A stratified split of labelled samples, fixed by the seed; each class gives `test_share` of its rows."""
    if source.labels is None:
        raise InputError(
            f"{source.provenance.origin} (no labels)", "labelled samples", "give --labels KEY or labelled data"
        )
    rng = np.random.default_rng(seed)
    test = np.zeros(len(source), bool)
    for label in np.unique(source.labels):
        rows = rng.permutation(np.flatnonzero(source.labels == label))
        test[rows[: round(test_share * len(rows))]] = True
    if not test.any() or test.all():
        raise InputError(
            f"{len(source)} labelled samples", "enough for a train and a test part", "give more samples or --test"
        )
    return source.subset(np.flatnonzero(~test)), source.subset(np.flatnonzero(test))


def same_classes(train: Source, test: Source) -> None:
    if list(train.classes) != list(test.classes):
        raise InputError(
            f"test classes {list(test.classes)[:5]}",
            f"the train classes {list(train.classes)[:5]}",
            "give a test set with the same classes",
        )


def view_features(encoder: Encoder, plan: ViewPlan, samples: np.ndarray, seed: int = 0) -> np.ndarray:
    """Features [V, n, D] of `LABEL_FREE_VIEWS` random views of each sample, from the plan's first group."""
    device = encoder.mean.device
    images = torch.tensor(samples, device=device)
    first = ViewPlan((plan.groups[0],), plan.weaken_jitter)
    was_training = encoder.training
    encoder.eval()
    out = []
    with torch.no_grad():
        for v in range(LABEL_FREE_VIEWS):
            rows = []
            for i, part in enumerate(images.split(512)):
                (x,) = render(first, part, generator_for(seed, "label-free", v, i))
                rows.append(encoder(x[: len(part)]).float().cpu().numpy())
            out.append(np.concatenate(rows))
    encoder.train(was_training)
    return np.stack(out)


def evaluate_encoder(encoder: Encoder, train: Source, test: Source, plan: ViewPlan | None = None) -> dict[str, Any]:
    """The probe on clean whole-image features, and the label-free scores of the train samples.

    Returns what `evaluation.json` holds, without baselines and ledger.
    """
    same_classes(train, test)
    cost = Cost()
    with timed(cost):
        train_x, test_x = encoder.encode(train.samples), encoder.encode(test.samples)
        result = _probe(train_x, train, test_x, test)
        rows = np.linspace(0, len(train) - 1, min(len(train), LABEL_FREE_ROWS)).astype(int)
        views = view_features(encoder, plan, train.samples[rows]) if plan is not None else None
        result["label_free"] = label_free(train_x[rows], views)
    cost.forwards = len(train) + len(test) + (LABEL_FREE_VIEWS * len(rows) if plan is not None else 0)
    result["cost"] = {"seconds": cost.seconds, "forwards": cost.forwards}
    return result


def evaluate_baselines(encoder: Encoder, train: Source, test: Source) -> dict[str, dict[str, Any]]:
    """The same probe on raw pixels, on their principal components, and on the encoder's random initialisation."""
    random_init = untrained(encoder)
    raw = pixels(train.samples), pixels(test.samples)
    sets = {
        "pixels": raw,
        "pca": pca(*raw, PCA_DIMENSIONS),
        "random_init": (random_init.encode(train.samples), random_init.encode(test.samples)),
    }
    return {name: _probe(a, train, b, test) for name, (a, b) in sets.items()}


def _probe(train_x: np.ndarray, train: Source, test_x: np.ndarray, test: Source) -> dict[str, Any]:
    if train.labels is None or test.labels is None:
        raise InputError("samples without labels", "labelled samples", "open them with labels=True")
    return probe(train_x, train.labels, test_x, test.labels)
