"""Cells: .h5ad files, read and written with h5py, and AnnData objects.

h5py alone is enough, and safer than anndata for what is needed here: the format is plain groups and arrays with their
kinds in attributes, nothing is read but what is asked for, and a file that features are added to keeps all its other
bytes. Pointers of sparse matrices are checked before they are followed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swell.data.arrays import LABEL_KEYS
from swell.data.bombs import refuse_bomb
from swell.data.counts import kind_of_cells
from swell.data.h5_checks import attribute, little_room, refuse_endless_heaps, refuse_links, refuse_odd
from swell.data.raw import Raw
from swell.errors import InputError, suggest

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData
    from scipy.sparse import csr_array

__all__ = [
    "canonical",
    "checked",
    "column",
    "features_added",
    "h5py_or_told",
    "index_of",
    "is_anndata",
    "keys_of",
    "named",
    "open_anndata",
    "open_h5ad",
    "place_of",
    "read",
    "told",
    "write_h5ad",
]  # fmt: skip

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError,
               MemoryError)  # fmt: skip
_WORDS = 256  # words read at a time, which may all be one and the same of a megabyte


def h5py_or_told() -> Any:
    """The module h5py. Raises InputError with the line that installs it."""
    try:
        import h5py
    except ImportError:
        raise InputError(
            ".h5ad without h5py",
            "the extra omics",
            "python -m pip install 'swell[omics]', or pip install h5py alone",
        ) from None
    return h5py


def is_anndata(data: object) -> bool:
    module = sys.modules.get("anndata")
    return module is not None and isinstance(data, module.AnnData)


def open_h5ad(path: Path, labels: bool | str = False, layer: str = "", batch: str = "") -> Raw:
    """Cells of an .h5ad file (as anndata 0.8 and later write it): sparse where they are stored so.

    Args:
        labels: the column of obs that holds them; True takes label, labels or y.
        layer: a name in layers, or raw; "" reads X.
        batch: the column of obs that tells the batch.

    Raises:
        InputError: anything that is no whole .h5ad file, and columns or layers that are not there.
    """
    h5py = h5py_or_told()
    with told(path), checked(path) as file:
        if "obs" not in file or "var" not in file:
            raise ValueError("no obs and var in it")
        if not isinstance(file["obs"], h5py.Group):
            raise ValueError("written by anndata before 0.7")
        place, var = place_of(path, file, layer)
        values = _matrix(place)
        names, cells = column(file[var], index_of(file[var])), len(column(file["obs"], index_of(file["obs"])))
        if values.shape != (cells, len(names)):
            raise ValueError(f"{values.shape[0]} x {values.shape[1]} values for {cells} cells and {len(names)} genes")
        chosen = column(file[var], "highly_variable") if "highly_variable" in file[var] else None
        obs = file["obs"]
        keys = keys_of(obs)
        y = column(obs, _label_key(str(path), keys, labels)) if labels else None
        batches = column(obs, named(str(path), keys, batch)) if batch else None
        others = (*(["raw"] if "raw" in file else []), *file.get("layers", ()))
    return _raw(str(path), values, names, y, batches, chosen, layer, batch, others)


def open_anndata(adata: AnnData, labels: bool | str = False, layer: str = "", batch: str = "") -> Raw:
    """Cells of an AnnData object in memory or backed; see `open_h5ad`."""
    origin, held = "AnnData", adata.raw if layer == "raw" else adata
    if layer == "raw" and held is None:
        raise InputError(f"{origin}: no raw", "an AnnData with raw", "leave the layer out to read X")
    if layer not in ("", "raw"):
        if layer not in adata.layers:
            there = [*adata.layers, *([] if adata.raw is None else ["raw"])]
            todo = suggest(layer, there) if there else ""
            raise InputError(f"{origin}: no layer {layer!r}", "a layer", todo)
        values: Any = adata.layers[layer]
    else:
        values = held.X
    if values is None:
        raise InputError(f"{origin}: no X", "values", f"give a layer: {', '.join(adata.layers)}")
    if hasattr(values, "to_memory"):
        values = values.to_memory()
    from scipy.sparse import issparse

    matrix = canonical(values, origin) if issparse(values) else _numbers(np.asarray(values))
    columns = [str(c) for c in adata.obs.columns]
    y = _words(adata.obs[_label_key(origin, columns, labels)], origin) if labels else None
    batches = _words(adata.obs[named(origin, columns, batch)], origin) if batch else None
    var = held.var
    chosen = np.asarray(var["highly_variable"]) if "highly_variable" in var else None
    others = (*([] if adata.raw is None else ["raw"]), *adata.layers)
    return _raw(origin, matrix, np.asarray(held.var_names, str), y, batches, chosen, layer, batch, others)


def canonical(matrix: Any, origin: str) -> csr_array:
    """Any of SciPy's sparse matrices of real numbers as CSR with sorted columns and no place twice.

    Raises:
        InputError: other types, pointers and columns that lead out of it.
    """
    from scipy.sparse import csr_array

    if matrix.dtype.kind not in "buif" or matrix.ndim != 2:
        raise InputError(f"{origin}: a sparse {matrix.dtype}{list(matrix.shape)}", "numbers [N, D]")
    made = csr_array(matrix, copy=True)
    if made.dtype.kind in "bf" and made.dtype != np.float64:
        made = made.astype(np.float32)
    with told(origin):
        made.check_format(full_check=True)
        made.sum_duplicates()
    return made


def _raw(
    origin: str,
    values: np.ndarray | csr_array,
    names: np.ndarray,
    labels: np.ndarray | None,
    batches: np.ndarray | None,
    chosen: np.ndarray | None,
    layer: str,
    batch: str,
    layers: tuple[str, ...],
) -> Raw:
    if chosen is not None:
        chosen = chosen.astype(bool)
        chosen = chosen if chosen.sum() > 1 else None
    about = {name: value for name, value in (("layer", layer), ("batch", batch)) if value}
    try:
        kind = kind_of_cells(values)
    except InputError as error:
        raise InputError(f"{origin}: {error.given}", error.expected, error.todo) from None
    others = tuple(name for name in layers if name != layer)
    return Raw(values, origin, tuple(map(str, names)), labels, batches, chosen, kind, about=about, others=others)


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Turn whatever HDF5 and NumPy say about a damaged file into one InputError."""
    try:
        yield
    except InputError as error:
        given = error.given if str(path) in error.given else f"{path}: {error.given}"
        raise InputError(given, error.expected, error.todo) from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"{path} ({reason})", "a whole .h5ad file", "write it again: adata.write_h5ad(path) of anndata 0.8 or later"
        ) from None


def place_of(path: Path, file: h5py.File, layer: str) -> tuple[Any, str]:
    """The matrix asked for, and the group of its genes."""
    if layer == "raw":
        if "raw" not in file:
            raise InputError(f"{path}: no raw", "a file with raw", "leave the layer out to read X")
        return file["raw/X"], "raw/var"
    if layer:
        there = [*file.get("layers", ()), *(["raw"] if "raw" in file else [])]
        if layer not in there:
            raise InputError(f"{path}: no layer {layer!r}", "a layer", suggest(layer, there) if there else "")
        return file[f"layers/{layer}"], "var"
    if "X" not in file:
        raise InputError(f"{path}: no X", "values", f"give a layer: {', '.join(file.get('layers', ())) or 'none'}")
    return file["X"], "var"


def _matrix(place: Any) -> np.ndarray | csr_array:
    """A dense, CSR or CSC matrix as it is stored, its pointers followed only after they were checked."""
    from scipy.sparse import csc_array, csr_array

    kind = encoding_of(place)
    if kind == "array":
        return _numbers(read(place))
    if kind not in ("csr_matrix", "csc_matrix"):
        raise ValueError(f"a matrix stored as {kind}")
    rows, columns = (int(n) for n in attribute(place, "shape"))
    data, indices, pointers = (read(place[name]) for name in ("data", "indices", "indptr"))
    lines, across = (rows, columns) if kind == "csr_matrix" else (columns, rows)
    if any(a.ndim != 1 or a.dtype.kind not in "iu" for a in (indices, pointers)) or data.ndim != 1:
        raise ValueError("a sparse matrix whose indices are no whole numbers")
    if len(pointers) != lines + 1 or pointers[0] != 0 or pointers[-1] != len(indices) or len(data) != len(indices):
        raise ValueError("a sparse matrix whose pointers do not fit its values")
    if (np.diff(pointers.astype(np.int64)) < 0).any():
        raise ValueError("a sparse matrix whose pointers run backwards")
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < across:
        raise ValueError("a sparse matrix with columns beyond its width")
    made = csr_array if kind == "csr_matrix" else csc_array
    return canonical(made((data, indices, pointers), shape=(rows, columns)), place.name)


@contextlib.contextmanager
def checked(path: Path, mode: str = "r") -> Iterator[Any]:
    """The file opened by h5py, once it is known not to lead into others nor in circles. Raises ValueError otherwise."""
    refuse_endless_heaps(path)
    with h5py_or_told().File(path, mode) as file:
        refuse_links(file)
        yield file


def refuse_elsewhere(place: Any) -> None:
    """Raises ValueError for a dataset that lies in another file, or is not made of numbers or words."""
    refuse_odd(str(place.name), place.id.get_type())
    if place.external or place.is_virtual:
        raise ValueError(f"{place.name} lies in another file")


def read(place: Any) -> np.ndarray:
    """All of a dataset; one that lies in another file or claims more than its bytes can hold is refused."""
    refuse_elsewhere(place)
    size = float(np.prod(place.shape, dtype=np.float64)) * place.dtype.itemsize
    refuse_bomb(str(place.name), size, place.id.get_storage_size())
    if place.dtype.kind == "O" and _string_kind(place) and place.ndim == 1:
        return _words_in(place)
    return np.asarray(place[()])


def _words_in(place: Any) -> np.ndarray:
    """Words of any length lie in a heap beside the dataset, where all may be the same bytes: together they may not be
    many times the file."""
    words, stored = place.asstr(errors="replace"), Path(place.file.filename).stat().st_size
    out, total = np.empty(place.shape, object), 0
    for start in range(0, len(out), _WORDS):
        with little_room(Path(place.file.filename)):
            out[start : start + _WORDS] = part = words[start : start + _WORDS]
        total += sum(map(len, part))
        refuse_bomb(str(place.name), total, stored)
    return out


def _string_kind(place: Any) -> bool:
    import h5py

    return h5py.check_string_dtype(place.dtype) is not None


def _numbers(a: np.ndarray) -> np.ndarray:
    if a.dtype.kind not in "buif" or a.ndim != 2:
        raise ValueError(f"values {a.dtype}{list(a.shape)}")
    return a


def index_of(frame: Any) -> str:
    return str(attribute(frame, "_index"))


def encoding_of(place: Any) -> str:
    return str(attribute(place, "encoding-type")) if "encoding-type" in place.attrs else "array"


def keys_of(frame: Any) -> list[str]:
    return [name for name in frame if name != index_of(frame)]


def column(frame: Any, key: str) -> np.ndarray:
    """A column of obs or var [N]: numbers, booleans or words; cells without a value are refused."""
    import h5py

    place = frame[key]
    if isinstance(place, h5py.Dataset):
        return read(place)
    if "codes" in place:  # categories
        codes, words = read(place["codes"]), read(place["categories"])
        if codes.dtype.kind not in "iu" or (len(codes) and int(codes.max()) >= len(words)):
            raise ValueError(f"column {key!r} with categories that are not there")
        _require_none_missing(codes < 0, key)
        return words[codes.astype(np.int64)]
    if "mask" in place:  # numbers, booleans or words of which some may be missing
        _require_none_missing(read(place["mask"]).astype(bool), key)
        return read(place["values"])
    raise ValueError(f"column {key!r} stored as {encoding_of(place)}")


def _require_none_missing(missing: np.ndarray, key: str) -> None:
    if missing.any():
        raise InputError(
            f"column {key!r}: {missing.sum():,} cells without a value", "one each", "fill or leave them out"
        )


def _words(column: Any, origin: str) -> np.ndarray:
    """A column of a pandas frame as numbers or words [N]."""
    _require_none_missing(np.asarray(column.isna()), f"{column.name} of {origin}")
    values = np.asarray(column)
    return values if values.dtype.kind in "buif" else values.astype(str)


def named(origin: str, keys: list[str], wanted: str) -> str:
    if wanted not in keys:
        raise InputError(f"{origin}: no column {wanted!r} in obs", "a column", suggest(wanted, keys) if keys else "")
    return wanted


def _label_key(origin: str, keys: list[str], labels: bool | str) -> str:
    if isinstance(labels, str):
        return named(origin, keys, labels)
    found = [key for key in LABEL_KEYS if key in keys]
    if not found:
        given = f"{origin}: no labels under {' or '.join(LABEL_KEYS)} in obs"
        raise InputError(given, "a column of labels", f"name it: one of {', '.join(keys) or 'none'}")
    return found[0]


@contextlib.contextmanager
def features_added(path: Path, source: Path, shape: tuple[int, int], about: Mapping[str, Any]) -> Iterator[Any]:
    """Yield an array to fill, float32 `shape` [N, F]: obsm["X_swell"] of a copy of the .h5ad file `source` as `path`.

    uns["swell"] is written too; nothing else is touched. The copy appears when the block succeeds.

    Args:
        about: words and numbers of one level, what uns["swell"] holds.

    Raises:
        InputError: another number of cells, a place that cannot be written.
    """
    import shutil

    from swell.files import atomic_path

    h5py = h5py_or_told()
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
        with told(source):
            refuse_endless_heaps(source)
            opened = h5py.File(temporary, "r+")
        with opened as file:
            with told(source):
                refuse_links(file)
                if len(column(file["obs"], index_of(file["obs"]))) != shape[0]:
                    raise ValueError(f"not the {shape[0]:,} cells that were encoded")
                obsm, uns = (_mapping(file, name) for name in ("obsm", "uns"))
                if "X_swell" in obsm:
                    del obsm["X_swell"]
                place = obsm.create_dataset("X_swell", shape, "float32")
                place.attrs["encoding-type"], place.attrs["encoding-version"] = "array", "0.2.0"
                if "swell" in uns:
                    del uns["swell"]
                own = _mapping(uns, "swell")
                for name, value in about.items():
                    _replace(own, name, value, "string" if isinstance(value, str) else "numeric-scalar")
            yield place  # what goes wrong from here on is not the file's doing


def write_h5ad(path: Path, source: Path, features: np.ndarray, about: Mapping[str, Any]) -> None:
    """`features_added` of features float32 [N, F] that are there already."""
    with features_added(path, source, (features.shape[0], features.shape[1]), about) as place:
        place[:] = features


def _mapping(parent: Any, name: str) -> Any:
    group = parent.require_group(name)
    group.attrs["encoding-type"], group.attrs["encoding-version"] = "dict", "0.1.0"
    return group


def _replace(group: Any, name: str, value: Any, kind: str) -> None:
    if name in group:
        del group[name]
    group[name] = value
    group[name].attrs["encoding-type"], group[name].attrs["encoding-version"] = kind, "0.2.0"
