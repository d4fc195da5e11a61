"""The judge on data whose quality is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swell.data.open import open_data
from swell.errors import InputError
from swell.files import write_json
from swell.generators import quality
from swell.generators.quality import judge, judge_once, verdict_of
from swell.generators.reference import Reference

SIX = {"c2st", "frechet_ratio", "kernel_distance_ratio", "density_ratio", "coverage_ratio", "effective_rank_ratio"}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    samples = open_data("builtin:digits:all").samples
    return samples[np.random.default_rng(0).permutation(len(samples))]


@pytest.fixture(scope="module")
def reference(digits: np.ndarray) -> Reference:
    return Reference.fit(digits[:1000], steps=60, device="cpu")


def test_unseen_real_digits_are_good(digits: np.ndarray, reference: Reference) -> None:
    quality = judge(digits[1200:], digits[:1000], digits[1000:1200], reference=reference)
    assert quality["verdict"] == "good"
    assert quality["c2st"] < 0.56
    for name in ("frechet_ratio", "kernel_distance_ratio", "density_ratio", "coverage_ratio", "effective_rank_ratio"):
        assert quality[name] == pytest.approx(1, abs=0.7 if name == "kernel_distance_ratio" else 0.3), name
    assert quality["copy_distance_ratio"] == pytest.approx(1, abs=0.12)
    assert quality["copy_excess"] < 2
    assert quality["copy_quantile"] == pytest.approx(0.05, abs=0.006)
    assert quality["exact_copies"] == 0
    assert quality["duplicates"] < 0.05
    assert quality["note"] == ""


def test_pixels_shuffled_between_digits_are_poor(digits: np.ndarray, reference: Reference) -> None:
    rng = np.random.default_rng(1)
    pixels = [rng.permutation(pixel) for pixel in digits[:600].reshape(600, 64).T]
    shuffled = np.stack(pixels, axis=1).reshape(600, 1, 8, 8)
    quality = judge(shuffled, digits[:1000], digits[1000:1200], reference=reference)
    assert quality["verdict"] == "poor"
    assert quality["c2st"] > 0.9
    assert quality["frechet_ratio"] > 5
    assert quality["kernel_distance_ratio"] > 5
    assert quality["coverage_ratio"] < 0.6
    assert quality["copy_excess"] < 1
    assert quality["exact_copies"] == 0


def test_copies_are_poor_however_real_they_look(digits: np.ndarray, reference: Reference) -> None:
    train, held_out = digits[:1000], digits[1000:1200]
    quality = judge(train[300:900], train, held_out, reference=reference)
    assert quality["c2st"] < 0.56
    assert (quality["copy_distance_ratio"], quality["exact_copies"]) == (0, 1)
    assert quality["copy_excess"] > 10
    assert quality["verdict"] == "poor"
    assert quality["verdict_reason"].startswith("suspiciously close")
    assert quality["nearest_pairs"][0] == [0, 300]
    some = judge(np.concatenate([digits[1200:1600], train[:60]]), train, held_out, reference=reference)
    assert some["copy_excess"] > 2  # an eighth suffices


def test_repeated_and_one_sided_samples_are_seen(digits: np.ndarray, reference: Reference) -> None:
    train, held_out = digits[:1000], digits[1000:1200]
    few = np.concatenate([digits[1200:1260]] * 10)
    quality = judge(few, train, held_out, reference=reference)
    assert quality["duplicates"] == 1 > 0.05 > quality["duplicates_real"]
    assert quality["coverage_ratio"] < 0.6
    source = open_data("builtin:digits:all", labels=True)
    half = source.samples[source.labels < 5]
    covered = judge(half, train, held_out, reference=reference)
    assert covered["coverage_ratio"] < 0.75
    assert covered["verdict"] != "good"


def test_the_headline_is_the_reference_space_and_others_may_object(digits: np.ndarray, reference: Reference) -> None:
    calls = []

    def seeing(samples: np.ndarray) -> np.ndarray:
        """Features of a user who knows what to look at: the last bit, which generated samples lack."""
        calls.append(len(samples))
        return (samples.reshape(len(samples), -1) & 1).sum(1, keepdims=True) * np.ones((1, 3))

    quality = judge(digits[1200:] & 254, digits[:1000], digits[1000:1200], reference=reference, features=seeing)
    assert set(quality["spaces"]) == {"reference", "random_network", "pca", "user"}
    assert all(set(scores) == SIX | {"dimensions", "frechet_distance"} for scores in quality["spaces"].values())
    assert all(quality[name] == quality["spaces"]["reference"][name] for name in SIX)
    assert quality["spaces"]["user"]["c2st"] > 0.9
    assert "user tells generated from real" in quality["note"]
    assert calls == [1200, 597]
    assert (quality["format"], quality["real"], quality["held_out"], quality["generated"]) == (
        "swell-quality-2",
        1200,
        200,
        597,
    )
    assert set(quality["meaning"]) <= set(quality)
    assert json.loads(json.dumps(quality)) == quality


def test_the_same_seed_gives_the_same_judgement_without_a_reference() -> None:
    rng = np.random.default_rng(0)
    made, train, held_out = (rng.integers(0, 256, (n, 3, 5, 5), dtype=np.uint8) for n in (3, 14, 2))
    first = judge(made, train, held_out, seed=4)
    assert first == judge(made, train, held_out, seed=4)
    assert all(np.isfinite(first[name]) for name in SIX | {"copy_distance_ratio", "copy_excess", "duplicates"})


def test_vectors_are_judged() -> None:
    rng = np.random.default_rng(0)
    table = (
        rng.standard_normal((1500, 3)) @ rng.standard_normal((3, 6)) + 0.3 * rng.standard_normal((1500, 6))
    ).astype(np.float32)
    train, held_out = table[:800], table[800:1000]
    reference = Reference.fit(train, steps=50, device="cpu")
    same = judge(table[1000:], train, held_out, reference=reference)
    narrow = judge(table[1000:] * 0.5, train, held_out, reference=reference)
    assert same["verdict"] == "good"
    assert same["frechet_ratio"] < 2.5 < 4 < narrow["frechet_ratio"]
    assert narrow["verdict"] != "good"


def test_the_rules_of_the_verdict() -> None:
    assert verdict_of(0.60, 0.90, 1.99)[0] == "good"
    assert [verdict_of(*case)[0] for case in ((0.61, 1, 1), (0.5, 0.89, 1), (0.5, 1, 2))] == ["usable"] * 3
    assert [verdict_of(*case)[0] for case in ((0.81, 1, 1), (0.5, 0.59, 1), (0.5, 1, 5))] == ["poor"] * 3
    assert verdict_of(0.7, 0.5, 1)[1].startswith("generated samples cover 0.50")


def test_samples_that_do_not_fit_together() -> None:
    images = np.zeros((8, 1, 4, 4), np.uint8)
    with pytest.raises(InputError, match="at least 2"):
        judge(images[:1], images, images)
    with pytest.raises(InputError, match="like the training ones"):
        judge(np.zeros((8, 1, 5, 5), np.uint8), images, images)
    rows = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="one row a sample"):
        judge(rows, rows, rows[:4], reference=Reference.fit(rows, steps=1), features=lambda samples: samples[:3, 0, 0])


def test_the_same_first_samples_are_judged_once(
    digits: np.ndarray, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that more samples extend keeps its verdict; other samples, features of a user's and a broken file do not."""
    monkeypatch.setattr(quality, "MOST_FRECHET", 60)
    train, held_out, made, told = digits[:90], digits[90:130], digits[130:210], tmp_path / "quality.json"

    def note(samples: np.ndarray, features: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        found = judge_once(told, samples, train, held_out, reference=reference, features=features, seed=0)
        return str(found["note"])

    first = judge_once(told, made, train, held_out, reference=reference, features=None, seed=0)
    assert first["judged"]["seconds"] > 0
    assert first["meaning"].keys() - judge(made, train, held_out, reference=reference).keys() == {"judged"}
    write_json(told, {**first, "note": "kept"})
    assert note(made[:60]) == note(np.concatenate([made, made])) == "kept"
    assert note(made[::-1].copy()) != "kept"
    assert note(made, lambda x: x.reshape(len(x), -1).astype(np.float32)) != "kept"
    told.write_text(told.read_text()[:100])
    assert note(made) != "kept"
    write_json(told, {**first, "judged": {**first["judged"], "swell": "0.0.1"}, "note": "kept"})
    assert note(made) != "kept"
