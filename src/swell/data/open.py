"""Open anything Swell understands as a `Source`."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from swell.console import Progress, warn
from swell.data.arrays import as_numpy, from_array, open_npy, open_npz, resized
from swell.data.builtin import open_builtin
from swell.data.cache import DecodedCache, cache_folder
from swell.data.decoded_folder import counted, decode_folder
from swell.data.folder_listing import check_bad, listing, told
from swell.data.gen import is_gen, open_gen
from swell.data.images import digests
from swell.data.shards import find_shards
from swell.data.source import Provenance, Source
from swell.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from swell.data.preparation import Preparation
    from swell.data.raw import Raw

    Array: TypeAlias = np.ndarray | Tensor
    Data: TypeAlias = str | os.PathLike[str] | Array | tuple[Array, Array] | Source | Any

__all__ = ["open_data"]

T = TypeVar("T")
_OPENS = (
    "a folder of images, tar shards (x-{000..099}.tar), .npz, .npy, .h5ad, .csv, .parquet, builtin:NAME, a folder made "
    "by swell generate or by save_to_disk, an array, a tensor, an AnnData, a pandas frame or a sparse matrix"
)
_VECTORS = (".h5ad", ".csv", ".parquet")


def open_data(
    data: Data,
    *,
    labels: bool | str = False,
    size: int | None = None,
    max_bad: float = 0.01,
    cache: Path | str | None = None,
    workers: int | None = None,
    quiet: bool = False,
    layer: str | None = None,
    batch_key: str | None = None,
    prepare: str | None = None,
    preparation: Preparation | None = None,
) -> Source:
    """Open `data` as a source of images uint8 [N, C, H, W] or vectors float32 [N, D].

    Vectors come prepared, and the source says how (`swell.data.preparation`). Made by a generator, they are so already.

    Args:
        data: a folder of images at any depth (JPEG, PNG, WebP, BMP, TIFF); a .npz or .npy file;
            an .h5ad, .csv or .parquet file; ``builtin:NAME[:SPLIT]``; a folder made by ``swell generate``; images in
            tar shards, Arrow or Parquet files, a folder or a pattern of them (`swell.data.shards`), which stay there
            and are decoded when they are needed; a NumPy array or torch tensor, or a pair of them, samples and labels;
            an AnnData, a pandas frame, one of SciPy's sparse matrices; or a `Source`, which is returned as it is but
            for labels nobody asked for.
        labels: read labels too. True: the first-level sub-folder of an image file; the array labels, label or
            y of a .npz, or such a column; the second of a pair. A string names another array or column.
        size: side of the square images made on the way in (centre square, antialiased). None keeps the shape
            of arrays; for folders see `swell.data.images.automatic_size` (96 at most).
        max_bad: up to this share of a folder, unreadable files are skipped and listed in `Source.skipped`.
        cache: folder for decoded images; None is $SWELL_CACHE, else ~/.cache/swell.
        workers: decoding threads, and of images in shards the processes that decode for a training; None is all
            cores, or one where pictures are tiny.
        quiet: no progress and no warnings.
        layer: of an .h5ad or AnnData: which layer holds the values, or raw; None is X.
        batch_key: of the same: the column of obs that tells the batch, within which genes are centred and scaled.
        prepare: counts, logged, table or none; auto or None: cells as counts, logged or none, anything else as a table.
        preparation: do this, learnt before, instead of learning one from `data`.

    Raises:
        InputError: anything that cannot be opened, or labels that are not there.
    """
    if size is not None and not 1 <= size <= 4096:
        raise InputError(f"size {size}", "a side of 1 to 4096 pixels")
    if workers is not None and not 0 <= workers <= 1024:
        raise InputError(f"workers {workers}", "a whole number from 0 to 1,024", "leave it out for one a core")
    if not 0 <= max_bad <= 1:
        raise InputError(f"max_bad {max_bad}", "a share from 0 to 1")
    labels, layer, batch_key, prepare = labels or False, layer or "", batch_key or "", prepare or "auto"
    raw = _open_raw(data, labels, layer or _stored(preparation, "layer"), batch_key or _stored(preparation, "batch"))
    if raw is None:
        if layer or batch_key:
            given = f"layer {layer!r} and batch key {batch_key!r}"
            raise InputError(given, "an .h5ad file or an AnnData for them", "leave them out")
        source = _open(data, labels, size, max_bad, cache, workers, quiet)
        if prepare not in ("auto", "none") and source.is_images:
            raise InputError(f"preparation {prepare} of images", "vectors for it", "leave it out")
        if not isinstance(data, Source) and not source.is_images and source.provenance.kind == "real":
            source = _prepared(source, prepare, preparation)
    else:
        from swell.data.raw import to_source

        if size is not None:
            raise InputError(f"{raw.origin}: size {size} for vectors", "images", "leave the size out")
        source = to_source(raw, prepare, preparation, quiet)
    if len(source) < 2:
        raise InputError(f"{source.provenance.origin}: {len(source)} samples", "at least 2")
    if labels is False:
        return source if source.labels is None else source.unlabelled()
    if source.labels is None:
        raise InputError(
            f"{source.provenance.origin} without labels",
            "labelled data",
            "give a folder with a sub-folder per class, a .npz with labels, or a pair (samples, labels)",
        )
    return source


def _stored(preparation: Preparation | None, what: str) -> str:
    return "" if preparation is None else str(preparation.settings.get(what, ""))


def _open_raw(data: Data, labels: bool | str, layer: str, batch: str) -> Raw | None:
    """Cells, tables and sparse matrices before their preparation; None of anything else."""
    if isinstance(data, tuple) and len(data) == 2:
        raw, y = _open_raw(data[0], False, layer, batch), as_numpy(data[1])
        return None if raw is None or y is None else replace(raw, labels=y if labels else None)
    if isinstance(data, (str, os.PathLike)):
        path = Path(os.path.expanduser(os.fspath(data)))
        suffix = path.suffix.lower()
        if suffix not in _VECTORS or not path.is_file() or find_shards(path):
            return None
        if suffix == ".h5ad":
            from swell.data.cells import open_h5ad

            return open_h5ad(path, labels, layer, batch)
        from swell.data.tables import open_csv, open_parquet

        return _no_layer((open_csv if suffix == ".csv" else open_parquet)(path, labels), layer, batch)
    if not {"anndata", "pandas", "scipy"} & {*sys.modules}:  # nothing of theirs can have been given
        return None
    from scipy.sparse import issparse

    from swell.data.cells import canonical, is_anndata, open_anndata
    from swell.data.counts import kind_of_cells
    from swell.data.raw import Raw
    from swell.data.tables import is_frame, open_frame

    if is_anndata(data):
        return open_anndata(data, labels, layer, batch)
    if is_frame(data):
        return _no_layer(open_frame(data, labels), layer, batch)
    if issparse(data):
        matrix = canonical(data, "array")
        return _no_layer(Raw(matrix, "array", kind=kind_of_cells(matrix)), layer, batch)
    return None


def _no_layer(raw: Raw, layer: str, batch: str) -> Raw:
    for name, value in (("layer", layer), ("batch key", batch)):
        if value:
            raise InputError(f"{raw.origin}: {name} {value!r}", "an .h5ad file or an AnnData for it", "leave it out")
    return raw


def _prepared(source: Source, prepare: str, preparation: Preparation | None) -> Source:
    """Vectors of an array as a net wants them: every feature standardised, unless something else was asked for."""
    from swell.data.raw import Raw, to_source

    raw = Raw(source.samples, source.provenance.origin, kind="table", scaling="standard")
    made = to_source(raw, prepare, preparation)
    return replace(made, labels=source.labels, classes=source.classes)


def _open(
    data: Data,
    labels: bool | str,
    size: int | None,
    max_bad: float,
    cache: Path | str | None,
    workers: int | None,
    quiet: bool,
) -> Source:
    if isinstance(data, Source):
        return resized(data, size)
    if isinstance(data, tuple) and len(data) == 2:
        samples, y = (as_numpy(part) for part in data)
        if samples is not None and y is not None:
            return from_array(samples, "array", None if labels is False else y, size)
    if not isinstance(data, (str, os.PathLike)):
        a = as_numpy(data)
        if a is None:
            raise InputError(
                f"a {type(data).__module__}.{type(data).__qualname__}", _OPENS, "convert it to a NumPy array"
            )
        return from_array(a, size=size)

    name = os.fspath(data)
    if name.startswith("builtin:"):
        _no_key(name, labels)
        return resized(open_builtin(name), size)
    path = Path(os.path.expanduser(name))
    suffix = path.suffix.lower()
    if is_gen(path):
        return resized(open_gen(path), size)
    packed = find_shards(path)
    if packed is not None:
        from swell.data.packed_open import open_packed

        return open_packed(packed, labels, size, max_bad, cache_folder(cache), workers, quiet)
    if name and os.path.isdir(path):
        _no_key(name, labels)
        return _open_folder(path, bool(labels), size, max_bad, cache_folder(cache), workers, quiet)
    if re.match(r"\w{2,}:", name):
        raise InputError(name, _OPENS, "this version opens no names; save the data to a folder")
    if not name or not os.path.exists(path):
        raise InputError(f"{name or 'an empty name'} (no such file or folder)", _OPENS, "check the path")
    if not path.is_file():
        raise InputError(f"{name} (a pipe or a device)", _OPENS, "save the data to a file")
    if suffix == ".npz":
        return open_npz(path, labels, size)
    if suffix == ".npy":
        return open_npy(path, size)
    raise InputError(name, _OPENS, "to open single images, put them into a folder")


def _no_key(name: str, labels: bool | str) -> None:
    if isinstance(labels, str):
        raise InputError(f"labels {labels!r} of {name}", "no key: there is one set of labels", "leave the key out")


def _open_folder(
    root: Path, labels: bool, size: int | None, max_bad: float, where: Path, workers: int | None, quiet: bool
) -> Source:
    listed_at = time.time_ns()
    files = listing(root)
    kept = DecodedCache(where, root, files, size, listed_at, quiet)
    decoded = kept.find()
    if decoded is None and kept.worth_hashing():
        with (
            Progress("comparing with the cache", len(files), "images", quiet=quiet) as bar,
            closing(digests(root, files, workers)) as parts,
        ):
            decoded = kept.find_content(counted(parts, bar))
    if decoded is None:
        decoded = decode_folder(root, files, size, max_bad, kept, workers, quiet)
    check_bad(root, files, decoded.bad, max_bad)
    bad = {i for i, _ in decoded.bad}
    skipped = tuple(told(files[i], reason) for i, reason in decoded.bad)
    if skipped and not quiet:
        warn(f"{len(skipped):,} of {len(files):,} files left out, the first {skipped[0]}")
    source = Source(decoded.samples, Provenance("real", str(root)), skipped=skipped)
    if labels:
        codes, classes = _folder_labels(root, [path for i, path in enumerate(files.paths) if i not in bad])
        source = replace(source, labels=codes, classes=classes)
    if decoded.fingerprint:
        object.__setattr__(source, "_fingerprint", decoded.fingerprint)
    return source


def _folder_labels(root: Path, paths: list[str]) -> tuple[np.ndarray, list[str]]:
    """First-level sub-folders as classes, sorted: codes int64 [N] and names."""
    names = [path.partition("/")[0] for path in paths if "/" in path]
    if len(names) < len(paths):
        outside = len(paths) - len(names)
        raise InputError(
            f"{root}: {outside:,} of {len(paths):,} images lie outside any class folder",
            "one sub-folder per class",
            "move them, or do not ask for labels",
        )
    classes, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), [str(name) for name in classes]
