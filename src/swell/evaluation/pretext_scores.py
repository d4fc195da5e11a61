"""What frozen features tell about the samples that nobody had to label: which way is up, what a hidden column holds.

Both are linear: ridge regression on standardised features, fitted on every second sample and judged on the others and
the reverse, its penalty chosen by generalised cross-validation. So an encoder that lost something is not credited with
what a deeper probe could dig out of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from swell.evaluation.features import Standardiser, as_features, exact_arithmetic
from swell.seeding import generator_for

if TYPE_CHECKING:
    from swell.data.sparse import SparseRows
    from swell.nets.encoder import Encoder

PENALTIES = tuple(10.0**e for e in range(-4, 4))  # times the number of rows
PARTS = 3  # of the columns, each of which is hidden in turn
MOST_COLUMNS = 1024  # hidden ones that are predicted
PIXEL_SIDE, PIXEL_ROWS = 8, 2048  # what a rule on pixels sees
TURNS = 4


def rotation(encoder: Encoder, samples: np.ndarray) -> float:
    """Accuracy of telling by how many quarter turns an image was rotated: from 0.25, chance, to 1.

    Linear, on features of the `samples` uint8 [n, C, S, S] and of their three rotations; all four of one image are on
    the same side of the split.

    Source: Reed et al. 2021 (SelfAugment, arXiv 2009.07724), who find its ranking of augmentations near that of labels.
    Fails: means nothing where orientation does not (see `can_rotate`); falls with any invariance to rotation, so it
    leans towards weak augmentation.
    """
    with exact_arithmetic():
        turned = (np.ascontiguousarray(np.rot90(samples, turn, (2, 3))) for turn in range(TURNS))
        x = torch.cat([as_features(encoder.encode(images), "rotated") for images in turned])
        return _accuracy(x, TURNS)


def can_rotate(samples: np.ndarray) -> bool:
    """Whether rotations of these images mean anything: square ones whose small pixels alone tell them better than
    chance, by three standard errors. Views from above, cells and textures, where every direction is alike, do not.
    """
    if samples.ndim != 4 or samples.shape[2] != samples.shape[3]:
        return False
    found, error = told_apart_by_pixels(samples, lambda x: [x.rot90(turn, (2, 3)) for turn in range(TURNS)])
    return found > 1 / TURNS + 3 * error


def told_apart_by_pixels(samples: np.ndarray, change: Callable[[Tensor], list[Tensor]]) -> tuple[float, float]:
    """Accuracy of a linear rule on 8 x 8 pixels in telling the versions that `change` makes of images apart, and the
    standard error of chance, for images that are alike in all their versions."""
    rows = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), PIXEL_ROWS)).astype(int))
    x = torch.from_numpy(samples[rows]).float()
    small = F.adaptive_avg_pool2d(x, (min(PIXEL_SIDE, x.shape[2]), min(PIXEL_SIDE, x.shape[3])))
    versions = change(small)
    with exact_arithmetic():
        found = _accuracy(torch.cat([version.flatten(1) for version in versions]), len(versions))
    chance = 1 / len(versions)
    return found, math.sqrt(chance * (1 - chance) / len(rows))  # by image: its versions do not err independently


def _accuracy(x: Tensor, versions: int) -> float:
    """Of telling the version, 0 to versions - 1, of rows `x` [versions * n, D] that are listed version by version."""
    n = len(x) // versions
    truth = torch.arange(versions, device=x.device).repeat_interleave(n)
    fold = (torch.arange(n, device=x.device) % 2).repeat(versions)
    predicted = cross_fitted(x, F.one_hot(truth, versions).double(), fold)
    return (predicted.argmax(1) == truth).double().mean().item()


def masked_columns(encoder: Encoder, samples: np.ndarray | SparseRows, seed: int = 0) -> float:
    """Share of the variance of hidden columns that features of the visible ones predict: 0 none, 1 all.

    The columns of `samples` float32 [n, D] are split into three parts at random. Each part is set to 0 in turn and
    predicted, standardised, from the features of what is left; columns that do not vary do not count, and of more than
    1,024 a random part.

    Source: ours, in the place of rotation, after the pretext tasks of SelfAugment (arXiv 2009.07724).
    Fails: rewards passing columns through; columns that are noise, or predict each other poorly, shrink it for all.
    NaN when no column varies.
    """
    error = variance = 0.0
    with exact_arithmetic():
        for visible, hidden in _hidden(samples, seed):
            x = as_features(encoder.encode(visible), "masked")
            y = torch.from_numpy(hidden).double().to(x.device)
            sd = Standardiser.fit(y).sd
            y = y[:, sd.isfinite()] / sd[sd.isfinite()]
            fold = torch.arange(len(x), device=x.device) % 2
            error += (y - cross_fitted(x, y, fold)).square().sum().item()
            variance += (y - _other_mean(y, fold)).square().sum().item()
    return max(0.0, 1 - error / variance) if variance > 0 else math.nan


def _hidden(samples: np.ndarray | SparseRows, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each part of the columns: the samples without it, and it, or some of it."""
    columns = torch.randperm(samples.shape[1], generator=generator_for(seed, "hidden columns")).numpy()
    for part in np.array_split(columns, PARTS):
        if len(part):
            visible = np.array(samples[:])
            hidden = visible[:, part[: -(-MOST_COLUMNS // PARTS)]]
            visible[:, part] = 0
            yield visible, hidden


def _other_mean(y: Tensor, fold: Tensor) -> Tensor:
    """For every row of `y` [n, T] the mean over the other fold."""
    return torch.stack([y[fold == 1].mean(0), y[fold == 0].mean(0)])[fold]


def cross_fitted(x: Tensor, y: Tensor, fold: Tensor) -> Tensor:
    """Predictions float64 [n, T] of targets `y` [n, T] from `x` [n, D]: of fold 0 by fold 1 and the reverse."""
    out = torch.empty_like(y)
    for side in (0, 1):
        fit = fold != side
        standardise, mean = Standardiser.fit(x[fit]), y[fit].mean(0)
        weights = ridge(standardise(x[fit]).double(), y[fit] - mean)
        out[~fit] = standardise(x[~fit]).double() @ weights + mean
    return out


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """W [D, T] of min |x W - y|^2 + penalty |W|^2, x [n, D] and y [n, T] centred, float64.

    The penalty, one for all targets, has the least generalised cross-validation score n RSS / (n - df)^2 (Golub, Heath
    & Wahba 1979), df counting the mean too. Solved in the smaller of the two spaces.
    """
    n, wide = len(x), x.shape[1] > len(x)
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > 1e-12 * values[-1]
    if not bool(kept.any()) or values[-1] <= 0:
        return x.new_zeros(x.shape[1], y.shape[1])
    e, v = values[kept], vectors[:, kept]  # squared singular values, and singular vectors of one side
    left = v if wide else (x @ v) / e.sqrt()
    along = left.T @ y  # [r, T]
    outside = (y.square().sum() - along.square().sum()).clamp_min(0)

    def score(penalty: float) -> float:
        shrunk = e / (e + n * penalty)
        residual = outside + ((1 - shrunk)[:, None] * along).square().sum()
        return (n * residual / (n - 1 - shrunk.sum()).clamp_min(1e-6).square()).item()

    penalty = n * min(reversed(PENALTIES), key=score)
    right = (x.T @ v) / e.sqrt() if wide else v
    return right @ ((e.sqrt() / (e + penalty))[:, None] * along)
