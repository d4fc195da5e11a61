"""Overlap against loops, and the strength it asks for."""

import math

import numpy as np
import pytest
import torch

from swell.adaptive.overlap import Overlap, overlap_strength, view_features
from swell.errors import InputError
from swell.views.plan import VectorGroup, ViewPlan
from swell.views.presets import simclr


def as_they_are(samples: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(samples.reshape(len(samples), -1).astype(np.float32))


def by_loops(views: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Share of the 2n views whose nearest is another sample's, and the mean log of how many come between."""
    _, n, _ = views.shape
    confused, crowding = 0, 0.0
    for v in range(2):
        for i in range(n):
            own = np.linalg.norm(views[v, i] - views[1 - v, i])
            rest = [np.linalg.norm(views[v, i] - views[w, j]) for w in range(2) for j in range(n) if j != i]
            rest += [np.linalg.norm(views[v, i] - x) for x in others]
            confused += min(rest) < own
            crowding += math.log(1 + sum(d < own for d in rest))
    return confused / (2 * n), crowding / (2 * n)


@pytest.mark.parametrize("noise", [0.1, 0.6, 3.0])
def test_against_loops(noise):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    views = (x + noise * rng.normal(size=(2, 30, 3))).astype(np.float32)
    others = rng.normal(size=(25, 3)).astype(np.float32)
    found = Overlap.of(torch.from_numpy(views))
    assert (found.value, found.crowding) == pytest.approx(by_loops(views, others[:0]))
    found.add(torch.from_numpy(others[:10]))
    found.add(torch.from_numpy(others[10:]))
    assert (found.value, found.crowding) == pytest.approx(by_loops(views, others))


def test_views_of_equal_samples_overlap_only_where_another_is_strictly_nearer():
    views = torch.zeros(2, 5, 3)
    assert Overlap.of(views).value == 0
    with pytest.raises(InputError):
        Overlap.of(torch.zeros(2, 1, 3))


def test_a_sample_has_the_same_views_at_any_strength_but_for_the_strength():
    x = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    plan = ViewPlan((VectorGroup(count=2, noise=1.0),))
    full, half = (view_features(x, plan.at_strength(s), as_they_are, 0) - torch.from_numpy(x) for s in (1.0, 0.5))
    assert half == pytest.approx(full / 2, abs=1e-6)
    assert view_features(x, plan.at_strength(0.0), as_they_are, 0)[1] == pytest.approx(torch.from_numpy(x))


def test_images_are_seen_at_their_own_size():
    x = np.random.default_rng(1).integers(0, 255, (6, 3, 12, 10), dtype=np.uint8)
    sizes = []
    view_features(x, simclr(), lambda a: sizes.append((a.shape, a.dtype)) or as_they_are(a), 0)
    assert sizes == [((12, 3, 12, 10), np.dtype(np.uint8))]


PLAN = ViewPlan((VectorGroup(count=2, noise=1.5),))


def cloud(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def test_more_data_ask_for_weaker_views():
    """In d dimensions twice as near neighbours take 2^d times as many samples: so must the noise halve, as noise n
    overlaps with what lies about n away."""
    real, plan = cloud(400, 0), ViewPlan((VectorGroup(count=2, noise=0.5),))
    found = {m: overlap_strength(real, cloud(m, 1), as_they_are, plan, 1.0) for m in (400, 6000)}
    assert found[400].growth == pytest.approx(2)
    assert found[6000].growth == pytest.approx(16)
    assert 0.3 < found[6000].strength < found[400].strength < 1
    assert found[6000].strength == pytest.approx(16 ** (-1 / 4), abs=0.2)
    again = overlap_strength(real, cloud(6000, 1), as_they_are, plan, 1.0)
    assert again == found[6000]


def test_no_inflation_where_generated_samples_crowd_upon_the_real_ones():
    """Real samples that strong views do not confuse, and generated ones between the views of each: jittered copies seen
    through an encoder whose views differ even at strength 0, as a flip makes them."""
    real = 100 * cloud(200, 0)
    crowd = (np.tile(real, (10, 1)) + 1e-3).astype(np.float32)
    flips = np.random.default_rng(0)

    def encode(samples: np.ndarray) -> torch.Tensor:
        return as_they_are(samples) + torch.from_numpy(flips.normal(size=samples.shape).astype(np.float32)) * 0.01

    found = overlap_strength(real, crowd, encode, PLAN, 1.0)
    assert not found.use
    assert "undistorted" in found.reason
    assert overlap_strength(real, 100 * cloud(2000, 1), encode, PLAN, 1.0).use


def test_without_inflation_the_default_stays():
    found = overlap_strength(cloud(50, 0), cloud(50, 1), as_they_are, PLAN, None, "weak")
    assert (found.strength, found.growth, found.use) == (0.5, 1.0, False)
