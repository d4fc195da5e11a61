"""How good generated samples are, judged without labels and without downloaded networks.

Two feature spaces: whitened principal components of the real samples (64, or what holds 99 % of their
variance), and a network with fixed random weights as a second opinion. Neither has seen a generated sample,
and every distance is told relative to what real samples get in its place.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from swell.generators.codec import WhitenedPCA
from swell.seeding import generator_for

COMPARED_SIDE = 32  # larger images are averaged down to this before they are compared
MOST_FRECHET, MOST_C2ST, MOST_NEIGHBOURS = 5000, 2500, 2000  # samples a side, so that two cores need seconds

MEANING = {
    "frechet_ratio": "Frechet distance of generated to real samples, over that between two halves of the "
    "real ones; 1 = as close as real",
    "c2st": "held-out accuracy of the better of two classifiers (logistic, 5 nearest) at telling generated "
    "from real; 0.5 = it cannot",
    "copy_distance_ratio": "median distance of generated samples to their nearest training sample, over that "
    "of unseen real samples; 1 = as new as real, far below 1 = copies",
    "exact_copies": "share of generated samples equal to a training sample in every value",
    "spaces": "the first two in each feature space; above stands the worse of both",
}


def judge(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """What quality.json holds. `train` is what the generator learnt from, `held_out` what it has not seen."""
    real = np.concatenate([train, held_out])[np.random.default_rng(0).permutation(len(train) + len(held_out))]
    real, generated = real[: 2 * MOST_FRECHET], generated[:MOST_FRECHET]
    spaces: dict[str, dict[str, float]] = {}
    for name, a, b in (
        ("pca", *_pca_features(real, generated)),
        ("random_network", *_random_features(real, generated)),
    ):
        n = min(len(a) // 2, len(b))
        among_real = frechet_distance(a[:n], a[n : 2 * n])
        spaces[name] = {
            "dimensions": a.shape[1],
            "frechet_ratio": frechet_distance(a[:n], b[:n]) / max(among_real, 1e-12),
            "c2st": classifier_accuracy(a, b),
        }
    some = generated[:MOST_NEIGHBOURS]
    unseen = nearest_real(held_out[:MOST_NEIGHBOURS], train)[1]
    ratio = float(np.median(nearest_real(some, train)[1]) / max(float(np.median(unseen)), 1e-12))
    return {
        "format": "swell-quality-1",
        "real": len(train) + len(held_out),
        "held_out": len(held_out),
        "generated": len(generated),
        "frechet_ratio": max(s["frechet_ratio"] for s in spaces.values()),
        "c2st": max(s["c2st"] for s in spaces.values()),
        "copy_distance_ratio": ratio,
        "exact_copies": exact_copies(generated, train),
        "spaces": spaces,
        "meaning": MEANING,
    }


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians with the moments of a [N, D] and b [M, D] (Heusel et al.
    2017).
    """
    mean = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    s_a, s_b = np.atleast_2d(np.cov(a.T.astype(np.float64))), np.atleast_2d(np.cov(b.T.astype(np.float64)))
    values, vectors = np.linalg.eigh(s_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # symmetric root of s_a
    cross = np.sqrt(np.linalg.eigvalsh(root @ s_b @ root).clip(0)).sum()  # trace of (s_a s_b)^(1/2)
    return max(mean + float(np.trace(s_a) + np.trace(s_b) - 2 * cross), 0.0)


def classifier_accuracy(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sample test by classifier (Lopez-Paz and Oquab 2017) on equally many rows of a [N, D] and b [M,
    D]: five-fold accuracy.
    """
    n = min(len(a), len(b), MOST_C2ST)
    rows, which = np.concatenate([a[:n], b[:n]]), np.repeat([0, 1], n)
    folds = StratifiedKFold(min(5, n), shuffle=True, random_state=0)
    classifiers = (LogisticRegression(C=0.1, max_iter=300), KNeighborsClassifier(min(5, n // 2)))
    return max(
        float(cross_val_score(make_pipeline(StandardScaler(), c), rows, which, cv=folds).mean()) for c in classifiers
    )


def nearest_real(generated: np.ndarray, real: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """For every generated sample its k nearest real ones: indices int64 [N, k] and distances float32 [N,
    k], nearest first.

    The distance is the root mean square difference over values: of bytes for images (averaged down to 32
    pixels a side where they are larger), in standard deviations of the real samples for vectors. Works in
    blocks: memory does not grow with the product of both.
    """
    queries, base = _comparable(generated, real), _comparable(real, real)  # [N, D], [M, D]
    norms, k = (base**2).sum(1), min(k, len(base))
    index = torch.empty(len(queries), k, dtype=torch.int64)
    distance = torch.empty(len(queries), k)
    for start in range(0, len(queries), 512):
        q = queries[start : start + 512]
        found, where = torch.full((len(q), k), torch.inf), torch.zeros(len(q), k, dtype=torch.int64)
        for at in range(0, len(base), 8192):
            block = norms[at : at + 8192] - 2 * q @ base[at : at + 8192].T  # squared distance less |q|^2
            both = torch.cat([found, block], 1)
            places = torch.cat([where, torch.arange(at, at + block.shape[1]).expand(len(q), -1)], 1)
            found, chosen = both.topk(k, dim=1, largest=False)
            where = places.gather(1, chosen)
        exact = torch.stack(
            [(q - base[where[:, j]]).square().mean(1).sqrt() for j in range(k)], 1
        )  # a copy gets exactly 0
        distance[start : start + 512], order = exact.sort(1)
        index[start : start + 512] = where.gather(1, order)
    return index.numpy(), distance.numpy()


def exact_copies(generated: np.ndarray, real: np.ndarray) -> float:
    """Share of generated samples that equal a real one in every value."""
    known = {_digest(sample) for sample in real}
    return sum(_digest(sample) in known for sample in generated) / len(generated)


def _digest(sample: np.ndarray) -> bytes:
    return hashlib.blake2b(sample.tobytes(), digest_size=16).digest()


def _comparable(samples: np.ndarray, real: np.ndarray) -> Tensor:
    """float32 [N, D]: images as bytes at 32 pixels a side at most, vectors in standard deviations of
    `real`.
    """
    if samples.ndim == 2:
        std = real.std(0, dtype=np.float64)
        return torch.from_numpy((samples / np.where(std > 0, std, 1)).astype(np.float32))
    return torch.cat([_small(torch.from_numpy(samples[i : i + 1024])).flatten(1) for i in range(0, len(samples), 1024)])


def _small(images: Tensor) -> Tensor:
    x = images.float()
    side = (min(x.shape[2], COMPARED_SIDE), min(x.shape[3], COMPARED_SIDE))
    return x if side == x.shape[2:] else F.adaptive_avg_pool2d(x, side)


def _pca_features(real: np.ndarray, generated: np.ndarray, most: int = 64) -> tuple[np.ndarray, np.ndarray]:
    a, b = _comparable(real, real), _comparable(generated, real)
    pca = WhitenedPCA.fit(a.numpy(), max(min(most, len(real) // 4), 2), share=0.99)
    return pca.encode(a).numpy(), pca.encode(b).numpy()


def _random_features(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 features of a fixed network with random weights: two convolutions for images, two dense layers
    for vectors.
    """

    def weights(layer: str, *shape: int) -> Tensor:
        fan_in = int(np.prod(shape[1:])) or 1
        return torch.randn(*shape, generator=generator_for(0, "random features", layer)) * (2 / fan_in) ** 0.5

    def of(samples: np.ndarray) -> np.ndarray:
        if samples.ndim == 2:
            x = _comparable(samples, real) - _comparable(real, real).mean(0)
            h = F.relu(x @ weights("1", 256, x.shape[1]).T + 0.5 * weights("b", 256))
            return (h @ weights("2", 256, 256).T).relu().numpy()
        parts = []
        for start in range(0, len(samples), 256):
            x = _small(torch.from_numpy(samples[start : start + 256])) / 127.5 - 1  # [B, C, H, W]
            x = F.relu(F.conv2d(x, weights("1", 64, x.shape[1], 3, 3), padding=1))
            x = F.avg_pool2d(x, 2) if min(x.shape[2:]) >= 4 else x
            x = F.relu(F.conv2d(x, weights("2", 64, 64, 3, 3), padding=1))  # [B, 64, H / 2, W / 2]
            parts.append(F.adaptive_avg_pool2d(x, 2).flatten(1))  # [B, 256]
        return torch.cat(parts).numpy()

    with torch.inference_mode():
        return of(real), of(generated)
