"""When to stop generating: the closed form of a perfect generator, and the ones that miss."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from swell.adaptive.amount import Amount, Point, enough, most_samples, saturated
from swell.data.sparse import SparseRows
from swell.errors import InputError
from swell.views.plan import VectorGroup, ViewPlan

PLAN = ViewPlan((VectorGroup(count=2, noise=0.3),))


def as_they_are(samples: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(samples, np.float32))


def cloud(n: int, seed: int, spread: float = 1.0) -> np.ndarray:
    return (spread * np.random.default_rng(seed).normal(size=(n, 3))).astype(np.float32)


class Sequence:
    """An endless sequence of samples made while needed, which remembers how many were asked for."""

    def __init__(self, make) -> None:
        self.make, self.asked = make, []

    def __call__(self, count: int, first: int) -> np.ndarray:
        self.asked.append((count, first))
        return self.make(count, first)


def test_a_perfect_generator_covers_m_over_m_plus_n():
    draw = Sequence(lambda count, first: cloud(count, 1000 + first))
    found = enough(draw, cloud(500, 0), cloud(2000, 1), as_they_are, PLAN, most=8000)
    for point in found.curve:
        truth = point.count / (point.count + 500)
        assert point.coverage == pytest.approx(truth, abs=3 * math.sqrt(truth * (1 - truth) / 2000) + 0.03)
    assert [p.count for p in found.curve][:4] == [500, 1000, 2000, 4000]
    overlaps = [p.overlap for p in found.curve]
    assert overlaps == sorted(overlaps)
    assert sum(count for count, _ in draw.asked) == found.count  # no sample was drawn twice or in vain
    assert all(first == sum(c for c, _ in draw.asked[:i]) for i, (_, first) in enumerate(draw.asked))


def test_a_generator_that_misses_a_region_is_stopped_early():
    """Only where x_0 > 1: nothing more to gain soon, and coverage stays low."""

    def make(count: int, first: int) -> np.ndarray:
        x = cloud(count, 1000 + first, 0.05)
        x[:, 0] += 2.0
        return x

    found = enough(Sequence(make), cloud(400, 0), cloud(1000, 1), as_they_are, PLAN)
    assert found.saturated
    assert found.count < most_samples(400)
    assert found.curve[-1].coverage < 0.2


def test_copies_cover_nothing():
    train = cloud(300, 0)
    found = enough(lambda count, first: train[np.arange(first, first + count) % 300], train, cloud(500, 1),
                   as_they_are, PLAN)  # fmt: skip
    assert found.curve[-1].coverage == 0
    assert found.saturated


def test_samples_that_lie_ready_end_where_they_end():
    ready = cloud(3000, 5)
    train, held_out = cloud(1000, 0), cloud(500, 1)
    found = enough(lambda count, first: ready[first : first + count], train, held_out, as_they_are, PLAN, most=3000)
    assert (found.count, found.saturated) == (3000, False)
    assert [p.count for p in found.curve] == [1000, 2000, 3000]
    assert "3,000 allowed" in found.reason
    with pytest.raises(InputError, match="give most=3000"):
        enough(lambda count, first: ready[first : first + count], train, held_out, as_they_are, PLAN, most=4000)


def test_sparse_rows_are_as_good_as_dense_ones():
    dense = np.maximum(cloud(200, 0), 0)
    sparse = SparseRows.from_csr(csr_array(dense), np.zeros((1, 3), np.float32))
    held_out = np.maximum(cloud(100, 1), 0)
    draws = [np.maximum(cloud(400, 2), 0)[first : first + count] for first, count in ((0, 200), (200, 200))]
    a, b = (
        enough(lambda count, first: draws[first // 200], x, held_out, as_they_are, PLAN, most=400)
        for x in (dense, sparse)
    )
    assert a == b


def test_the_rule():
    assert not saturated([Point(10, 0.5, 0.1)])
    assert saturated([Point(10, 0.5, 0.1), Point(20, 0.505, 0.11)])
    assert not saturated([Point(10, 0.5, 0.1), Point(20, 0.505, 0.13)])
    assert not saturated([Point(10, 0.5, 0.1), Point(20, 0.52, 0.1)])
    # a short last step counts by its share of a doubling
    assert not saturated([Point(16, 0.5, 0.1), Point(20, 0.505, 0.1)])
    assert (most_samples(50_000), most_samples(100), most_samples(10**6)) == (1_000_000, 2000, 1_000_000)


def test_bad_input_and_the_result():
    with pytest.raises(InputError, match="0 < first"):
        enough(lambda c, f: cloud(c, f), cloud(10, 0), cloud(10, 1), as_they_are, PLAN, first=9, most=5)
    found = enough(lambda c, f: cloud(c, f), cloud(10, 0), cloud(10, 1), as_they_are, PLAN, most=10)
    assert isinstance(found, Amount)
    assert found.count == 10
