"""The k largest: exactly torch.topk's, whatever the shape of the groups."""

import pytest
import torch

from swell import largest as module
from swell.largest import FEW, WORTHWHILE, largest, largest_of


@pytest.mark.parametrize("n", [1, 5, 63, 64, 1000, 1009])
@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_topk(n: int, k: int, dtype: torch.dtype) -> None:
    x = torch.randn(17, n, generator=torch.Generator().manual_seed(n + k), dtype=dtype)
    values, columns = largest(x, k)
    expected = x.topk(min(k, n))
    assert torch.equal(values, expected.values)
    assert torch.equal(columns, expected.indices)  # no two are equal


def test_grouping_is_tried_by_these_tests() -> None:
    assert WORTHWHILE**2 <= 1000 // 20


def test_all_in_one_group_and_all_in_the_rest() -> None:
    """The k largest in one group (columns 0, 250, 500, 750 of 4 x 250), and among the numbers that fill no group."""
    x = torch.zeros(2, 1009)
    size = 7  # isqrt(1009 // 20)
    groups = 1009 // size
    together = torch.arange(size) * groups + 3
    x[0, together] = torch.arange(1.0, size + 1)
    x[1, size * groups :] = 5.0
    values, columns = largest(x, 20)
    assert columns[0, :size].tolist() == together.flip(0).tolist()
    assert values[0].tolist() == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] + [0.0] * 13
    assert sorted(columns[1, : 1009 - size * groups].tolist()) == list(range(size * groups, 1009))


def test_equal_numbers_are_told_apart_by_column() -> None:
    values, columns = largest(torch.ones(3, 500), 10)
    assert values.eq(1).all()
    assert all(len(set(row)) == 10 for row in columns.tolist())


def test_infinite_and_missing_numbers_count_as_in_topk() -> None:
    x = torch.randn(4, 400, generator=torch.Generator().manual_seed(0))
    x[:, ::7] = -torch.inf
    x[:, 5] = torch.inf
    x[1:, 8] = torch.nan
    torch.testing.assert_close(largest(x, 3)[0], x.topk(3).values, equal_nan=True)


@pytest.mark.parametrize("k", [1, 4, 30, 300])
def test_blocks_side_by_side(k: int) -> None:
    x = torch.randn(9, 200, generator=torch.Generator().manual_seed(1))
    values, columns = largest_of(iter(x.split([150, 3, 47], 1)), k)
    expected = x.topk(min(k, 200))
    assert torch.equal(values, expected.values)
    assert torch.equal(columns, expected.indices)


def the_same(x: torch.Tensor, parts: list[int] | int, k: int) -> None:
    values, columns = largest_of(iter(x.split(parts, 1)), k)
    expected = x.topk(min(k, x.shape[1]))
    torch.testing.assert_close(values, expected.values, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(x.gather(1, columns), values, rtol=0, atol=0, equal_nan=True)
    assert all(len(set(row)) == len(row) for row in columns.tolist())


@pytest.mark.parametrize("rows", [0, 1, 12])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_many_blocks_of_which_later_ones_hold_few(rows: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(rows, 3000, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    sorted_: list[int] = []
    whole = module.largest
    monkeypatch.setattr(module, "largest", lambda block, k: sorted_.append(1) or whole(block, k))
    the_same(x, 300, k)
    assert len(sorted_) < 10  # the candidates of some block were found by comparing alone


def test_blocks_that_are_all_better_than_the_one_before() -> None:
    """The worst order there is, for all rows and for one of them only; then nothing above the first block."""
    rising = torch.arange(2000.0).expand(5, -1)
    assert FEW * 7 < 100
    the_same(rising, 100, 7)
    x = torch.randn(5, 2000, generator=torch.Generator().manual_seed(2))
    the_same(torch.cat([x, rising[:1]]), 100, 7)
    the_same(rising.flip(1), 100, 7)


def test_equal_infinite_and_missing_numbers_in_blocks() -> None:
    x = torch.randn(8, 600, generator=torch.Generator().manual_seed(3))
    x[0] = 1.0
    x[1] = -torch.inf
    x[2, :70] = -torch.inf  # more than k are left in later blocks only
    x[3, 500] = torch.inf
    x[4, 550] = torch.nan
    x[5, 3] = torch.nan
    the_same(x, 60, 5)
    for alone in range(8):
        the_same(x[alone : alone + 1], 60, 5)
