from __future__ import annotations

import numpy as np

from swell.data.source import Provenance, Source
from swell.report.copies import SHOWN_PAIRS, pairs


def source(images, kind="real"):
    return Source(images, Provenance(kind, "array"))


def noise(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8)).astype(np.uint8)


def test_copies_are_found_and_told_from_what_is_new():
    real, made = noise(300, 0), noise(SHOWN_PAIRS, 1)
    made[3] = real[17]
    made[5] = np.clip(real[40].astype(int) + 3, 0, 255)
    found = pairs(source(made, "generated"), source(real))
    assert found.flags[3] == "a copy"
    assert found.flags[5] == "close"
    assert [i for i, flag in enumerate(found.flags) if flag] == [3, 5]
    assert np.array_equal(found.nearest[3], real[17])
    assert np.array_equal(found.nearest[5], real[40])
    assert found.distance[3] == 0


def test_near_duplicates_among_the_real_samples_make_no_copies_of_others():
    real = np.concatenate([noise(200, 0)] * 2)  # every real sample has a twin
    assert not any(pairs(source(noise(24, 1), "generated"), source(real)).flags)
    constant = np.full((60, 1, 8, 8), 7, np.uint8)
    assert set(pairs(source(constant, "generated"), source(constant)).flags) == {"a copy"}


def test_few_samples_vectors_and_none():
    for n in (1, 2, 3, 30):
        assert len(pairs(source(noise(4, 1), "generated"), source(noise(n, 0))).flags) == 4
    vectors = source(np.zeros((5, 3), np.float32))
    assert pairs(vectors, vectors) is None
    assert pairs(None, vectors) is None
