"""Leave out the generated samples that look least real, and those that look copied.

Everything is settled once, on the first generated samples; after that each sample is kept or dropped by itself,
so shards can be filtered in any order and by any number of processes. No labels and no supervised network take
part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError
from swell.generators.codec import WhitenedPCA
from swell.generators.metrics import Logistic, classifier_test
from swell.generators.neighbours import CopyTest, small, values_of
from swell.generators.reference import Reference
from swell.seeding import generator_for

MOST_CALIBRATION = 5000  # samples a side
COMPONENTS = 64  # of the values, for the search for copies
AT_ONCE = 2048  # samples worked on


@dataclass(frozen=True)
class Filter:
    """Keeps a sample if its density ratio p / (1 - p) is high enough and no training sample is too close.

    p is the probability of being real by logistic regression on the reference features. Copies are looked for
    in those features and in the leading principal components of the values, where distances cost much less.
    """

    reference: Reference
    ratio: Logistic  # its log-odds are the log density ratio
    least: float  # log density ratio of the samples just kept
    by_features: CopyTest
    by_values: CopyTest
    rotation: WhitenedPCA  # of the values to their leading components, not whitened

    @classmethod
    def fit(
        cls,
        generated_first: np.ndarray,
        train: np.ndarray,
        held_out: np.ndarray,
        share: float,
        reference: Reference,
        seed: int = 0,
    ) -> Self:
        """Calibrate on the first generated samples (5,000 at most) and real ones.

        Args:
            generated_first: images uint8 [N, C, H, W] or vectors float32 [N, D], not to be chosen in any way.
            train: what the generator learnt from; copies of it are dropped.
            held_out: real samples it has not learnt from; they say how close is too close.
            share: of generated samples to drop for their density ratio, 0 <= share < 1. Copies come on top.

        Raises:
            InputError: a share outside [0, 1), or too few samples.
        """
        if not 0 <= share < 1:
            raise InputError(f"share {share}", "at least 0 and below 1", "0.2 drops a fifth")
        if min(len(generated_first), len(train), len(held_out)) < 2:
            given = f"{len(generated_first)} generated, {len(train)} training and {len(held_out)} held-out samples"
            raise InputError(given, "at least 2 of each", "filter larger sets")
        of_train = reference.features(train)
        order = torch.randperm(len(train), generator=generator_for(seed, "filter"))[:MOST_CALIBRATION]
        real = of_train[order.to(of_train.device)]
        made = reference.features(generated_first[:MOST_CALIBRATION])
        n = min(len(real), len(made))
        # Odds of samples the classifier was not fitted to, as those to be filtered are not.
        unfitted = classifier_test(real[:n], made[:n], most=n, seed=seed).log_ratio
        ratio = Logistic.fit(torch.cat([real[:n], made[:n]]), torch.arange(2 * n, device=real.device) < n)

        rotation = _rotation(train, order.numpy())
        values_train, values_held_out = (_rotated(rotation, part).to(real.device) for part in (train, held_out))
        by_values = CopyTest.fit(values_train, values_held_out)
        by_features = CopyTest.fit(of_train, reference.features(held_out))
        least = float(torch.quantile(unfitted, share)) if share > 0 else -math.inf
        return cls(reference, ratio, least, by_features, by_values, rotation)

    def keep(self, samples: np.ndarray) -> np.ndarray:
        """bool [N]: which of the samples stay. Each is decided by itself."""
        kept = np.empty(len(samples), bool)
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE]
            features = self.reference.features(part)
            real_enough = self.ratio.log_odds(features) >= self.least
            copies = self.by_features.suspects(features)
            copies |= self.by_values.suspects(_rotated(self.rotation, part).to(features.device))
            kept[start : start + AT_ONCE] = (real_enough & ~copies).cpu().numpy()
        return kept

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything `from_tensors` needs, by name, on the CPU: the reference encoder and, for the search for
        copies, 192 numbers a training sample.
        """
        own = {
            "ratio.weights": self.ratio.weights,
            "ratio.constant": self.ratio.constant,
            "least": torch.tensor(self.least, dtype=torch.float64),
            "rotation.mean": self.rotation.mean,
            "rotation.axes": self.rotation.axes,
        }
        for name, test in (("by_features", self.by_features), ("by_values", self.by_values)):
            own[f"{name}.train"] = test.train
            own[f"{name}.limits"] = torch.tensor([test.threshold, test.unseen_below], dtype=torch.float64)
        encoder = {f"reference.{name}": tensor for name, tensor in self.reference.to_tensors().items()}
        return {name: tensor.cpu().contiguous() for name, tensor in (own | encoder).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device | str = "auto") -> Self:
        """The reverse of `to_tensors`. Raises InputError for tensors of something else."""
        encoder = {name.removeprefix("reference."): t for name, t in tensors.items() if name.startswith("reference.")}
        reference = Reference.from_tensors(encoder, device)
        device = reference.device
        try:
            ratio = Logistic(tensors["ratio.weights"].to(device), tensors["ratio.constant"].to(device))
            by_features, by_values = (
                CopyTest(tensors[f"{name}.train"].to(device), *tensors[f"{name}.limits"].tolist())
                for name in ("by_features", "by_values")
            )
            mean, axes = tensors["rotation.mean"], tensors["rotation.axes"]
        except KeyError as error:
            raise InputError(f"tensors without {error}", "those of a filter", "fit it again") from None
        rotation = WhitenedPCA(mean, axes, torch.ones(len(axes)))
        return cls(reference, ratio, float(tensors["least"]), by_features, by_values, rotation)


def _rotation(train: np.ndarray, rows: np.ndarray) -> WhitenedPCA:
    """From samples as `_flat` gives them to the leading components of the values they are compared by."""
    values = values_of(train)(train[rows])
    pca = WhitenedPCA.fit(values.numpy(), COMPONENTS, whiten=0.0)
    if train.ndim == 4:
        return pca
    std = torch.from_numpy(train.std(0, dtype=np.float64)).float()
    std[std == 0] = 1
    return WhitenedPCA(pca.mean * std, pca.axes / std, pca.scale)


def _rotated(rotation: WhitenedPCA, samples: np.ndarray) -> Tensor:
    """[N, K], a block at a time."""
    parts = (samples[start : start + AT_ONCE] for start in range(0, len(samples), AT_ONCE))
    return torch.cat([rotation.encode(_flat(torch.from_numpy(np.ascontiguousarray(part)))) for part in parts])


def _flat(samples: Tensor) -> Tensor:
    return small(samples).flatten(1) if samples.ndim == 4 else samples
