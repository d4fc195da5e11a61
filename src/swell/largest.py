"""The k largest of many: what every search for neighbours here ends with."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

WORTHWHILE = 4  # numbers in a group; below, grouping costs more than it saves
FEW = (
    4  # numbers of a block for each of the k largest; where a row has more candidates, they are sought as in the first
)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values [m, k] and columns [m, k] of the k largest numbers in each row of x [m, n], largest first, as torch.topk.

    The k largest lie in at most k groups of numbers, and those groups have the k largest maxima. So one pass finds the
    maxima of sqrt(n / k) numbers each, and only the members of k groups are sorted. Which of equal numbers is taken is
    open, as it is in torch.topk.
    """
    n = x.shape[1]
    size = math.isqrt(n // k) if k else 0
    if size < WORTHWHILE:
        return x.topk(min(k, n))
    groups = n // size
    grouped = x[:, : size * groups].unflatten(
        1, (size, groups)
    )  # a group is a column here, so that maxima go along rows
    chosen = grouped.amax(1).topk(k, sorted=False).indices[:, None].expand(-1, size, -1)  # [m, size, k]
    first = torch.arange(0, size * groups, groups, device=x.device)[:, None]  # [size, 1]
    rest = torch.arange(size * groups, n, device=x.device).expand(len(x), -1)  # too few for all groups
    values = torch.cat([grouped.gather(2, chosen).flatten(1), x[:, size * groups :]], 1)
    columns = torch.cat([(chosen + first).flatten(1), rest], 1)
    best, where = values.topk(k)
    return best, columns.gather(1, where)


def largest_of(blocks: Iterable[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """`largest` of blocks [m, n1], [m, n2], ... side by side, of which one at a time is in memory; all columns if k is
    more than there are. Quickest with blocks that stay in the processor's cache."""
    best, columns = torch.empty(0), torch.empty(0, dtype=torch.long)
    before = 0
    for block in blocks:
        found = _above(block, best[:, -1:], FEW * k) if before >= k else None
        values, index = found or largest(block, k)
        index = index + before
        if before:
            values, keep = torch.cat([best, values], 1).topk(min(k, before + block.shape[1]))
            index = torch.cat([columns, index], 1).gather(1, keep)
        best, columns, before = values, index, before + block.shape[1]
    return best, columns


def _above(x: Tensor, least: Tensor, at_most: int) -> tuple[Tensor, Tensor] | None:
    """What can still be among the largest: the numbers of x [m, n] above `least` [m, 1], and their columns, both
    [m, as many as the row with the most]; a shorter row ends in -inf. None where a row has more than `at_most`, or
    where -inf would not do.

    After the first blocks few numbers of a row are: finding them is one comparison and no sorting.
    """
    if not bool(least.isfinite().all()):
        return None
    rows, columns = (x <= least).logical_not_().nonzero(as_tuple=True)  # what is missing counts as in torch.topk
    counts = torch.bincount(rows, minlength=len(x))
    width = int(counts.max()) if len(rows) else 0
    if width > at_most:
        return None
    place = torch.arange(len(rows), device=x.device) - (counts.cumsum(0) - counts)[rows]
    values, index = x.new_full((len(x), width), -torch.inf), columns.new_zeros(len(x), width)
    values[rows, place], index[rows, place] = x[rows, columns], columns
    return values, index
