"""Addressed random numbers: the published sequence, their addresses, their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from swell.generators.noise import Draws, splitmix64

MASK = (1 << 64) - 1


def by_hand(seed: int, number: int) -> int:
    """SplitMix64 in Python's own integers."""
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_sequence_is_splitmix64() -> None:
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    got = splitmix64(torch.tensor(1234567), torch.arange(5)).numpy().view(np.uint64)
    assert got.tolist() == known
    seeds = torch.tensor([0, -1, 2**62, -(2**63)])
    for number in (0, 1, 12345):
        got = splitmix64(seeds, torch.tensor(number)).numpy().view(np.uint64)
        assert got.tolist() == [by_hand(int(seed) & MASK, number) for seed in seeds]


def test_numbers_depend_on_their_address_alone() -> None:
    rows = torch.tensor([7, 3, 3, 100_000])
    whole = Draws(1, torch.arange(8)).normal((2, 3), "a")
    torch.testing.assert_close(Draws(1, rows).normal((2, 3), "a")[:3], whole[[7, 3, 3]])
    for other in (
        Draws(2, rows).normal((2, 3), "a"),
        Draws(1, rows, 1).normal((2, 3), "a"),
        Draws(1, rows).normal((2, 3), "b"),
    ):
        assert not torch.isclose(other, Draws(1, rows).normal((2, 3), "a")).any()
    longer = Draws(1, rows).normal((7,), "a")
    torch.testing.assert_close(Draws(1, rows).normal((6,), "a"), longer[:, :6])


def test_normal_numbers_are_normal_and_uncorrelated() -> None:
    x = Draws(3, torch.arange(2000)).normal((41,), "a").numpy().astype(np.float64)
    assert stats.kstest(x.ravel(), "norm").pvalue > 0.01
    assert np.isfinite(x).all()
    between = np.corrcoef(x.T) - np.eye(41)
    assert np.abs(between).max() < 5 / np.sqrt(2000)
    numbers = [Draws(3, torch.arange(2000), j).normal((1,), "a").numpy()[:, 0] for j in range(2)]
    lagged = np.corrcoef([numbers[0][1:], numbers[0][:-1], numbers[1][1:]]) - np.eye(3)
    assert np.abs(lagged).max() < 5 / np.sqrt(2000)


def test_uniform_and_whole_numbers_are_even() -> None:
    draws = Draws(0, torch.arange(5000))
    u = draws.uniform(3, "u")
    assert (float(u.min()) >= 0, float(u.max()) < 1) == (True, True)
    assert stats.kstest(u.numpy().ravel(), "uniform").pvalue > 0.01
    counts = torch.bincount(draws.below(7, 3, "n").ravel(), minlength=7).numpy()
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 0.01
    assert draws.below(1, 2, "n").max() == 0


@pytest.mark.parametrize("rows", [torch.zeros(0, dtype=torch.int64)])
def test_no_rows_make_no_numbers(rows: torch.Tensor) -> None:
    assert Draws(0, rows).normal((3,), "a").shape == (0, 3)
