"""Every registered generator keeps the protocol, and the suite that says so finds what breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import swell.generators.controls
import swell.generators.diffusion
import swell.generators.gan
import swell.generators.simple
import swell.generators.vae  # noqa: F401
from swell.generators.registry import GENERATORS, load_generator
from swell.generators.simple import KDE
from swell.testing import check_generator, example_samples

SMALL: dict[str, dict[str, Any]] = {"diffusion": {"width": 8, "depth": 1}, "gan": {"width": 8}, "vae": {"width": 32}}


@pytest.mark.parametrize("kind", ["grey 8x8", "colour 16x16", "vectors"])
@pytest.mark.parametrize("name", [entry.name for entry in GENERATORS])
def test_generator_keeps_the_protocol(name: str, kind: str) -> None:
    check_generator(lambda: GENERATORS[name](**SMALL.get(name, {})), example_samples(kind))


@pytest.mark.parametrize("name", [entry.name for entry in GENERATORS])
def test_file_says_which_generator_it_holds(name: str, tmp_path: Path) -> None:
    model = GENERATORS[name]().fit(example_samples("grey 8x8"), steps=1, quiet=True)
    model.save(tmp_path / "g.safetensors")
    assert type(load_generator(tmp_path / "g.safetensors")) is type(model)


class UsesGlobalRandomness(KDE):
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        torch.rand(1)
        return super().sample(count, seed, first, quiet)


class DependsOnTheCall(KDE):
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        return super().sample(count, seed + first, 0, quiet)


class IgnoresTheSeed(KDE):
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        return super().sample(count, 0, first, quiet)


class LeavesTheRange(KDE):
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        return 3 * super().sample(count, seed, first, quiet)


class TakesAnything(KDE):
    def fit(self, samples: np.ndarray, **options: Any) -> Any:
        return super().fit(samples if len(samples) else example_samples("vectors"), **options)


class ForgetsItsCost(KDE):
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        made = super().sample(count, seed, first, quiet)
        self.sampling_cost.samples_generated = 0
        return made


class LoadsAnother(KDE):
    @classmethod
    def load(cls, path: Any, device: str = "auto") -> Any:
        return super().load(path, device).fit(example_samples("vectors")[:50])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (UsesGlobalRandomness, "global randomness"),
        (DependsOnTheCall, "at once"),
        (IgnoresTheSeed, "another seed"),
        (LeavesTheRange, "range"),
        (TakesAnything, "no samples must raise InputError"),
        (ForgetsItsCost, "samples_generated"),
        (LoadsAnother, "loaded generator draws other"),
    ],
)
def test_suite_finds_broken_promises(broken: type[KDE], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_generator(broken, example_samples("vectors"))
