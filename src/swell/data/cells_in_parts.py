"""Rows of an .h5ad file a part at a time, for data that are encoded and never wanted as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swell.data.cells import (
    canonical,
    checked,
    column,
    encoding_of,
    h5py_or_told,
    index_of,
    keys_of,
    named,
    place_of,
    read,
    refuse_elsewhere,
    told,
)
from swell.data.h5_checks import attribute
from swell.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Rows", "open_rows"]


class Rows(NamedTuple):
    """What is known before the values are read."""

    total: int
    names: tuple[str, ...]  # of the genes
    batches: np.ndarray | None  # [N]
    pointers: np.ndarray | None  # int64 [N + 1] of a sparse matrix


def open_rows(path: Path, layer: str, batch: str) -> Rows | None:
    """None of a matrix that is stored by columns, which has no rows to read apart. Raises as `open_h5ad` does."""
    h5py = h5py_or_told()
    with told(path), checked(path) as file:
        if "obs" not in file or "var" not in file or not isinstance(file["obs"], h5py.Group):
            return None  # what `open_h5ad` has words for
        place, var = place_of(path, file, layer)
        kind = encoding_of(place)
        if kind not in ("array", "csr_matrix"):
            return None
        obs = file["obs"]
        names, count = column(file[var], index_of(file[var])), len(column(obs, index_of(obs)))
        shape = place.shape if kind == "array" else tuple(int(n) for n in attribute(place, "shape"))
        if tuple(shape) != (count, len(names)):
            raise ValueError(f"{shape[0]} x {shape[-1]} values for {count} cells and {len(names)} genes")
        for stored in [place] if kind == "array" else [place["data"], place["indices"]]:
            refuse_elsewhere(stored)
        batches = column(obs, named(str(path), keys_of(obs), batch)) if batch else None
        pointers = None
        if kind == "csr_matrix":
            pointers = read(place["indptr"])
            if (
                pointers.dtype.kind not in "iu"
                or pointers.shape != (count + 1,)
                or (np.diff(pointers.astype(np.int64)) < 0).any()
            ):
                raise ValueError("a sparse matrix whose pointers do not fit its values")
            pointers = pointers.astype(np.int64)
            if pointers[0] != 0 or not pointers[-1] == len(place["indices"]) == len(place["data"]):
                raise ValueError("a sparse matrix whose pointers do not fit its values")
    return Rows(count, tuple(map(str, names)), batches, pointers)


def parts_of(path: Path, layer: str, rows: Rows, at_once: int) -> Iterator[tuple[slice, np.ndarray | csr_array]]:
    """`at_once` rows after the other, as they are stored."""
    h5py = h5py_or_told()
    with h5py.File(path, "r") as file:
        for start in range(0, rows.total, at_once):
            part = slice(start, min(start + at_once, rows.total))
            with told(path):
                place, _ = place_of(path, file, layer)
                made = _rows(place, rows, part)
            yield part, made


def _rows(place: Any, rows: Rows, part: slice) -> np.ndarray | csr_array:
    from scipy.sparse import csr_array

    if rows.pointers is None:
        dense = np.asarray(place[part])
        if dense.dtype.kind not in "buif":
            raise InputError(f"values {dense.dtype}", "numbers")
        return dense
    first, last = rows.pointers[part.start], rows.pointers[part.stop]
    data, indices = np.asarray(place["data"][first:last]), np.asarray(place["indices"][first:last])
    if indices.dtype.kind not in "iu" or (len(indices) and not 0 <= indices.min() <= indices.max() < len(rows.names)):
        raise ValueError("a sparse matrix with columns beyond its width")
    pointers = rows.pointers[part.start : part.stop + 1] - first
    return canonical(csr_array((data, indices, pointers), shape=(part.stop - part.start, len(rows.names))), place.name)
