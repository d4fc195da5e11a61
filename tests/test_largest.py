"""The k largest: exactly torch.topk's, whatever the shape of the groups."""

import pytest
import torch

from swell.largest import WORTHWHILE, largest, largest_of


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
