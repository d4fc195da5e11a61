"""What several tests share."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swell.data.source import Provenance, Source
from swell.recipes import Recipe
from swell.views.plan import VIEWS

torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Tests never touch the decoded-image cache of the person who runs them."""
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def images(n=96, shape=(1, 8, 8), seed=0):
    """Images with structure: every sample is one of eight smooth patterns, shifted and noisy."""
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 255, (8, *shape))
    which = rng.integers(0, 8, n)
    noisy = patterns[which] + rng.normal(0, 12, (n, *shape))
    return np.clip(noisy, 0, 255).astype(np.uint8), which


@pytest.fixture
def real():
    samples, _ = images()
    return Source(samples, Provenance("real", "array"))


@pytest.fixture
def made():
    samples, _ = images(200, seed=1)
    return Source(samples, Provenance("generated", "array", generator="diffusion"))


@pytest.fixture
def tiny():
    """A recipe of a second."""
    return Recipe(
        backbone="conv6",
        width=0.25,
        batch_size=16,
        steps=8,
        optimizer="sgd",
        learning_rate=0.05,
        views=VIEWS["digits"](),
        method_options={"hidden": 16, "outputs": 8},
        precision="fp32",
    )


SWELL = [sys.executable, "-m", "swell"]
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def quick_reference(request, monkeypatch):
    """A reference encoder of ten steps, where it is not the thing that is tested: its training takes seconds."""
    if request.path.stem not in ("test_reference", "test_quality", "test_filtering", "test_diffusion"):
        monkeypatch.setattr("swell.generators.reference.default_steps", lambda shape, count: 10)
