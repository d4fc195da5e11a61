"""Every registered generator with positives keeps their promises, and the suite that says so finds what breaks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import swell.generators
from swell.errors import InputError
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.registry import GENERATORS
from swell.generators.simple import KDE
from swell.testing import check_positives, example_samples

SMALL: dict[str, dict[str, Any]] = {"diffusion": {"width": 8, "depth": 1, "evaluations": 4}, "vae": {"width": 32}}
CONTROLS = ("copies", "shuffled", "zeros")
CAN = [entry.name for entry in swell.generators.GENERATORS if entry.name != "gan"]


@pytest.mark.parametrize("kind", ["grey 8x8", "colour 16x16", "vectors"])
@pytest.mark.parametrize("name", CAN)
def test_positives_keep_the_promises(name: str, kind: str) -> None:
    samples = example_samples(kind)
    check_positives(lambda: GENERATORS[name](**SMALL.get(name, {})), samples, steps=5, control=name in CONTROLS)


@pytest.mark.parametrize("kind", ["grey 8x8", "vectors"])
@pytest.mark.parametrize("condition", ["film", "add", "concat"])
def test_conditional_positives_keep_them_too(condition: Any, kind: str) -> None:
    samples = example_samples(kind)
    codes = samples.reshape(len(samples), -1)[:, :4].astype(np.float32)
    small = {"width": 8, "depth": 1, "evaluations": 4, "guidance": 1.5}
    check_positives(lambda: ConditionalDiffusion(condition=condition, **small), samples, codes, steps=5)


def test_a_gan_says_that_it_has_none() -> None:
    model = GENERATORS["gan"](width=8).fit(example_samples("vectors"), steps=2, quiet=True)
    with pytest.raises(InputError, match=r"gan.*cannot start from a sample"):
        model.positives(example_samples("vectors"), 0.5, 0)


class DependsOnTheBatch(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        return super().positives(samples, strength, seed + len(samples), **how)


class UsesGlobalRandomness(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        torch.rand(1)
        return super().positives(samples, strength, seed, **how)


class IgnoresTheNumber(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        return super().positives(samples, strength, seed, **{**how, "number": min(how.get("number", 0), 0)})


class IgnoresTheRows(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        rows = how.get("rows", np.arange(len(samples)))
        return super().positives(samples, strength, seed, **{**how, "rows": rows % 1000 if rows.max() > 99 else rows})


class NeverAnAnchor(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        return super().positives(samples, max(strength, 0.01) if strength <= 1 else strength, seed, **how)


class LosesStrength(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        return super().positives(samples, 0.5 if 0 < strength <= 1 else strength, seed, **how)


class ChangesItsInput(KDE):
    def positives(self, samples: np.ndarray, strength: float, seed: int, **how: Any) -> np.ndarray:
        made = super().positives(samples, strength, seed, **how)
        samples += 1
        return made


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (DependsOnTheBatch, "depends on the batch"),
        (UsesGlobalRandomness, "global randomness"),
        (IgnoresTheNumber, "positives 0 and 1"),
        (IgnoresTheRows, "row numbers"),
        (NeverAnAnchor, "not its anchor"),
        (LosesStrength, "strength grows"),
        (ChangesItsInput, "changed the samples"),
    ],
)
def test_suite_finds_broken_promises(broken: type[KDE], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_positives(broken, example_samples("vectors"))
