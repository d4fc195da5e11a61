"""Features written as they come: .npz, .parquet and .h5ad files of any length, in the memory of one part.

Several processes read and encode every n-th part each; the first writes what all have, part by part, in order.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from swell.console import Progress
from swell.data.cells import features_added
from swell.data.stream import Part, Share, Stream
from swell.data.tables import pyarrow_or_told
from swell.errors import InputError
from swell.files import atomic_path
from swell.model import Clock, Model
from swell.ranks import ALONE, Ranks

__all__ = ["Embedded", "write_embeddings"]

ENDINGS = (".npz", ".parquet", ".h5ad")
_COPIED = 16 << 20  # bytes at a time
_NAMES = 1 << 16  # paths turned to an array at a time

Sink = Callable[[Part, np.ndarray], None]


@dataclass(frozen=True)
class Embedded:
    """What was written, and how fast.

    Attributes:
        shape: features [N, D].
        left_out: files that could not be read.
        seconds: of reading, encoding and writing.
        forward_seconds: of these, the encoder's own.
    """

    shape: tuple[int, int]
    left_out: int
    seconds: float
    forward_seconds: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.shape[0] / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        share = self.forward_seconds / max(self.seconds, 1e-9)
        return {
            "shape": list(self.shape),
            "left_out": self.left_out,
            "seconds": self.seconds,
            "samples_per_second": self.rate,
            "forward_share": share,
        }


def write_embeddings(
    model: Model,
    data: Any,
    out: Path | str,
    *,
    patches: int | None = None,
    patch_mode: str | None = None,
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> Embedded:
    """Write the features of `data`, float32 [N, D], to `out`, and say how by its ending.

    .npz: `features` [N, D], `id` int64 [N], the place of each sample in the data, and of a folder `path` [N]. .parquet:
    columns id, path (empty but for files of a folder) and vector. .h5ad: a copy of the .h5ad file `data` with
    obsm["X_swell"] and, what made them, uns["swell"]; all else stays as it is.
    The file appears whole or not at all, and samples are never in memory together (`swell.data.stream`). Of several
    `ranks`, which all call this, each encodes its share and the first writes the file.

    Raises:
        InputError: data that do not fit the encoder; another ending; an .h5ad of what is none; missing extras; random
            patches on several ranks, or data that are others on some of them.
        Parted: another rank has ended.
    """
    out = Path(out)
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"--out {out}", "a file name ending in .npz, .h5ad or .parquet")
    if ending == ".h5ad" and not (isinstance(data, (str, os.PathLike)) and Path(data).suffix.lower() == ".h5ad"):
        todo = "give another ending; of an AnnData: swell.sc.embed(adata, run), then adata.write_h5ad"
        raise InputError(f"--out {out} of what is no .h5ad file", "an .h5ad file to add features to", todo)
    if ranks.count > 1 and patch_mode == "random":
        given = f"--patch-mode random on {ranks.count} processes"
        raise InputError(given, "the same patches whoever draws them", "give --patch-mode grid, or start one process")
    began, clock = time.perf_counter(), Clock()
    width = model.encoder.features
    opening: AbstractContextManager[Sink]
    if ending == ".parquet":
        pyarrow_or_told()  # before the samples are read
    stream = model.stream(data, Share(ranks.rank, ranks.count))
    _check_alike(stream, ranks)
    if not ranks.first:
        opening = nullcontext(lambda part, features: None)
    elif ending == ".h5ad":
        opening = _h5ad(out, Path(data).expanduser(), stream.most, width, model.about)
    elif ending == ".parquet":
        opening = _parquet(out, width)
    else:
        opening = _npz(out, width, stream.of_files)
    done = 0
    with opening as sink, Progress("encoding", stream.most, "samples", quiet=quiet) as bar:
        for part, features in _of_all(model.encoded(stream, patches, patch_mode, clock=clock), ranks):
            sink(part, features)
            done += len(features)
            bar.update(done)
        if ranks.count > 1:
            done = int(ranks.of_first(done))
            _check_left_out(stream, done)
    seconds = time.perf_counter() - began
    return Embedded((done, width), stream.most - done, seconds, clock.forward)


def _of_all(encoded: Iterator[tuple[Part, np.ndarray]], ranks: Ranks) -> Iterator[tuple[Part, np.ndarray]]:
    """What all ranks have encoded, in order, on the first of them; the others give theirs away."""
    if ranks.count == 1:
        yield from encoded
        return
    while True:
        own = next(encoded, None)
        if not ranks.any(own is not None)[0]:
            return
        for data in ranks.bytes_to_first(b"" if own is None else _packed(*own)):
            if data:
                yield _unpacked(data)


def _packed(part: Part, features: np.ndarray) -> bytes:
    file, paths = BytesIO(), "\0".join(part.paths).encode("utf-8", "surrogateescape")
    np.savez(file, features=features, ids=part.ids, paths=np.frombuffer(paths, np.uint8))
    return file.getvalue()


def _unpacked(data: bytes) -> tuple[Part, np.ndarray]:
    with np.load(BytesIO(data), allow_pickle=False) as held:
        features, ids, paths = (held[name] for name in ("features", "ids", "paths"))
    names = paths.tobytes().decode("utf-8", "surrogateescape")
    return Part(np.empty(0), ids, names.split("\0") if names else ()), features


def _check_alike(stream: Stream, ranks: Ranks) -> None:
    """Raises InputError where a rank has other data, or knows more of them, than the first: their parts do not fit."""
    told = torch.tensor([stream.most, -1 if stream.known is None else stream.known])
    first, *others = ranks.stacked(told)
    if any(not torch.equal(first, other) for other in others):
        given = f"{stream.origin}: other samples, or more of them known, on some of {ranks.count} processes"
        raise InputError(given, "the same on all", "give all machines the same files, and one $SWELL_CACHE or none")


def _check_left_out(stream: Stream, done: int) -> None:
    """Raises InputError where more files were left out by all ranks than may be, or all."""
    left_out = stream.most - done
    if stream.most_bad is not None and (left_out > stream.most_bad or not done):
        given = f"{stream.origin}: {left_out:,} of {stream.most:,} images are unreadable"
        raise InputError(given, f"at most {stream.most_bad:,} of them", "mend or remove them")


@contextmanager
def _npz(out: Path, width: int, of_files: bool) -> Iterator[Sink]:
    """The number of rows stands at the head of an array, but is known at its end: rows wait in an unnamed file."""
    ids: list[np.ndarray] = []
    paths: list[str] = []
    with atomic_path(out) as temporary, tempfile.TemporaryFile(dir=out.parent) as rows:

        def sink(part: Part, features: np.ndarray) -> None:
            rows.write(np.ascontiguousarray(features, "<f4").data)
            ids.append(part.ids)
            paths.extend(part.paths)

        yield sink
        count = sum(map(len, ids))
        rows.seek(0)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            with _member(archive, "features", np.dtype("<f4"), (count, width)) as file:
                shutil.copyfileobj(rows, file, _COPIED)
            with _member(archive, "id", np.dtype("<i8"), (count,)) as file:
                for block in ids:
                    file.write(block.astype("<i8").tobytes())
            if of_files:
                plain = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
                words = np.dtype(f"<U{max(map(len, plain), default=1)}")
                with _member(archive, "path", words, (count,)) as file:
                    for start in range(0, count, _NAMES):
                        file.write(np.array(plain[start : start + _NAMES], words).tobytes())


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """An array of an .npz, its header written; without a time of day, so that equal features make equal bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    with archive.open(info, "w", force_zip64=True) as file:
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        yield file


@contextmanager
def _parquet(out: Path, width: int) -> Iterator[Sink]:
    arrow = pyarrow_or_told()
    vector = arrow.list_(arrow.float32(), width)
    schema = arrow.schema([("id", arrow.int64()), ("path", arrow.string()), ("vector", vector)])
    with atomic_path(out) as temporary, arrow.parquet.ParquetWriter(temporary, schema) as writer:

        def sink(part: Part, features: np.ndarray) -> None:
            paths = part.paths or [""] * len(part.ids)
            names = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
            flat = arrow.array(np.ascontiguousarray(features).ravel())
            columns = [arrow.array(part.ids), names, arrow.FixedSizeListArray.from_arrays(flat, width)]
            writer.write_table(arrow.table(columns, schema=schema))

        yield sink


@contextmanager
def _h5ad(out: Path, source: Path, count: int, width: int, about: dict[str, str | int]) -> Iterator[Sink]:
    with features_added(out, source, (count, width), about) as place:

        def sink(part: Part, features: np.ndarray) -> None:
            place[int(part.ids[0]) : int(part.ids[0]) + len(features)] = features

        yield sink
