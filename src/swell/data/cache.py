"""Decoded folders, kept so that the second start is immediate.

One entry is ``<names>-<listing>.npy``, the decoded images, which are memory-mapped, and ``.json`` beside it,
the index. An entry is used when

1. the folder's listing (path, size, mtime and ctime of every file) is one the entry is known to stand for; or
2. only paths and sizes agree (the folder was copied, moved or touched), all files are read and hashed, and
   every content is the same. The new listing is then added to the entry.

A listing with a change so recent that the file system's clock could not tell it from the next one is never
remembered, so a file rewritten in the same instant with the same size is noticed too. A blob whose size or
mtime is not what the index says is checked against its fingerprint; a damaged one is decoded again. The
newest entry of a folder replaces its older ones. The whole cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swell.console import warn
from swell.data.folder_listing import Listing
from swell.data.images import DECODING, Chunk
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.files import atomic_path, read_json, write_json

__all__ = ["Decoded", "DecodedCache", "cache_folder"]

_VERSION = 1
_LISTINGS = 16  # as many copies of a folder share one entry
_HEADER = 128  # bytes before the data of a .npy file


def cache_folder(cache: Path | str | None = None) -> Path:
    """`cache` if given, else $SWELL_CACHE, else $XDG_CACHE_HOME/swell, else ~/.cache/swell."""
    chosen = cache or os.environ.get("SWELL_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swell"


class Decoded(NamedTuple):
    """A folder's readable images and what is known about them."""

    samples: np.ndarray  # uint8 [N, C, S, S]
    bad: list[tuple[int, str]]  # (index in the listing, reason) of the others
    fingerprint: str  # "" when it has not been computed
    blob: Path | None = None  # the file the samples are mapped from


@dataclass(frozen=True)
class _Index:
    version: int
    n_bytes: int  # of the blob, as is mtime_ns
    mtime_ns: int
    fingerprint: str
    content: str  # hash of (path, content hash) of every file
    listings: list[str]
    folder: str  # hash of the absolute path of the folder that was opened last
    bad: list[tuple[int, str]]


class DecodedCache:
    """The cache as one folder, with one listing and one wanted size, sees it.

    Args:
        where: the cache's folder; need not exist.
        root, files: the folder of images and its listing.
        size: as asked for; None stands for the automatic size, which the listing's contents determine.
        listed_at: time.time_ns() when listing began.
    """

    def __init__(
        self,
        where: Path,
        root: Path,
        files: Listing,
        size: int | None,
        listed_at: int,
        quiet: bool = False,
    ) -> None:
        self.where, self.files, self.quiet = where, files, quiet
        start = f"{_VERSION} {DECODING} {size}"
        numbers = files.numbers.astype("<i8")
        self.names = _hash(start, *files.paths, numbers[:, 0].tobytes().hex())
        self.listing = _hash(self.names, numbers.tobytes().hex())
        self.folder = _hash(start, os.path.realpath(root))
        self.settled = settled(numbers[:, 2], listed_at)

    def find(self) -> Decoded | None:
        """The entry for this very listing."""
        for path, index in self._candidates():
            if self.listing in index.listings and (decoded := self._load(path, index)):
                return decoded
        return None

    def worth_hashing(self) -> bool:
        """Whether some entry has these paths and sizes, so that comparing contents may save decoding."""
        return next(self._candidates(), None) is not None

    def find_content(self, digests: Iterable[bytes]) -> Decoded | None:
        """The entry for these contents; from now on it stands for this listing too."""
        content = self._content(digests)
        for path, index in self._candidates():
            if index.content == content and (decoded := self._load(path, index)):
                if self.settled:
                    listings = [self.listing, *index.listings][:_LISTINGS]
                    self._try_write(path, replace(index, folder=self.folder, listings=listings))
                return decoded
        return None

    def collect(self, chunks: Iterator[Chunk], shape: tuple[int, int, int]) -> Decoded:
        """Gather what the decoder makes, each image of `shape` (C, S, S), and keep it for the next time.

        Where the cache cannot be written it is gathered in memory, with a warning.
        """
        digests: list[bytes] = []
        bad: list[tuple[int, str]] = []
        lasting = True

        def blocks() -> Iterator[np.ndarray]:
            nonlocal lasting
            for chunk in chunks:
                digests.extend(chunk.digests)
                bad.extend(chunk.bad)
                lasting &= chunk.lasting
                if len(chunk.rows):
                    yield np.asarray(chunk.rows)

        most = len(self.files)
        if not self._writable(_HEADER + most * int(np.prod(shape))):
            return Decoded(_in_memory(blocks(), most, shape), bad, "")
        path = self.where / f"{self.names}-{self.listing}.json"
        blob = path.with_suffix(".npy")
        with atomic_path(blob) as temporary:
            _write_npy(temporary, blocks(), shape)
        if len(bad) == most:
            blob.unlink()
            return Decoded(np.empty((0, *shape), np.uint8), bad, "")
        samples, stat = _mapped(blob), blob.stat()
        fingerprint = Source(samples, Provenance("real", "")).fingerprint
        self._forget_older()
        listings = [self.listing] if self.settled else []
        index = _Index(
            version=_VERSION,
            n_bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            fingerprint=fingerprint,
            content=self._content(digests),
            listings=listings,
            folder=self.folder,
            bad=bad,
        )
        if lasting:  # else the blob stays without an index and is written anew next time
            self._try_write(path, index)
        return Decoded(samples, bad, fingerprint, blob)

    def _content(self, digests: Iterable[bytes]) -> str:
        return _hash(self.names, *(digest.hex() for digest in digests))  # `names` stands for the paths

    def _candidates(self) -> Iterator[tuple[Path, _Index]]:
        for path in sorted(self.where.glob(f"{self.names}-*.json")):
            if index := _read_index(path):
                yield path, index

    def _load(self, path: Path, index: _Index) -> Decoded | None:
        """The entry's images, or None (and the entry is gone) when they are not what was stored."""
        blob = path.with_suffix(".npy")
        try:
            stat = blob.stat()
            samples = _mapped(blob)
            whole = stat.st_size == index.n_bytes and samples.dtype == np.uint8 and samples.ndim == 4
            whole &= len(samples) + len(index.bad) == len(self.files)
            if whole and stat.st_mtime_ns != index.mtime_ns:
                whole = Source(samples, Provenance("real", "")).fingerprint == index.fingerprint
                if whole:
                    self._try_write(path, replace(index, mtime_ns=stat.st_mtime_ns))
        except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError):  # what a damaged header causes
            whole = False
        if whole:
            return Decoded(samples, index.bad, index.fingerprint, blob)
        if not self.quiet:
            warn(f"the decoded images in {blob} are damaged; decoding again")
        _remove(path)
        return None

    def _forget_older(self) -> None:
        for path in self.where.glob("*-*.json"):
            index = _read_index(path)
            mine = path.stem == f"{self.names}-{self.listing}"
            if index is not None and index.folder == self.folder and not mine:
                _remove(path)

    def _writable(self, need: int) -> bool:
        try:
            self.where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.where):
                free = shutil.disk_usage(self.where).free
            if free >= need + (64 << 20):
                return True
            reason = f"{need / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
        if not self.quiet:
            warn(f"decoded images are not kept: {self.where} ({reason}); set SWELL_CACHE to another folder")
        return False

    def _try_write(self, path: Path, index: _Index) -> None:
        try:
            write_json(path, asdict(index))
        except InputError as error:  # read-only or full: decoded again next time, nothing else is lost
            if not self.quiet:
                warn(str(error))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def settled(ctimes: np.ndarray, listed_at: int) -> bool:
    """Whether any later change must show: the newest one is older than one tick of the file system's clock.

    Linux stamps files every few milliseconds; where all stamps are whole seconds, a tick may be two of them.
    """
    tick = 50_000_000 if (ctimes % 1_000_000_000).any() else 2_000_000_000
    return bool(ctimes.max() + tick < listed_at)


def _read_index(path: Path) -> _Index | None:
    try:
        index = _Index(**read_json(path))
        bad = [(int(i), str(reason)) for i, reason in index.bad]
    except (InputError, TypeError, ValueError):
        return None
    return replace(index, bad=bad) if index.version == _VERSION else None


def _remove(path: Path) -> None:
    for part in (path, path.with_suffix(".npy")):
        try:
            part.unlink(missing_ok=True)
        except OSError:  # read-only, or mapped elsewhere on Windows: it is replaced or ignored later
            continue


def _mapped(blob: Path) -> np.ndarray:
    return np.load(blob, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def _in_memory(blocks: Iterator[np.ndarray], most: int, shape: tuple[int, int, int]) -> np.ndarray:
    samples = np.empty((most, *shape), np.uint8)
    n = 0
    for block in blocks:
        samples[n : n + len(block)] = block
        n += len(block)
    return samples[:n]


def _write_npy(path: Path, blocks: Iterator[np.ndarray], shape: tuple[int, int, int]) -> None:
    """A .npy file of uint8 [N, C, S, S], some rows at a time; N is known, and the header written, at the end."""
    n = 0
    with path.open("wb") as file:
        file.seek(_HEADER)
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)
            n += len(block)
        file.seek(0)
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(n, *shape)}, }}"
        text = text.ljust(_HEADER - 11) + "\n"
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10) + text.encode("ascii"))
