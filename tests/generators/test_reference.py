"""The reference encoder: reproducible, blind to nothing that matters, and free of what it must not learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from swell.data.open import open_data
from swell.errors import InputError
from swell.generators.metrics import classifier_test
from swell.generators.neighbours import nearest
from swell.generators.reference import WIDTH, Reference, default_steps


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """In random order: scikit-learn lists them writer by writer."""
    samples = open_data("builtin:digits").samples
    return samples[np.random.default_rng(0).permutation(len(samples))]


@pytest.fixture(scope="module")
def reference(digits: np.ndarray) -> Reference:
    return Reference.fit(digits[:700], steps=40, device="cpu")


def table(n: int, seed: int, kind: float = 0.0) -> np.ndarray:
    """Rows of 12 features: two hidden causes and noise."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((n, 2)) + kind
    weights = np.random.default_rng(99).standard_normal((2, 12))
    return (np.tanh(causes @ weights) + 0.1 * rng.standard_normal((n, 12))).astype(np.float32)


@pytest.mark.parametrize("samples", ["images", "vectors"])
def test_the_same_samples_and_seed_give_the_same_encoder(samples: str, digits: np.ndarray) -> None:
    train = digits[:200] if samples == "images" else table(200, 0)
    torch.manual_seed(1)
    first = Reference.fit(train, 5, steps=3, device="cpu")
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))  # torch's own generator is left as it was
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.encode(train), Reference.fit(train, 5, steps=3, device="cpu").encode(train))
    assert not np.array_equal(first.encode(train), Reference.fit(train, 6, steps=3, device="cpu").encode(train))


def test_features_are_standardised_and_of_one_sample_alone(reference: Reference, digits: np.ndarray) -> None:
    z = reference.encode(digits[:700])
    assert (z.dtype, z.shape) == (np.float32, (700, WIDTH))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    assert z.std(0).max() == pytest.approx(1, abs=1e-3)
    assert np.median(z.std(0)) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(reference.encode(digits[300:303]), z[300:303], atol=1e-4)


def test_it_tells_digits_apart_better_than_an_untrained_network(reference: Reference) -> None:
    """Labels are for this test only: training must have found structure that was not put in."""
    source = open_data("builtin:digits", labels=True)
    accuracy = []
    for encoder in (Reference.fit(source.samples[:700], seconds=1e-9, device="cpu"), reference):
        nearest_one = nearest(*(encoder.features(part) for part in (source.samples[700:], source.samples[:700])))[0][
            :, 0
        ]
        accuracy.append((source.labels[:700][nearest_one] == source.labels[700:]).mean())
    assert accuracy[1] > max(accuracy[0], 0.9)


def test_unseen_real_digits_look_real_and_blurred_ones_do_not(reference: Reference, digits: np.ndarray) -> None:
    train, unseen = (reference.features(part) for part in (digits[:550], digits[700:1250]))
    assert classifier_test(train, unseen).accuracy == pytest.approx(0.5, abs=0.06)
    padded = np.pad(digits[700:1250].astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    blurred = np.rint(sum(padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)) / 9).astype(np.uint8)
    assert classifier_test(train, reference.features(blurred)).accuracy > 0.9


def test_vectors_of_other_structure_or_spread_are_seen() -> None:
    reference = Reference.fit(table(1000, 0), steps=60, device="cpu")
    train, same = reference.features(table(800, 0)), reference.features(table(800, 1))
    assert classifier_test(train, same).accuracy == pytest.approx(0.5, abs=0.06)
    rng = np.random.default_rng(2)
    shuffled = np.stack([rng.permutation(column) for column in table(800, 1).T], 1)  # same margins, no structure
    for other in (shuffled, table(800, 1) * 0.7):
        assert classifier_test(train, reference.features(other)).accuracy > 0.75


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 28, 28), (1, 33, 50), (2, 100, 70)])
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8)
    z = Reference.fit(images, steps=1, device="cpu").encode(images)
    assert z.shape == (6, WIDTH)
    assert np.isfinite(z).all()


@pytest.mark.parametrize("samples", ["images", "vectors"])
def test_it_survives_the_way_through_a_file(
    samples: str, reference: Reference, digits: np.ndarray, tmp_path: Path
) -> None:
    rows = digits[:50] if samples == "images" else table(50, 0)
    encoder = reference if samples == "images" else Reference.fit(rows, steps=2, device="cpu")
    save_file(encoder.to_tensors(), tmp_path / "reference.safetensors")
    tensors = load_file(tmp_path / "reference.safetensors")
    again = Reference.from_tensors(tensors, "cpu")
    np.testing.assert_array_equal(again.encode(rows), encoder.encode(rows))
    with pytest.raises(InputError, match="fit it again"):
        Reference.from_tensors({name: tensor for name, tensor in tensors.items() if name != "features.std"})


def test_constant_features_and_wrong_samples(reference: Reference, digits: np.ndarray) -> None:
    rows = table(40, 0)
    rows[:, 3] = 7.0
    assert np.isfinite(Reference.fit(rows, steps=2, device="cpu").encode(rows)).all()
    with pytest.raises(InputError, match="1, 8, 8"):
        reference.encode(digits[:, :, :7])
    with pytest.raises(InputError, match="at least 2"):
        Reference.fit(digits[:1])


def test_few_samples_get_few_steps() -> None:
    assert default_steps((1, 8, 8), 50) < default_steps((1, 8, 8), 500) < default_steps((1, 8, 8), 5000)
    assert default_steps((1, 8, 8), 5000) == default_steps((1, 8, 8), 10**6)
