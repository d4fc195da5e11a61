"""Rows of several arrays as if they were one, wherever they lie: generated shards larger than memory are read so."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["StackedRows", "row_numbers"]


def row_numbers(index: Any, n: int) -> np.ndarray:
    """What a slice, integers or booleans [n] pick of n rows: int64 numbers from 0 up.

    Raises:
        IndexError: rows that are not there.
    """
    if isinstance(index, slice):
        return np.arange(n)[index]
    rows = np.asarray(index)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64)
    if rows.ndim != 1 or (len(rows) and not -n <= rows.min() <= rows.max() < n):
        raise IndexError(f"rows {rows} of {n}")
    return np.where(rows < 0, rows + n, rows)


@dataclass(frozen=True, eq=False)
class StackedRows:
    """The rows of `parts`, arrays [n_i, ...] of one shape and type, one after the other: maps of files, usually."""

    parts: tuple[np.ndarray, ...]
    rows: np.ndarray | None = None  # int64 [N] of all of them; None: each once

    @cached_property
    def ends(self) -> list[int]:
        return list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return self.parts[0].ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        return len(self) * self.parts[0][:1].nbytes

    def __getitem__(self, index: Any) -> np.ndarray:
        """An array [n, ...] of a slice, integers or booleans [N]; [...] of one integer.

        Raises:
            IndexError: rows that are not there.
        """
        if isinstance(index, (int, np.integer)):
            return self[np.array([index])][0]
        rows = row_numbers(index, len(self))
        rows = rows if self.rows is None else self.rows[rows]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for k in np.argsort(rows, kind="stable").tolist():  # in the order in which they lie
            part = bisect_right(self.ends, int(rows[k]))
            out[k] = self.parts[part][int(rows[k]) - (self.ends[part - 1] if part else 0)]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows int64 [n] -> [n, ...] on the CPU."""
        import torch

        return torch.from_numpy(self[rows.cpu().numpy()])

    def to(self, device: torch.device | str) -> torch.Tensor:
        """All rows on a device, copied there part by part."""
        import torch

        kind = torch.from_numpy(np.empty(0, self.dtype)).dtype
        out = torch.empty(self.shape, dtype=kind, device=device)
        for start in range(0, len(self), 4096):
            block = self[start : start + 4096]
            out[start : start + len(block)] = torch.from_numpy(block).to(device)
        return out

    def subset(self, index: Any) -> StackedRows:
        """The rows `index`, still where they are."""
        rows = row_numbers(index, len(self))
        return StackedRows(self.parts, rows if self.rows is None else self.rows[rows])
