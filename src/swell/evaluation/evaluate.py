"""One frozen probe for every arm: encode, probe, score, and put the baselines beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.baselines import components, pca, pixels, untrained
from swell.evaluation.corruptions import evaluate_corruptions
from swell.evaluation.few_labels import few_labels
from swell.evaluation.label_free import label_free
from swell.evaluation.predictions import Predictions
from swell.evaluation.probe import FittedProbe
from swell.evaluation.reference import Reference, reference_plan
from swell.evaluation.retrieval import retrieval
from swell.evaluation.scores import forwards_of, scores
from swell.ledger import Cost, counted_flops, timed
from swell.nets.encoder import Encoder

LABEL_FREE_ROWS = 2048  # samples the label-free scores read
LABEL_FREE_VIEWS = 4  # views of each
PCA_DIMENSIONS, PCA_OF_VECTORS = 64, 50
MOST_RAW = 1 << 29  # numbers of raw samples that are probed: 2 GiB once they are dense


def test_part(data: Any) -> Any:
    """The test split of a built-in set that was named without one; anything else as it is."""
    whole = isinstance(data, str) and data.startswith("builtin:") and data.count(":") == 1
    return f"{data}:test" if whole else data


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


@dataclass(frozen=True)
class Extras:
    """What is asked beside the probe of every labelled data set; `few_labels` holds budgets, see that module."""

    retrieval: bool = False
    few_labels: Sequence[str] = ()
    corruptions: bool = False


def evaluate_encoder(encoder: Encoder, train: Source, test: Source, scored: bool = False) -> dict[str, Any]:
    """The first of what `judge_encoder` returns, without extras."""
    return judge_encoder(encoder, train, test, scored)[0]


def judge_encoder(
    encoder: Encoder, train: Source, test: Source, scored: bool = False, extras: Extras | None = None
) -> tuple[dict[str, Any], FittedProbe, Predictions]:
    """The probe on clean whole-image features, and the label-free scores of the train samples: where `scored`, all that
    apply, under reference views that follow from the data, else those of clean features alone; then the `extras`.

    Returns what `evaluation.json` holds, without baselines and ledger; the fitted probe, which holds the features too;
    and what all of it said of every test sample.

    Raises:
        InputError: samples without labels, of other classes in test than in train, or of another shape than the
            encoder's.
    """
    same_classes(train, test)
    extras = extras or Extras()
    cost, encoding = Cost(), Cost()
    with timed(cost):
        with timed(encoding):
            train_x, test_x = encoder.encode(train.samples), encoder.encode(test.samples)
        probe = _probe(train_x, train, test_x, test)
        result = {**probe.result, "calibration": probe.calibration}
        result["encoding"] = _encoding(encoder, train, encoding.seconds / (len(train) + len(test)))
        rows = np.linspace(0, len(train) - 1, min(len(train), LABEL_FREE_ROWS)).astype(int)
        if scored:
            part = train.subset(rows)
            reference = Reference(part.samples, reference_plan(part, LABEL_FREE_VIEWS))
            result["label_free"] = scores(encoder, reference, untrained(encoder))
            cost.forwards += forwards_of(reference, arc=True)
        else:
            result["label_free"] = label_free(train_x[rows])
        values = _extras(encoder, test, probe, extras, result)
    cost.forwards += len(train) + len(test)
    cost.forwards += result["corruptions"]["forwards"] if "corruptions" in result else 0
    result["cost"] = {"seconds": cost.seconds, "forwards": cost.forwards}
    predictions = replace(probe.predictions, values={**probe.predictions.values, **values})
    return result, probe, predictions


def _extras(
    encoder: Encoder, test: Source, probe: FittedProbe, extras: Extras, result: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Add the extras to `result`; returns what they say of every test sample, by score."""
    values: dict[str, np.ndarray] = {}
    features = probe.train.x, probe.train.y, probe.test.x, probe.test.y
    if extras.retrieval:
        result["retrieval"], precision = retrieval(*features)
        values |= {} if precision is None else {"map": precision}
    if extras.few_labels:
        result["few_labels"], shares = few_labels(*features, extras.few_labels)
        values |= {f"few_labels_{budget}": share for budget, share in shares.items()}
    if extras.corruptions:
        result["corruptions"], shares = evaluate_corruptions(encoder, test, probe)
        values |= {f"corrupted_{score}": share for score, share in shares.items()}
    return values


def _encoding(encoder: Encoder, source: Source, seconds: float) -> dict[str, Any]:
    """What one encoding costs at test time: a single view of the whole sample, beside which bags of patches stand."""
    with counted_flops() as flops:
        encoder.encode(source.samples[:1], batch=1)
    return {
        "view": "whole",
        "forwards_per_sample": 1,
        "flops_per_sample": flops[0],
        "seconds_per_1000": 1000 * seconds,
        "sd": 0.0,
    }


def evaluate_baselines(encoder: Encoder, train: Source, test: Source) -> dict[str, dict[str, Any]]:
    """The same probe on the samples as they are, on their principal components, and on the encoder's random
    initialisation. What samples are is "pixels" of images and "features" of vectors; sparse vectors, and images in
    shards, too many to be dense at once are probed by their components only."""
    random_init = untrained(encoder)
    sets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    few = (len(train) + len(test)) * math.prod(train.shape) <= MOST_RAW
    if train.is_images and (few or isinstance(train.samples, np.ndarray)):
        raw = pixels(np.asarray(train.samples)), pixels(np.asarray(test.samples))
        sets = {"pixels": raw, "pca": pca(*raw, PCA_DIMENSIONS)}
    elif train.is_images:
        sets["pca"] = components(train.samples, test.samples, PCA_DIMENSIONS)
    else:
        if few:
            sets["features"] = train.samples[:], test.samples[:]
        sets["pca"] = components(train.samples, test.samples, PCA_OF_VECTORS)
    sets["random_init"] = random_init.encode(train.samples), random_init.encode(test.samples)
    return {name: _probe(a, train, b, test).result for name, (a, b) in sets.items()}


def _probe(train_x: np.ndarray, train: Source, test_x: np.ndarray, test: Source) -> FittedProbe:
    if train.labels is None or test.labels is None:
        raise InputError("samples without labels", "labelled samples", "open them with labels=True")
    return FittedProbe(train_x, train.labels, test_x, test.labels)
