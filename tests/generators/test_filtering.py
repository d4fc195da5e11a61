"""The filter: what it drops, that it drops it for each sample alone, and that it travels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from swell.data.open import open_data
from swell.errors import InputError
from swell.generators.filtering import Filter
from swell.generators.reference import Reference

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> Parts:
    """(train, held out, unseen)"""
    samples = open_data("builtin:digits:all").samples
    return tuple(np.split(samples[np.random.default_rng(0).permutation(len(samples))], [700, 900]))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def reference(digits: Parts) -> Reference:
    return Reference.fit(digits[0], steps=30, device="cpu")


def noisy(samples: np.ndarray, sd: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sd, samples.shape)
    return np.rint(samples + noise).clip(0, 255).astype(np.uint8)


def test_it_drops_the_share_asked_for_and_the_worst_first(digits: Parts, reference: Reference) -> None:
    train, held_out, unseen = digits
    half_bad = np.concatenate([unseen[:450], noisy(unseen[450:], 90, 0)])
    mixed = half_bad[np.random.default_rng(1).permutation(len(half_bad))]
    drop = Filter.fit(mixed[::2], train, held_out, 0.4, reference)
    assert drop.keep(mixed[1::2]).mean() == pytest.approx(0.6, abs=0.07)  # samples the threshold was not set on
    assert drop.keep(unseen[:450]).mean() > drop.keep(half_bad[450:]).mean() + 0.5


def test_it_drops_copies_even_at_share_zero(digits: Parts, reference: Reference) -> None:
    train, held_out, unseen = digits
    drop = Filter.fit(unseen[:400], train, held_out, 0.0, reference)
    assert not drop.keep(train[:50]).any()
    assert drop.keep(noisy(train[:100], 4, 2)).mean() < 0.05
    assert drop.keep(unseen).mean() > 0.9


def test_each_sample_is_decided_by_itself(digits: Parts, reference: Reference) -> None:
    train, held_out, unseen = digits
    first, second = (Filter.fit(noisy(unseen, 20, 3), train, held_out, 0.3, reference) for _ in range(2))
    samples = noisy(np.concatenate([unseen] * 3), 20, 4)  # more than are worked on at once
    kept = first.keep(samples)
    parts = [second.keep(part) for part in np.array_split(samples, [1, 700, 2048])]
    np.testing.assert_array_equal(kept, np.concatenate(parts))
    assert first.keep(samples[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_it_survives_the_way_through_a_file(kind: str, digits: Parts, reference: Reference, tmp_path: Path) -> None:
    train, held_out, unseen = digits
    if kind == "vectors":  # of very different spreads, one of them constant
        scale = np.r_[0.0, np.geomspace(1e-2, 1e3, 63)].astype(np.float32)
        train, held_out, unseen = (part.reshape(len(part), 64) * scale for part in digits)
        reference = Reference.fit(train, steps=5, device="cpu")
    drop = Filter.fit(unseen[:300], train, held_out, 0.2, reference)
    save_file(drop.to_tensors(), tmp_path / "filter.safetensors")
    tensors = load_file(tmp_path / "filter.safetensors")
    np.testing.assert_array_equal(Filter.from_tensors(tensors, "cpu").keep(unseen), drop.keep(unseen))
    assert not drop.keep(train[:50]).any()
    assert drop.keep(unseen).mean() > 0.6
    del tensors["by_values.train"]
    with pytest.raises(InputError, match=r"by_values\.train"):
        Filter.from_tensors(tensors)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_impossible_shares(share: float, digits: Parts, reference: Reference) -> None:
    with pytest.raises(InputError, match="share"):
        Filter.fit(digits[2], digits[0], digits[1], share, reference)
