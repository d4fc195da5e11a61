"""Controls: what generated data must beat before they deserve credit.

`copies` adds nothing but repetition, `shuffled` keeps the values and loses every structure, `zeros` holds
nothing at all. So it is with their positives, whatever the strength, as long as it is above 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.generators.base import BLOCK, BlockGenerator, Learnt, Task
from swell.generators.noise import Draws
from swell.generators.registry import GENERATORS
from swell.ledger import Cost


class Control(BlockGenerator):
    """Keeps the training samples as they are. Controls have no options."""

    def __init__(self) -> None:
        super().__init__({})

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self.cost.add(Cost(samples_real=len(task.train)))
        return {"samples": torch.tensor(task.train)}, {}


@GENERATORS.register("copies", "control: real samples, drawn with replacement")
class Copies(Control):
    """Training samples drawn with replacement, unchanged."""

    name = "copies"

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        samples = learnt.tensors["samples"]
        return samples[torch.randint(len(samples), (BLOCK,), generator=rng)].numpy()

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        return samples


@GENERATORS.register("shuffled", "control: real values, out of place")
class Shuffled(Control):
    """Images: the pixels of a training image in random order, a new order for every sample, the channels of a
    pixel together, so that its colours stay. Vectors: every feature from a training sample of its own, so that
    each stays within its unit and range, and only what ties features together is lost.
    """

    name = "shuffled"

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        samples = learnt.tensors["samples"]
        if samples.ndim == 2:
            features = torch.arange(samples.shape[1])
            return samples[torch.randint(len(samples), (BLOCK, len(features)), generator=rng), features].numpy()
        x = samples[torch.randint(len(samples), (BLOCK,), generator=rng)].flatten(2)  # [B, C, H W]
        order = torch.rand(BLOCK, 1, x.shape[2], generator=rng).argsort(dim=2, stable=True)  # [B, 1, H W]
        return x.gather(2, order.expand_as(x)).reshape(BLOCK, *learnt.shape).numpy()

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        """Images: the anchor's own pixels out of place. Vectors: nothing of the anchor is left."""
        if samples.ndim == 2:
            kept = learnt.tensors["samples"]
            features = torch.arange(samples.shape[1])
            return kept[draws.below(len(kept), len(features), "samples"), features].numpy()
        x = torch.from_numpy(samples).flatten(2)  # [B, C, H W]
        order = draws.uniform(x.shape[2], "places").argsort(dim=1, stable=True)[:, None]  # [B, 1, H W]
        return x.gather(2, order.expand_as(x)).reshape(samples.shape).numpy()


@GENERATORS.register("zeros", "control: nothing but zeros")
class Zeros(Control):
    """Black images, vectors of zeros: every sample the same, whatever the seed."""

    name = "zeros"

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        super()._learn(task)
        return {}, {}

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        return np.zeros((BLOCK, *learnt.shape), learnt.dtype)

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        return np.zeros_like(samples)
