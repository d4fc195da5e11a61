"""How good generated samples are, judged without labels and without downloaded networks.

What counts is told in the space of the reference encoder, trained on the real samples alone. A network with
fixed random weights and principal components of the values stand beside it as second and third opinion, and
features of the user's own as a fourth. No space has seen a generated sample, and every distance is told
relative to what real samples get in its place.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import swell
from swell.errors import InputError
from swell.files import read_json
from swell.generators.codec import WhitenedPCA
from swell.generators.metrics import (
    classifier_test,
    density_and_coverage,
    duplicates,
    effective_rank,
    frechet_distance,
    kernel_distance,
)
from swell.generators.neighbours import (
    AROUND,
    CopyTest,
    closeness,
    exact_copies,
    low_quantile,
    nearest_real,
    small,
    values_of,
)
from swell.generators.reference import Reference
from swell.seeding import generator_for

MOST_FRECHET, MOST_NEIGHBOURS = 5000, 2000  # samples a side, so that two cores need seconds
MOST_PAIRS = 24
SPLITS = 4
UNSEEN_BELOW = 10  # the ratio to the share of only 5 samples is often above 2 by chance
DISAGREEMENT = 0.15  # of a space's c2st with the reference's, above which the note says so

GOOD = {"c2st": 0.60, "coverage_ratio": 0.90, "copy_excess": 2.0, "exact_copies": 0.01}
POOR = {"c2st": 0.80, "coverage_ratio": 0.60, "copy_excess": 5.0, "exact_copies": 0.10}

MEANING = {
    "c2st": "held-out accuracy of the better of two classifiers (logistic, 5 nearest) at telling generated "
    "from real; 0.5 = it cannot",
    "frechet_ratio": "Frechet distance of generated to real samples, over that between two halves of the "
    "real ones; 1 = as close as real",
    "kernel_distance_ratio": "the same of the kernel distance (biased MMD^2 at 1,000 samples or fewer, in place of "
    "the unbiased one that is about 0 between halves); 1 = as close as real",
    "density_ratio": "how densely generated samples lie where real ones do, over the same of unseen real ones; "
    "below 1 = many lie off the real ones, above 1 = they crowd at typical ones",
    "coverage_ratio": "share of real samples with a generated one near by, over the same of unseen real ones; "
    "1 = all kinds are there",
    "effective_rank_ratio": "number of directions generated samples spread over, over that of real ones; below 1 = "
    "less varied",
    "duplicates": "share of generated samples with a near-twin among the generated; compare duplicates_real",
    "duplicates_real": "share of as many real samples with a twin as near among themselves",
    "copy_distance_ratio": "median distance of generated samples to their nearest training sample, over that "
    "of unseen real samples; 1 = as new as real, far below 1 = copies",
    "copy_excess": "how many times more often than unseen real samples generated ones lie suspiciously close to a "
    "training sample, for its distance to the 20 nearest; the worse of features and values; 1 = as new as real",
    "copy_quantile": "the share of unseen real samples that counts as suspiciously close: 1 %, or what 10 samples need",
    "exact_copies": "share of generated samples equal to a training sample in every value",
    "nearest_pairs": "the generated samples closest to a training sample in values, as index pairs (generated, train)",
    "spaces": "the first six in each feature space, and the Frechet distance itself; above stand the reference "
    "encoder's",
    "note": "where another space sees a difference that the reference encoder overlooks, or the reverse",
    "verdict": f"good: c2st <= {GOOD['c2st']:g}, coverage_ratio >= {GOOD['coverage_ratio']:g} and copy_excess < "
    f"{GOOD['copy_excess']:g}, at most {100 * GOOD['exact_copies']:g} % exact copies beyond those among unseen real "
    f"samples, and no note; poor: c2st > {POOR['c2st']:g}, coverage_ratio < {POOR['coverage_ratio']:g}, copy_excess >= "
    f"{POOR['copy_excess']:g} or exact copies above {100 * POOR['exact_copies']:g} %; usable: the rest",
    "verdict_reason": "what decided it",
}
JUDGED = (
    "digest of the samples looked at, whether with features of the user's, by which version of Swell, in how many "
    "seconds: a set extended by more need not be judged again"
)


def judge(
    generated: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    reference: Reference | None = None,
    features: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What quality.json holds; MEANING says what each entry is.

    Args:
        generated: images uint8 [N, C, H, W] or vectors float32 [N, D]; the first 5,000 are looked at.
        train: what the generator learnt from; all of it is searched for copies.
        held_out: real samples the generator has not learnt from.
        reference: the reference encoder; without one it is fitted to `train` now.
        features: a function of the user's from samples to features [N, d], for a fourth space `user`.

    Raises:
        InputError: fewer than two samples of a kind, or samples of different shapes.
    """
    _check(generated, train, held_out)
    reference = reference or Reference.fit(train, seed)
    order = torch.randperm(len(train) + len(held_out), generator=generator_for(seed, "judge")).numpy()
    real = np.concatenate([train, held_out])[order[: 2 * MOST_FRECHET]]
    some = generated[:MOST_FRECHET]

    encoded = {
        "reference": (reference.features(real), reference.features(some)),
        "random_network": _random_features(real, some, reference.device),
        "pca": _pca_features(real, some, reference.device),
    }
    if features is not None:
        encoded["user"] = (_user_features(features, real), _user_features(features, some))
    spaces = {name: _compare(a, b, seed) for name, (a, b) in encoded.items()}
    headline = {name: value for name, value in spaces["reference"].items() if name in MEANING}

    a, b = encoded["reference"]
    n = min(len(a) // 2, len(b))
    twins, twins_real = duplicates(b[:n], a[:n], a[n : 2 * n])
    copies = _copies(some, train, held_out, reference, b)
    note = _note(spaces)
    exact = copies["exact_copies"] - exact_copies(held_out, train)  # real sets hold twins too
    verdict, reason = verdict_of(headline["c2st"], headline["coverage_ratio"], copies["copy_excess"], exact, note)
    return {
        "format": "swell-quality-2",
        "real": len(train) + len(held_out),
        "held_out": len(held_out),
        "generated": len(some),
        "verdict": verdict,
        "verdict_reason": reason,
        **headline,
        "duplicates": twins,
        "duplicates_real": twins_real,
        **copies,
        "spaces": spaces,
        "note": note,
        "meaning": MEANING,
    }


def judge_once(
    told: Path,
    generated: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    reference: Reference,
    features: Callable[[np.ndarray], np.ndarray] | None,
    seed: int,
) -> dict[str, Any]:
    """`judge`, and under "judged" of what and in how many seconds; or what the file `told` of a set with the same
    settings holds, where that was of the same first samples. Features of a user's are always asked.
    """
    judged = {
        "samples": hashlib.blake2b(generated[:MOST_FRECHET].tobytes(), digest_size=16).hexdigest(),
        "user_features": features is not None,
        "swell": swell.__version__,
    }
    with suppress(InputError):  # of a file that was cut short
        earlier: dict[str, Any] = read_json(told) if told.exists() and features is None else {}
        if judged.items() <= earlier.get("judged", {}).items():
            return earlier
    start = time.perf_counter()
    found = judge(generated, train, held_out, reference=reference, features=features, seed=seed)
    seconds = time.perf_counter() - start
    return {**found, "judged": {**judged, "seconds": seconds}, "meaning": {**MEANING, "judged": JUDGED}}


def verdict_of(
    c2st: float, coverage_ratio: float, copy_excess: float, exact: float = 0.0, note: str = ""
) -> tuple[str, str]:
    """good, usable or poor, and why, by the rules in MEANING["verdict"]. `exact` is the share of exact copies beyond
    that among unseen real samples; what another space sees is in `note`.
    """
    told = f"a classifier tells generated from real with accuracy {c2st:.2f}"
    covered = f"generated samples cover {coverage_ratio:.2f} of what as many real ones cover"
    copied = f"suspiciously close to training samples {copy_excess:.1f} times as often as unseen real ones"

    def failing(limits: dict[str, float]) -> list[str]:
        misses = [
            (c2st > limits["c2st"], told),
            (coverage_ratio < limits["coverage_ratio"], covered),
            (copy_excess >= limits["copy_excess"], copied),
            (exact > limits["exact_copies"], f"{100 * exact:.0f} % equal a training sample in every value"),
        ]
        return [reason for missed, reason in misses if missed]

    if reasons := failing(POOR):
        return "poor", "; ".join(reasons)
    if reasons := failing(GOOD):
        return "usable", "; ".join(reasons)
    if note:
        return "usable", note
    return "good", "hard to tell from real, as varied as real, and no more copies than among unseen real samples"


def _compare(real: Tensor, generated: Tensor, seed: int) -> dict[str, float]:
    """The scores of one feature space, real [N, D] in random order and generated [M, D].

    Real samples are split into halves; generated samples and one half, equally many, take turns to be
    compared with the other. Frechet distances, which lean on the split most, are summed over several.
    """
    n = min(len(real) // 2, len(generated))
    a, unseen, b = real[:n], real[n : 2 * n], generated[:n]
    frechet, frechet_real = 0.0, 0.0
    for number in range(SPLITS):
        order = torch.randperm(len(real), generator=generator_for(seed, "halves", number)).to(real.device)
        half, other = real[order[:n]], real[order[n : 2 * n]]
        frechet, frechet_real = frechet + frechet_distance(half, b), frechet_real + frechet_distance(half, other)
    kernel = kernel_distance(a, b, seed=seed)
    (density, coverage), (density_real, coverage_real) = density_and_coverage(a, b), density_and_coverage(a, unseen)
    return {
        "dimensions": real.shape[1],
        "c2st": classifier_test(real, generated, seed=seed).accuracy,
        "frechet_distance": frechet / SPLITS,
        "frechet_ratio": _ratio(frechet, frechet_real),
        "kernel_distance_ratio": max(1 + _ratio(kernel.value, kernel.floor), 0.0),
        "density_ratio": _ratio(density, density_real),
        "coverage_ratio": _ratio(coverage, coverage_real),
        "effective_rank_ratio": _ratio(effective_rank(b), effective_rank(a)),
    }


def _copies(
    generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, reference: Reference, encoded: Tensor
) -> dict[str, Any]:
    """The entries about copies; `encoded` [N, D] are the reference features of `generated`."""
    unseen, some = held_out[:MOST_NEIGHBOURS], generated[:MOST_NEIGHBOURS]
    test = CopyTest.fit(reference.features(train), reference.features(unseen), UNSEEN_BELOW)
    in_features = float(test.suspects(encoded[: len(some)]).double().mean()) / test.unseen_below
    device = reference.device
    unseen_distance = nearest_real(unseen, train, AROUND, device)[1]  # [N, k]
    index, distance = nearest_real(some, train, AROUND, device)
    threshold, below = low_quantile(closeness(torch.from_numpy(unseen_distance)), UNSEEN_BELOW)
    in_values = float((closeness(torch.from_numpy(distance)) <= threshold).double().mean()) / below
    closest = np.argsort(distance[:, 0], kind="stable")[:MOST_PAIRS]
    return {
        "copy_distance_ratio": _ratio(float(np.median(distance[:, 0])), float(np.median(unseen_distance[:, 0]))),
        "copy_excess": max(in_features, in_values),
        "copy_quantile": max(test.unseen_below, below),
        "exact_copies": exact_copies(generated, train),
        "nearest_pairs": np.stack([closest, index[closest, 0]], 1).tolist(),
    }


def _ratio(value: float, real: float) -> float:
    return value / max(real, 1e-12)


def _note(spaces: dict[str, dict[str, float]]) -> str:
    seen = spaces["reference"]["c2st"]
    parts = [
        f"{name} tells generated from real with {score['c2st']:.2f}"
        for name, score in spaces.items()
        if abs(score["c2st"] - seen) > DISAGREEMENT
    ]
    return f"{' and '.join(parts)}, the reference encoder with {seen:.2f}: look at the samples" if parts else ""


def _check(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> None:
    for name, samples in (("generated", generated), ("training", train), ("held-out", held_out)):
        if len(samples) < 2:
            raise InputError(f"{len(samples)} {name} samples", "at least 2", "a judgement of few is worth little")
        if samples.shape[1:] != train.shape[1:] or samples.dtype != train.dtype:
            given = f"{name} samples {samples.dtype}{list(samples.shape)}"
            raise InputError(given, f"{train.dtype} [N, {', '.join(map(str, train.shape[1:]))}] like the training ones")


def _user_features(features: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> Tensor:
    made = np.asarray(features(samples), dtype=np.float32)
    if made.ndim != 2 or len(made) != len(samples) or not np.isfinite(made).all():
        raise InputError(f"user features {list(made.shape)}", f"finite numbers [{len(samples)}, d]", "one row a sample")
    return torch.from_numpy(made)


def _pca_features(
    real: np.ndarray, generated: np.ndarray, device: torch.device, most: int = 64
) -> tuple[Tensor, Tensor]:
    """Whitened principal components of the values: `most` of them, or what holds 99 % of the variance."""
    a, b = (values_of(real)(samples) for samples in (real, generated))
    pca = WhitenedPCA.fit(a.numpy(), max(min(most, len(real) // 4), 2), share=0.99)
    return pca.encode(a).to(device), pca.encode(b).to(device)


def _random_features(real: np.ndarray, generated: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """256 features of a fixed network with random weights: two convolutions for images, two dense layers
    for vectors.
    """

    def weights(layer: str, *shape: int) -> Tensor:
        fan_in = int(np.prod(shape[1:])) or 1
        drawn = torch.randn(*shape, generator=generator_for(0, "random features", layer))
        return (drawn * (2 / fan_in) ** 0.5).to(device)

    values = values_of(real)
    mean = values(real).mean(0) if real.ndim == 2 else torch.zeros(())

    def of(samples: np.ndarray) -> Tensor:
        if samples.ndim == 2:
            x = (values(samples) - mean).to(device)
            h = F.relu(x @ weights("1", 256, x.shape[1]).T + 0.5 * weights("b", 256))
            return (h @ weights("2", 256, 256).T).relu()
        parts = []
        for start in range(0, len(samples), 256):
            x = small(torch.from_numpy(samples[start : start + 256]).to(device)) / 127.5 - 1  # [B, C, H, W]
            x = F.relu(F.conv2d(x, weights("1", 64, x.shape[1], 3, 3), padding=1))
            x = F.avg_pool2d(x, 2) if min(x.shape[2:]) >= 4 else x
            x = F.relu(F.conv2d(x, weights("2", 64, 64, 3, 3), padding=1))  # [B, 64, H / 2, W / 2]
            parts.append(F.adaptive_avg_pool2d(x, 2).flatten(1))  # [B, 256]
        return torch.cat(parts)

    with torch.inference_mode():
        return of(real), of(generated)
