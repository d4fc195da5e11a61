"""Samples in parts, one in memory at a time: what encoding folders, array files and shards of any size needs.

Images packed in shards (`swell.data.packed`) are read and decoded a part at a time.
Folders come from the decoded cache where it holds them, else straight from their files, a window at a time, and nothing
is written. A .npy file is mapped anew for every part, so that pages which were read are given back. Generated samples
come shard by shard, cells row by row where their file has rows. Anything else is opened as a whole
(`swell.data.open`) and cut.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from swell.console import warn
from swell.data.arrays import as_bytes, channels_first, mapped, resized, unit_range, vectors
from swell.data.cache import DecodedCache, cache_folder
from swell.data.cells_in_parts import open_rows, parts_of
from swell.data.folder_listing import ImageFile, Listing, check_bad, listing, told
from swell.data.gen import gen_shards, is_gen
from swell.data.images import decode_files, read_header
from swell.data.shards import find_shards
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.threads import free_cores

if TYPE_CHECKING:
    from swell.data.preparation import Preparation
    from swell.data.sparse import SparseRows

__all__ = ["WHOLE", "Part", "Share", "Stream", "ahead", "of_source", "stream_of"]

ROWS = 512  # every part but the last is a multiple of it: as many samples as the encoder takes at once
BYTES = 48 << 20  # of a part, about
CELLS = 2048  # of a part: tens of thousands of genes each, a tenth of them not 0

T = TypeVar("T")


class Part(NamedTuple):
    """Some samples in their order: uint8 [n, C, H, W] or float32 [n, D]."""

    samples: np.ndarray | SparseRows
    ids: np.ndarray  # int64 [n]: places in the data, with gaps where files were left out
    paths: Sequence[str] = ()  # of the files of a folder, relative to it


@dataclass(frozen=True)
class Share:
    """Every `count`-th part from part `rank` on: what one of several processes reads.

    The parts of all, taken in turn, are those of the whole; one whose files are all left out is there, and empty.
    """

    rank: int = 0
    count: int = 1


WHOLE = Share()


@dataclass(frozen=True)
class Stream:
    """`most` samples, fewer where files cannot be read; `parts` gives them, or a share of them, once, in order.

    Attributes:
        of_files: they have paths.
        most_bad: files that may be left out of all, which a share alone cannot tell.
        known: how many can be read, where that is known before; processes that know different things have other parts.
    """

    origin: str
    most: int
    parts: Iterator[Part]
    of_files: bool = False
    most_bad: int | None = None
    known: int | None = None


def stream_of(
    data: object,
    shape: tuple[int, ...],
    preparation: Preparation | None = None,
    max_bad: float = 0.01,
    share: Share = WHOLE,
) -> Stream | None:
    """`data`, or a share, in parts for an encoder of samples of `shape`; None of what has to be opened as a whole.

    Images that are not in the share are neither read nor decoded. Vectors are, as only all of them tell whether they
    are of the encoder's kind.

    Raises:
        InputError: samples that the encoder does not take, here or while the parts are made.
    """
    if not isinstance(data, (str, os.PathLike)) or os.fspath(data).startswith("builtin:"):
        return None
    path = Path(os.path.expanduser(os.fspath(data)))
    images, square = len(shape) == 3, len(shape) == 3 and shape[1] == shape[2]
    if path.is_dir() and is_gen(path):
        return _of_shards(path, shape, share)
    if square and (packed := find_shards(path)):
        from swell.data.packed_stream import stream_packed

        return stream_packed(packed, shape, max_bad, cache_folder(), share)
    if path.is_dir() and square:
        return _of_folder(path, shape, max_bad, share)
    if path.suffix.lower() == ".h5ad" and path.is_file() and not images and preparation is not None:
        return _of_cells(path, preparation, share)
    if path.suffix.lower() == ".npy" and path.is_file():
        a = mapped(path)
        if images and a.ndim in (3, 4) and len(a) > 0 and 0 not in a.shape[1:]:
            return _of_images(path, shape, share)
        if not images and a.ndim == 2 and len(a) > 0:
            return _of_vectors(path, preparation, share)
    return None


def of_source(source: Source, share: Share = WHOLE) -> Stream:
    """An opened source in parts; sparse rows stay sparse until they are asked for."""
    rows = rows_at_once(source.shape, 1 if source.is_images else 4)

    def parts() -> Iterator[Part]:
        for start in starts(len(source), rows, share):
            stop = min(start + rows, len(source))
            yield Part(source.samples[start:stop], np.arange(start, stop))

    return Stream(source.provenance.origin, len(source), parts())


def ahead(parts: Iterator[T]) -> Iterator[T]:
    """The same parts; a thread makes the next one while the caller works with the last."""
    with ThreadPoolExecutor(1, "swell-ahead", initializer=free_cores) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def starts(count: int, rows: int, share: Share = WHOLE) -> range:
    """Where the parts of `count` samples begin that are the share's own."""
    return range(share.rank * rows, count, share.count * rows)


def rows_at_once(shape: tuple[int, ...], itemsize: int) -> int:
    return ROWS * max(1, BYTES // (ROWS * itemsize * int(np.prod(shape))))


def _fitting(samples: np.ndarray, shape: tuple[int, ...], origin: str) -> np.ndarray:
    """Images as the encoder takes them: grey ones three times where it was trained on colour."""
    if samples.shape[1:] == (1, *shape[1:]) and shape[0] == 3:
        return np.repeat(samples, 3, axis=1)
    if samples.shape[1:] != shape:
        raise _other(origin, samples.shape[1:], shape)
    return np.ascontiguousarray(samples)


def _other(origin: str, given: Sequence[int], shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"{origin}: samples of shape {list(given)}", f"the run's shape {list(shape)}", "give data of the same kind"
    )


def _of_shards(path: Path, shape: tuple[int, ...], share: Share) -> Stream:
    """Generated samples, every checksum verified before its shard is used."""
    found, shards = gen_shards(path)
    size = (shape[1],) * 2 if len(shape) == 3 and shape[1] == shape[2] else shape[1:]
    if len(found.shape) != len(shape) or (len(shape) == 1 and found.shape != shape):
        raise _other(str(path), found.shape, shape)

    def rows() -> Iterator[np.ndarray]:
        for _, shard in shards:
            if len(shape) == 1:
                yield shard
            else:
                side = size[0] if size[0] == size[1] else None
                yield _fitting(resized(Source(shard, found.provenance), side).samples, shape, str(path))

    parts = _regrouped(rows(), rows_at_once(shape, 1 if len(shape) == 3 else 4))
    return Stream(str(path), found.total, _own(parts, share))


def _own(parts: Iterator[Part], share: Share) -> Iterator[Part]:
    """The share's own; all are made, to the end."""
    return islice(parts, share.rank, None, share.count)


def _regrouped(blocks: Iterator[np.ndarray], rows: int) -> Iterator[Part]:
    """Blocks of any length as parts of `rows` samples."""
    kept: list[np.ndarray] = []
    held = start = 0
    for block in blocks:
        kept.append(block)
        held += len(block)
        while held >= rows:
            whole = np.concatenate(kept) if len(kept) > 1 else kept[0]
            yield Part(whole[:rows], np.arange(start, start + rows))
            kept, held, start = [whole[rows:]], held - rows, start + rows
    if held:
        yield Part(np.concatenate(kept), np.arange(start, start + held))


def _of_rows(
    path: Path, count: int, rows: int, made: Callable[[np.ndarray], np.ndarray | SparseRows], share: Share = WHOLE
) -> Stream:
    """Rows of a .npy file, copied out of a map that lasts as long as a part."""

    def parts() -> Iterator[Part]:
        for start in starts(count, rows, share):
            stop = min(start + rows, count)
            block = np.array(mapped(path)[start:stop])
            if len(block) != stop - start:
                raise InputError(f"{path} (changed while it was read)", "a file that stays as it is", "start again")
            yield Part(made(block), np.arange(start, stop))

    return Stream(str(path), count, parts())


def _of_images(path: Path, shape: tuple[int, ...], share: Share) -> Stream:
    a = channels_first(mapped(path), str(path))
    unit = a.dtype != np.uint8 and unit_range(a, str(path))  # one range for the whole file, whatever a part of it holds
    side = shape[1] if shape[1] == shape[2] else None

    def made(block: np.ndarray) -> np.ndarray:
        block = channels_first(block, str(path))
        plain = np.ascontiguousarray(block) if block.dtype == np.uint8 else as_bytes(block, unit)
        return _fitting(resized(Source(plain, Provenance("real", str(path))), side).samples, shape, str(path))

    per_row = a.dtype.itemsize * int(np.prod(a.shape[1:]))
    return _of_rows(path, len(a), rows_at_once((max(per_row, int(np.prod(shape))),), 1), made, share)


def _of_vectors(path: Path, preparation: Preparation | None, share: Share) -> Stream:
    """Raw vectors, prepared part by part. Only the whole tells counts from logged values, which is seen at the end."""
    a = mapped(path)
    kinds: set[str] = set()

    def made(block: np.ndarray) -> np.ndarray | SparseRows:
        with _named(path):
            plain = vectors(block, str(path))
            return plain if preparation is None else preparation.apply(plain, kinds=kinds)

    def parts() -> Iterator[Part]:
        yield from whole.parts
        with _named(path):
            if preparation is not None:
                preparation.require_alike(kinds)

    width = a.shape[1] if preparation is None else max(a.shape[1], preparation.feature_count)
    whole = _of_rows(path, len(a), rows_at_once((width,), 8), made)
    return Stream(whole.origin, whole.most, _own(parts(), share))


def _of_cells(path: Path, preparation: Preparation, share: Share) -> Stream | None:
    """Cells row by row, where they are stored so; the values of a part are all that is in memory."""
    rows = open_rows(path, preparation.layer, preparation.batch)
    if rows is None or rows.total == 0:
        return None
    kinds: set[str] = set()

    def parts() -> Iterator[Part]:
        for part, values in parts_of(path, preparation.layer, rows, max(ROWS, ROWS * (CELLS // ROWS))):
            batches = None if rows.batches is None else rows.batches[part]
            with _named(path):
                samples = preparation.apply(values, rows.names, batches=batches, kinds=kinds)
            yield Part(samples, np.arange(part.start, part.stop))
        with _named(path):
            preparation.require_alike(kinds)

    return Stream(str(path), rows.total, _own(parts(), share))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it was that did not fit."""
    try:
        yield
    except InputError as error:
        given = error.given if str(path) in error.given else f"{path}: {error.given}"
        raise InputError(given, error.expected, error.todo) from None


def _of_folder(root: Path, shape: tuple[int, ...], max_bad: float, share: Share) -> Stream:
    listed_at = time.time_ns()
    files = listing(root)
    rows = rows_at_once(shape, 1)
    for size in (shape[1], None):  # a folder that was opened without a size is kept under its automatic one
        decoded = DecodedCache(cache_folder(), root, files, size, listed_at).find()
        if decoded is None or decoded.blob is None or decoded.samples.shape[1:] not in (shape, (1, *shape[1:])):
            continue
        if decoded.samples.shape[1] > shape[0]:
            continue
        check_bad(root, files, decoded.bad, max_bad)
        _tell(files, decoded.bad)
        left_out = {i for i, _ in decoded.bad}
        parts = _of_blob(decoded.blob, shape, files, left_out, rows, share)
        return Stream(str(root), len(files), parts, of_files=True, known=len(files) - len(left_out))
    parts = _decoded(root, files, shape, max_bad, rows, share)
    return Stream(str(root), len(files), parts, of_files=True, most_bad=int(max_bad * len(files)))


def _of_blob(
    blob: Path, shape: tuple[int, ...], files: Listing, left_out: set[int], rows: int, share: Share
) -> Iterator[Part]:
    places = np.array([i for i in range(len(files)) if i not in left_out], np.int64)
    for start in starts(len(places), rows, share):
        ids = places[start : start + rows]
        block = np.array(mapped(blob)[start : start + len(ids)])
        yield Part(_fitting(block, shape, str(blob)), ids, [files.paths[i] for i in ids])


def _decoded(
    root: Path, files: Listing, shape: tuple[int, ...], max_bad: float, rows: int, share: Share
) -> Iterator[Part]:
    """Windows of files decoded on all cores; a window of readable ones is filled up to `rows` from the next, but not in
    a share.
    """
    channels, side = shape[0], shape[1]
    bad: list[tuple[int, str]] = []
    samples: list[np.ndarray] = []
    ids: list[int] = []
    looked = [h for h in (read_header(root, file) for file in files[:32]) if not isinstance(h, str)]
    pixels = int(np.median([h.width * h.height for h in looked])) if looked else 0
    for start in starts(len(files), rows, share):
        window = files[start : start + rows]
        if channels == 1:
            _refuse_colour(root, window, shape)
        with closing(decode_files(root, window, side, channels, pixels, None)) as chunks:
            found = list(chunks)
        wrong = [(start + i, reason) for chunk in found for i, reason in chunk.bad]
        bad += wrong
        check_bad(root, files, bad, max_bad)
        left_out = {i for i, _ in wrong}
        ids += [i for i in range(start, start + len(window)) if i not in left_out]
        samples += [row for chunk in found for row in chunk.rows]
        last = start + rows >= len(files) or share.count > 1
        if share.count > 1 and not ids:
            yield Part(np.empty((0, *shape), np.uint8), np.empty(0, np.int64))
        while len(ids) >= rows or (last and ids):
            some = ids[:rows]
            yield Part(np.stack(samples[:rows]), np.array(some, np.int64), [files[i].path for i in some])
            ids, samples = ids[rows:], samples[rows:]
    if share == WHOLE:
        _tell(files, bad)


def _refuse_colour(root: Path, files: Sequence[ImageFile], shape: tuple[int, ...]) -> None:
    for file in files:
        header = read_header(root, file)
        if not isinstance(header, str) and not header.grey:
            raise _other(f"{root}: {file.path} in colour", (3, *shape[1:]), shape)


def _tell(files: Sequence[ImageFile], bad: Sequence[tuple[int, str]]) -> None:
    if bad:
        first, reason = bad[0]
        warn(f"{len(bad):,} of {len(files):,} files left out, the first {told(files[first], reason)}")
