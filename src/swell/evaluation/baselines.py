"""Features that need no encoder: what every trained encoder has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from swell.data.partners import Components
from swell.errors import InputError
from swell.nets.encoder import Encoder
from swell.seeding import seed_for

if TYPE_CHECKING:
    from swell.data.sparse import SparseRows


def pixels(samples: np.ndarray) -> np.ndarray:
    """Images uint8 [N, C, H, W] as float32 [N, C H W] in [0, 1]; vectors float32 [N, D] as they are.

    Raises:
        InputError: for anything else.
    """
    if samples.ndim == 4 and samples.dtype == np.uint8:
        return samples.reshape(len(samples), -1).astype(np.float32) / np.float32(255)
    if samples.ndim == 2 and samples.dtype == np.float32:
        return samples
    raise InputError(
        f"samples {samples.dtype}{list(samples.shape)}", "images uint8 [N, C, H, W] or vectors float32 [N, D]"
    )


def pca(train: np.ndarray, test: np.ndarray, dims: int = 128, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The first `dims` principal components, or as many as there are, fitted on `train` [n, D] only.

    Returns float32 [n, dims] and [m, dims]. `seed` matters for wide features, whose components are found by
    random projection (scikit-learn's own choice of solver).

    Raises:
        InputError: for dims < 1 or features of different widths.
    """
    from sklearn.decomposition import PCA

    if dims < 1 or train.ndim != 2 or train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"dims {dims} for features {list(train.shape)} and {list(test.shape)}",
            "dims of 1 or more and two arrays [n, D] of equal width",
        )
    model = PCA(min(dims, *train.shape), random_state=seed).fit(train)
    return model.transform(train).astype(np.float32), model.transform(test).astype(np.float32)


def components(
    train: np.ndarray | SparseRows, test: np.ndarray | SparseRows, dims: int
) -> tuple[np.ndarray, np.ndarray]:
    """`pca` of vectors that need not be dense at once: float32 [n, dims] and [m, dims]."""
    projection = Components.fit(train, dims)
    return projection(train).numpy(), projection(test).numpy()


def untrained(encoder: Encoder) -> Encoder:
    """An encoder of the same settings with random weights, always the same ones, on the same device."""
    torch.manual_seed(seed_for(0, "random-init baseline"))
    return Encoder(encoder.config).to(encoder.mean.device)
