"""Samples survive the way to the network and back."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings

from swell.generators.codec import Codec, WhitenedPCA


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, (6, 2, 3, 3), elements=st.integers(0, 255)), st.booleans())
def test_images_come_back_to_the_byte(samples: np.ndarray, flat: bool) -> None:
    codec = Codec.fit(samples, flat=flat)
    shown = codec.shown(codec.stored(samples))
    assert shown.shape == (6, 18) if flat else (6, 2, 3, 3)
    assert shown.abs().max() <= 1
    np.testing.assert_array_equal(codec.decode(shown), samples)


def test_many_levels_are_scaled_linearly_and_few_get_room_by_their_share() -> None:
    photo = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    codec = Codec.fit(photo, flat=False)
    np.testing.assert_allclose(codec.shown(codec.stored(photo)).numpy(), photo / 127.5 - 1, atol=1e-6)
    mask = np.zeros((1, 1, 10, 10), np.uint8)
    mask[0, 0, 0] = (16, 255) * 5  # 90 % background, two rarer values
    codec = Codec.fit(mask, flat=False)
    edges, positions = codec.tables["edges"], codec.tables["positions"]
    assert edges[0] - positions[0] > 0.45  # linear scaling would leave 8 / 127.5 = 0.06
    assert set(np.unique(codec.decode(torch.randn(50, 1, 10, 10)))) == {0, 16, 255}


def test_vectors_are_standardised_and_stay_within_the_range_of_the_data() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((500, 4)) * [1, 1e4, 1e-4, 0] + [0, -1e5, 3, 7]).astype(np.float32)
    codec = Codec.fit(samples, flat=True)
    shown = codec.shown(codec.stored(samples))
    np.testing.assert_allclose(shown[:, :3].std(0), 1, rtol=0.02)
    np.testing.assert_allclose(codec.decode(shown), samples, rtol=1e-5, atol=1e-5)
    wild = codec.decode(100 * torch.randn(100, 4))
    assert (wild >= samples.min(0)).all()
    assert (wild <= samples.max(0)).all()
    assert (wild[:, 3] == 7).all()


def test_pca_whitens_and_decodes_what_lies_in_its_span() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((300, 3)) * [5, 1, 0.2] @ rng.standard_normal((3, 20)) + 4).astype(np.float32)
    pca = WhitenedPCA.fit(rows, most=10)
    z = pca.encode(torch.from_numpy(rows))
    assert z.shape == (300, 3)  # the other seven axes hold rounding error
    np.testing.assert_allclose(np.cov(z.numpy().T), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(pca.decode(z).numpy(), rows, atol=1e-3)
