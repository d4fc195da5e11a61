"""Baselines without a network: new samples between or around the real ones.

They keep the training samples, cost next to nothing, and are hard to beat on small data. All of them work on
the codec's numbers: bytes on their scale from -1 to 1, vectors standardised per feature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.generators.base import BLOCK, BlockGenerator, Learnt, Task, part_of, prefixed
from swell.generators.codec import HALF_WHITENED, Codec, WhitenedPCA
from swell.generators.neighbours import nearest
from swell.generators.noise import Draws
from swell.generators.registry import GENERATORS
from swell.ledger import Cost

SAME = 1e-3  # of the distance to the next sample, within which a sample is taken for the anchor itself
MOST_SEARCHED = 64  # principal components in which neighbours are looked for
MOST_CENTRES, MOST_HELD_OUT = 10_000, 1000  # rows that the likelihood of a bandwidth is computed on
BANDWIDTHS = torch.logspace(-2, 0.5, 41, dtype=torch.float64)  # tried, in units of the coordinates' deviation


class Resampler(BlockGenerator):
    """Keeps the training samples, and makes each new one from a few of them."""

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self.cost.add(Cost(samples_real=len(task.train)))
        codec = Codec.fit(task.train, flat=True)
        return {"samples": torch.tensor(task.train)} | prefixed("codec", codec.to_tensors()), {}

    def _prepare(self, learnt: Learnt) -> None:
        self._codec = Codec.from_tensors(part_of(learnt.tensors, "codec"), learnt.shape, flat=True)

    def _given(self, samples: np.ndarray) -> Tensor:
        """Samples [B, ...] in the codec's numbers: [B, D]."""
        return self._codec.shown(self._codec.stored(samples))

    @staticmethod
    def _any(learnt: Learnt, rng: torch.Generator) -> Tensor:
        """Indices of random training samples: [BLOCK]."""
        return torch.randint(len(learnt.tensors["samples"]), (BLOCK,), generator=rng)

    def _rows(self, learnt: Learnt, index: Tensor) -> Tensor:
        """Training samples index [B] in the codec's numbers: [B, D]."""
        return self._codec.shown(learnt.tensors["samples"][index])


@GENERATORS.register(
    "neighbours", "a point between a sample and one of its nearest neighbours", "Chawla et al. 2002 (SMOTE)"
)
class Neighbours(Resampler):
    """x_i + u (x_j - x_i): u uniform in [0, 1], j any of the `neighbours` nearest samples of i.

    Neighbours are looked for in the leading principal components, on a GPU where there is one. A positive goes from its
    anchor up to `strength` of the way to one of its nearest other samples.
    """

    name = "neighbours"

    def __init__(self, *, neighbours: int = 5, device: str = "auto") -> None:
        if neighbours < 1:
            raise InputError(f"{neighbours} neighbours", "at least 1", "5 is usual")
        super().__init__({"neighbours": neighbours}, device)
        self._search: tuple[Learnt, WhitenedPCA, Tensor] | None = None

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, settings = super()._learn(task)
        codec = Codec.from_tensors(part_of(tensors, "codec"), task.train.shape[1:], flat=True)
        rows = _coordinates(codec, task.train, MOST_SEARCHED, whiten=0)[1].to(self.device)
        index = nearest(rows, rows, self.options["neighbours"], among_themselves=True)[0]  # [N, k]
        return tensors | {"neighbours": index.int()}, settings

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        near = learnt.tensors["neighbours"]  # [N, k]
        i = self._any(learnt, rng)
        j = near[i, torch.randint(near.shape[1], (BLOCK,), generator=rng)].long()
        u = torch.rand(BLOCK, 1, generator=rng)
        return self._codec.decode(torch.lerp(self._rows(learnt, i), self._rows(learnt, j), u))

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        x, k = self._given(samples), learnt.tensors["neighbours"].shape[1]
        pca, base = self._searched(learnt)
        near, distance = nearest(pca.encode(x).to(self.device), base, k + 1)  # [B, k + 1]
        itself = distance[:, :1] <= SAME * distance[:, 1:2]  # as exactly as rounding allows
        others = torch.where(itself, near[:, 1:], near[:, :-1]).cpu()  # [B, k]
        j = others.gather(1, draws.below(others.shape[1], 1, "neighbour"))[:, 0]
        return self._codec.decode(torch.lerp(x, self._rows(learnt, j), strength * draws.uniform(1, "way")))

    def _searched(self, learnt: Learnt) -> tuple[WhitenedPCA, Tensor]:
        """The principal components and, on the device, the training samples on them; made when first asked for."""
        if self._search is None or self._search[0] is not learnt:
            pca, rows = _coordinates(self._codec, learnt.tensors["samples"].numpy(), MOST_SEARCHED, whiten=0)
            self._search = learnt, pca, rows.to(self.device)
        return self._search[1:]


@GENERATORS.register("mixup", "a weighted mean of two random samples", "Zhang et al. 2018 (arXiv 1710.09412)")
class Mixup(Resampler):
    """lambda x_i + (1 - lambda) x_j, lambda ~ Beta(alpha, alpha): a small `alpha` stays near one of both. In a positive
    the anchor is the larger part, the other sample times `strength`.
    """

    name = "mixup"

    def __init__(self, *, alpha: float = 0.4) -> None:
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha {alpha}", "a positive number", "0.4 is usual")
        super().__init__({"alpha": alpha})

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        i, j, alpha = self._any(learnt, rng), self._any(learnt, rng), self.options["alpha"]
        # torch draws Beta variables from its global generator only
        beta = np.random.default_rng(rng.initial_seed()).beta(alpha, alpha, (BLOCK, 1))
        lam = torch.from_numpy(beta.astype(np.float32))
        return self._codec.decode(torch.lerp(self._rows(learnt, j), self._rows(learnt, i), lam))

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        from scipy.special import betaincinv  # takes long to import

        j = draws.below(len(learnt.tensors["samples"]), 1, "other")[:, 0]
        alpha, u = self.options["alpha"], draws.uniform(1, "lambda").double().numpy()
        lam = torch.from_numpy(betaincinv(alpha, alpha, u).astype(np.float32))  # Beta by its quantiles: [B, 1]
        x = self._given(samples)
        return self._codec.decode(torch.lerp(x, self._rows(learnt, j), strength * torch.minimum(lam, 1 - lam)))


@GENERATORS.register("kde", "kernel density: a sample plus noise along principal components", "Parzen 1962")
class KDE(Resampler):
    """A Gaussian kernel on every training sample, spread along up to `components` principal components.

    Its deviation along an axis is `bandwidth` times the square root of the data's there (half-whitened
    coordinates, see codec.py); what lies outside the axes is kept as it is. Without a `bandwidth` it is the one
    under which the held-out samples are likeliest. A positive is its anchor plus `strength` times such noise.
    """

    name = "kde"

    def __init__(self, *, components: int = 64, bandwidth: float | None = None) -> None:
        if components < 1:
            raise InputError(f"{components} components", "at least 1", "64 is usual")
        if bandwidth is not None and not 0 < bandwidth < math.inf:
            raise InputError(f"bandwidth {bandwidth}", "a positive number", "leave it out to have it chosen")
        super().__init__({"components": components, "bandwidth": bandwidth})

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, settings = super()._learn(task)
        codec = Codec.from_tensors(part_of(tensors, "codec"), task.train.shape[1:], flat=True)
        pca, z = _coordinates(codec, task.train, self.options["components"], whiten=HALF_WHITENED)
        bandwidth = self.options["bandwidth"]
        if bandwidth is None:
            unseen = pca.encode(codec.shown(codec.stored(task.held_out[:MOST_HELD_OUT])))
            unit = float(z.std())
            bandwidth = unit * likeliest_bandwidth(unseen.double() / unit, z[:MOST_CENTRES].double() / unit)
        # in whitened coordinates a deviation d is one of d * scale in the data
        return tensors | {"axes": bandwidth * pca.scale[:, None] * pca.axes}, settings | {"bandwidth": bandwidth}

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        axes = learnt.tensors["axes"]  # [K, D], each as long as the kernel is wide along it
        x = self._rows(learnt, self._any(learnt, rng))
        return self._codec.decode(x + torch.randn(BLOCK, len(axes), generator=rng) @ axes)

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        axes = learnt.tensors["axes"]
        return self._codec.decode(self._given(samples) + strength * draws.normal((len(axes),), "kernel") @ axes)


def log_likelihood(x: Tensor, centres: Tensor, h: float) -> Tensor:
    """ln p(x) [M] for x [M, K] under p(x) = 1/N sum_i N(x; c_i, h^2 I), centres c [N, K]."""
    n, k = centres.shape
    parts = [torch.logsumexp(torch.cdist(part, centres).square() / (-2 * h * h), 1) for part in x.split(128)]
    return torch.cat(parts) - math.log(n) - k * math.log(h * math.sqrt(2 * math.pi))


def likeliest_bandwidth(unseen: Tensor, centres: Tensor) -> float:
    """The h of BANDWIDTHS under which unseen [M, K] is likeliest, by ternary search: in ln h the likelihood of
    unseen rows has one top, between kernels too narrow to reach them and too wide to tell anything.
    """
    low, high = 0, len(BANDWIDTHS) - 1

    def at(place: int) -> float:
        return float(log_likelihood(unseen, centres, float(BANDWIDTHS[place])).mean())

    while high - low > 2:
        left, right = low + (high - low) // 3, high - (high - low) // 3
        low, high = (left, high) if at(left) < at(right) else (low, right)
    return float(BANDWIDTHS[max(range(low, high + 1), key=at)])


def _coordinates(codec: Codec, samples: np.ndarray, most: int, whiten: float) -> tuple[WhitenedPCA, Tensor]:
    """The leading principal components of samples [N, ...], and the samples on them: [N, K]."""
    rows = codec.shown(codec.stored(samples))  # [N, D]
    pca = WhitenedPCA.fit(rows.numpy(), most, whiten=whiten)
    return pca, pca.encode(rows)
