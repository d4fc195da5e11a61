"""Between samples and the numbers a network sees, there and back.

Images are scaled to [-1, 1] or, for an MLP on larger ones, projected on half-whitened principal components;
vectors are standardised per feature. The way back clamps to what the data can hold, so every generated
sample is a possible one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

MOST_ROWS_FOR_PCA = 10_000
# Full whitening makes faint, noisy axes as loud as the leading ones; with half of it, samples of digits were clearly
# harder to tell from real ones.
HALF_WHITENED = 0.5
COARSE_LEVELS = 64  # images with so few different bytes are coarsely quantised


@dataclass(frozen=True)
class WhitenedPCA:
    """Rows [N, D] to uncorrelated coordinates [N, K], and linearly back: of unit variance where `whiten` is
    1, merely rotated where it is 0.
    """

    mean: Tensor  # [D]
    axes: Tensor  # [K, D], orthonormal
    scale: Tensor  # [K], standard deviation along each axis to the power of `whiten`

    @classmethod
    def fit(cls, rows: np.ndarray, most: int, share: float = 1.0, whiten: float = 1.0, seed: int = 0) -> Self:
        """rows float32 [N, D]; at most `most` axes, no more than hold `share` of the variance, none that is
        only rounding error.
        """
        from sklearn.decomposition import PCA  # its imports take 140 MiB, which no training of images needs

        rng = np.random.default_rng(seed)
        if len(rows) > MOST_ROWS_FOR_PCA:
            rows = rows[np.sort(rng.choice(len(rows), MOST_ROWS_FOR_PCA, replace=False))]
        most = min(most, rows.shape[1], len(rows) - 1)
        pca = PCA(most, random_state=seed, svd_solver="randomized" if 3 * most < min(rows.shape) else "full").fit(rows)
        scale = np.sqrt(np.maximum(pca.explained_variance_, 0))
        held = pca.explained_variance_ratio_
        wanted = np.cumsum(held) - held < share  # an axis stays while those before it hold too little
        kept = wanted & (scale > 1e-4 * scale[0])
        parts = (pca.mean_, pca.components_[kept], scale[kept] ** whiten)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in parts))

    def encode(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.axes.T / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return (z * self.scale) @ self.axes + self.mean


@dataclass(frozen=True)
class Codec:
    """How samples of one `shape` are shown to the network, and how its numbers become samples again.

    Images: byte `levels[k]`, the k-th value that occurs in the data, is shown as `positions[k]` in [-1, 1].
    Vectors: feature j is shown as (value - mean[j]) / std[j].
    """

    shape: tuple[int, ...]  # (C, H, W) or (D,)
    flat: bool  # an MLP sees [B, D], the U-Net [B, C, H, W]
    tables: dict[str, Tensor]  # images: levels, positions [L], edges [L - 1]; vectors: see _tables_of_vectors
    pca: WhitenedPCA | None = None

    @classmethod
    def fit(cls, samples: np.ndarray, *, flat: bool, components: int = 0) -> Self:
        """samples uint8 [N, C, H, W] or float32 [N, D]; `components` > 0 puts a PCA in between."""
        tables = _tables_of_bytes(samples) if samples.dtype == np.uint8 else _tables_of_vectors(samples)
        plain = cls(samples.shape[1:], flat, tables)
        if components == 0:
            return plain
        some = np.linspace(0, len(samples) - 1, min(len(samples), MOST_ROWS_FOR_PCA)).astype(np.int64)
        pca = WhitenedPCA.fit(plain._scaled(torch.from_numpy(samples[some])).numpy(), components, whiten=HALF_WHITENED)
        return cls(samples.shape[1:], flat, tables, pca)

    @property
    def is_images(self) -> bool:
        return "levels" in self.tables

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of one sample as the network sees it."""
        if self.pca is not None:
            return (len(self.pca.scale),)
        return (int(np.prod(self.shape)),) if self.flat else self.shape

    def _scaled(self, rows: Tensor) -> Tensor:
        if self.is_images:
            levels, positions = (self.tables[name].numpy() for name in ("levels", "positions"))
            table = torch.from_numpy(
                np.interp(np.arange(256), levels, positions).astype(np.float32)
            )  # unseen bytes in between
            x = table.to(rows.device)[rows.int()]
        else:
            x = (rows - self.tables["mean"].to(rows.device)) / self.tables["std"].to(rows.device)
        return x.flatten(1) if self.flat else x

    def stored(self, samples: np.ndarray) -> Tensor:
        """Samples as they wait in memory for training: bytes for images, coordinates where a PCA is used."""
        rows = torch.from_numpy(samples)
        return (
            rows if self.pca is None else torch.cat([self.pca.encode(self._scaled(part)) for part in rows.split(1024)])
        )

    def shown(self, rows: Tensor) -> Tensor:
        """Stored rows [B, ...] as the network sees them."""
        return rows if self.pca is not None else self._scaled(rows)

    def left_out(self, samples: np.ndarray) -> Tensor:
        """What of samples [B, ...] the principal components do not hold, on the scale before the PCA: [B, D]; 0 without
        a PCA.
        """
        if self.pca is None:
            return torch.zeros(len(samples), 1)
        rows = self._scaled(torch.from_numpy(samples))
        return rows - self.pca.decode(self.pca.encode(rows))

    def decode(self, x: Tensor, left_out: Tensor | None = None) -> np.ndarray:
        """Network numbers [B, ...] as samples: bytes by the edges between levels, features within the range
        of the data. With a PCA, what it had `left_out` [B, D] may be put back.
        """
        x = x.float().cpu()
        if self.pca is not None:
            x = self.pca.decode(x) if left_out is None else self.pca.decode(x) + left_out
        x = x.reshape(len(x), *self.shape)
        t = self.tables
        if not self.is_images:
            return (x * t["std"] + t["mean"]).clamp(t["low"], t["high"]).numpy()
        return t["levels"][torch.bucketize(x, t["edges"])].numpy()

    def to_tensors(self) -> dict[str, Tensor]:
        pca = {} if self.pca is None else {f"pca.{name}": getattr(self.pca, name) for name in ("mean", "axes", "scale")}
        return self.tables | pca

    @classmethod
    def from_tensors(cls, parts: dict[str, Tensor], shape: tuple[int, ...], flat: bool) -> Self:
        pca = WhitenedPCA(parts["pca.mean"], parts["pca.axes"], parts["pca.scale"]) if "pca.mean" in parts else None
        return cls(shape, flat, {name: part for name, part in parts.items() if not name.startswith("pca.")}, pca)


def _tables_of_bytes(samples: np.ndarray) -> dict[str, Tensor]:
    """levels uint8 [L], positions float32 [L] and the edges float32 [L - 1] between them, all rising.

    Bytes are scaled linearly to [-1, 1]. Coarsely quantised images (few levels: scans, masks, digits) often
    have most pixels at one value, where a network that is off by half a level leaves speckle. So there
    positions and edges are the mean of their linear ones and of their ranks in the data, which gives common
    values room.
    """
    counts = np.bincount(samples.reshape(-1), minlength=256)
    levels = np.flatnonzero(counts)
    positions = levels / 127.5 - 1
    edges = (positions[1:] + positions[:-1]) / 2
    if len(levels) <= COARSE_LEVELS:
        shares = counts[levels] / counts.sum()
        below = np.cumsum(shares)  # share of all pixels at this level or below
        positions = (positions + 2 * (below - shares / 2) - 1) / 2
        edges = (edges + 2 * below[:-1] - 1) / 2
    parts = {
        "positions": positions.astype(np.float32),
        "edges": edges.astype(np.float32),
        "levels": levels.astype(np.uint8),
    }
    return {name: torch.from_numpy(part) for name, part in parts.items()}


def _tables_of_vectors(samples: np.ndarray) -> dict[str, Tensor]:
    """mean, std, low, high: float32 [D] each; constant features have std 1, so that they come back as they
    are.
    """
    low, high, mean = samples.min(0), samples.max(0), samples.mean(0, dtype=np.float64)
    std = np.where(high > low, np.maximum(samples.std(0, dtype=np.float64), 1e-12), 1.0)
    parts = {"mean": mean, "std": std, "low": low, "high": high}
    return {name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()}
