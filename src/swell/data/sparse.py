"""Sparse rows in memory that come out dense, a batch at a time: what single-cell counts become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Index: TypeAlias = slice | list[int] | np.ndarray

ROWS_AT_ONCE = 4096  # whoever walks over all rows makes no more of them dense at a time


@dataclass(frozen=True, eq=False)
class SparseRows:
    """N rows of D numbers in compressed sparse rows (CSR); row i comes out as x_i - shift[group_i], clipped at +-limit.

    Subtracting a mean fills every zero, so it waits until a row is asked for: the whole is never dense.
    """

    values: Tensor  # float32 [nnz]
    columns: Tensor  # int32 [nnz], on the same device
    pointers: Tensor  # int64 [N + 1], always on the CPU: rows are drawn there, and nobody waits for a GPU
    shift: Tensor  # float32 [K, D], on the device of the values
    group: Tensor | None = None  # int64 [N], on the CPU: which shift a row takes; None: the first
    limit: float = float("inf")

    ndim: ClassVar[int] = 2
    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)

    @classmethod
    def from_csr(
        cls, rows: csr_array, shift: np.ndarray, group: np.ndarray | None = None, limit: float = float("inf")
    ) -> SparseRows:
        """From SciPy's CSR [N, D] in canonical format; `shift` float32 [K, D], `group` int64 [N]."""
        return cls(
            torch.from_numpy(rows.data.astype(np.float32, copy=False)),
            torch.from_numpy(rows.indices.astype(np.int32, copy=False)),
            torch.from_numpy(rows.indptr.astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(shift, np.float32)),
            None if group is None else torch.from_numpy(group.astype(np.int64)),
            limit,
        )

    def __len__(self) -> int:
        return len(self.pointers) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.shift.shape[1]

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def nbytes(self) -> int:
        """Bytes they take as they lie, not those of the dense matrix."""
        parts = (self.values, self.columns, self.pointers, self.shift, self.group)
        return sum(part.nbytes for part in parts if part is not None)

    def take(self, rows: Tensor) -> Tensor:
        """Rows int64 [n], each from 0 to N - 1 -> float32 [n, D] on the device of the values."""
        rows = rows.cpu()
        starts = self.pointers[rows]
        counts = self.pointers[rows + 1] - starts
        offsets = starts - (counts.cumsum(0) - counts)  # what turns a place in the batch into one in the whole
        total, device = int(counts.sum()), self.device
        owner = torch.repeat_interleave(
            torch.arange(len(rows), device=device), counts.to(device, non_blocking=True), output_size=total
        )
        at = torch.arange(total, device=device) + offsets.to(device, non_blocking=True)[owner]
        if self.group is None:
            out = self.shift[:1].neg().repeat(len(rows), 1)
        else:
            out = self.shift[self.group[rows].to(device, non_blocking=True)].neg_()
        out.view(-1).index_add_(0, owner * self.shape[1] + self.columns[at], self.values[at])
        return out if self.limit == float("inf") else out.clamp_(-self.limit, self.limit)

    def __getitem__(self, index: Index | int) -> np.ndarray:
        """Dense float32 [n, D] of a slice, integers or booleans [N]; [D] of one integer.

        Raises:
            IndexError: rows that are not there.
        """
        if isinstance(index, (int, np.integer)):
            return self[np.array([index])][0]
        return self.take(self._rows(index)).cpu().numpy()

    def subset(self, index: Index) -> SparseRows:
        """The rows `index`, sparse again."""
        rows = self._rows(index)
        counts = self.pointers[rows + 1] - self.pointers[rows]
        pointers = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        offsets = torch.repeat_interleave(self.pointers[rows] - pointers[:-1], counts)
        at = (torch.arange(len(offsets)) + offsets).to(self.device)
        group = None if self.group is None else self.group[rows]
        return replace(self, values=self.values[at], columns=self.columns[at], pointers=pointers, group=group)

    def to(self, device: torch.device | str) -> SparseRows:
        """The same rows with values, columns and shift on `device`."""
        parts = {name: getattr(self, name).to(device) for name in ("values", "columns", "shift")}
        return replace(self, **parts)

    def _rows(self, index: Index) -> Tensor:
        if isinstance(index, slice):
            return torch.arange(len(self))[index] if (index.step or 1) > 0 else torch.tensor(range(len(self))[index])
        rows = np.asarray(index)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} for {len(self)} rows")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        if rows.ndim != 1 or (len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        return torch.from_numpy(np.where(rows < 0, rows + len(self), rows))
