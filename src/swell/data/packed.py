"""Images in shards as samples: decoded when they are asked for, never all in memory.

    source = swell.open("train-{000..099}.tar")
    source.samples[rows]                    # uint8 [n, C, S, S], decoded now, on several threads

What cannot be decoded is replaced by the next image that can, in the order of the index: the same one in every run.
Where labels are asked for, every image is decoded once at opening and what cannot be is left out instead, since another
image would not fit the label. More than the share `max_bad` of such images ends the work.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from swell.console import warn
from swell.data.decoding_worker import Files
from swell.data.folder_listing import ImageFile, check_bad, told
from swell.data.images import DAMAGED, DECODING, decode, in_order, reason_of
from swell.data.shards import Index
from swell.data.stacked import row_numbers
from swell.errors import InputError

if TYPE_CHECKING:
    import torch

    from swell.data.sparse import Index as Rows

__all__ = ["PackedImages", "block_starts"]

MANY, LARGE = 64, 64 << 30  # files, and bytes in them, from which a global order would be too much for most disks
BLOCK_BYTES = 16 << 20  # of neighbours that are read near each other in time, when blocks are shuffled
_TINY = 8192  # bytes of an encoded image, below which a second thread only gets in the way
_RESERVE = 0.5  # share of the free memory that one request may take


class Listing(Sequence[ImageFile]):
    """The images of an index as lines of a listing."""

    def __init__(self, listed: Index) -> None:
        self.listed = listed

    def __len__(self) -> int:
        return len(self.listed)

    @overload
    def __getitem__(self, i: int) -> ImageFile: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[ImageFile]: ...
    def __getitem__(self, i: int | slice) -> ImageFile | Sequence[ImageFile]:
        return self.listed.entry(i) if isinstance(i, int) else [self.listed.entry(k) for k in range(len(self))[i]]


def available_memory() -> float:
    """Bytes that may still be asked for; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), float("inf"))


@dataclass(frozen=True, eq=False)
class PackedImages:
    """Samples uint8 [N, C, S, S] of an index, read and decoded on demand."""

    index: Index
    channels: int
    side: int
    origin: str
    max_bad: float = 0.01
    workers: int | None = None
    rows: np.ndarray | None = None  # int64 [N] of the index; None: all of it
    bad: dict[int, str] = field(default_factory=dict)  # why which images of the index could not be decoded, so far
    lock: threading.Lock = field(default_factory=threading.Lock)

    ndim: ClassVar[int] = 4
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @cached_property
    def files(self) -> Files:
        return Files([str(path) for path in self.index.files], self.index.stats.tolist())

    def __len__(self) -> int:
        return len(self.index) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.side, self.side

    @property
    def nbytes(self) -> int:
        """Bytes they would take, decoded."""
        return int(np.prod([float(n) for n in self.shape]))

    @property
    def fingerprint(self) -> str:
        """Of the names, sizes and last bytes of all images and of how they are decoded, without decoding them."""
        rows = b"" if self.rows is None else hashlib.sha256(self.rows.astype("<i8").tobytes()).digest()
        text = f"packed {DECODING} {self.shape} {self.index.content}".encode()
        return hashlib.sha256(text + rows).hexdigest()[:16]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """File, offset and size, int64 [n, 3], of the samples `rows`."""
        at = rows if self.rows is None else self.rows[rows]
        return np.stack([self.index.shard[at], self.index.offset[at], self.index.size[at]], 1).astype(np.int64)

    def one(self, row: int) -> np.ndarray:
        """Sample `row`, uint8 [C, S, S]; what cannot be decoded gives way to the next that can.

        Raises:
            InputError: more than the share `max_bad` cannot be decoded, or a file has changed.
        """
        for step in range(len(self)):
            made = self.decoded((row + step) % len(self))
            if made is not None:
                return made
        raise AssertionError  # check_bad has refused a set with no image that can be decoded

    def decoded(self, row: int) -> np.ndarray | None:
        """Sample `row` itself; None, and a note why, where it cannot be decoded."""
        i = row if self.rows is None else int(self.rows[row])
        if i in self.bad:
            return None
        index, files = self.index, self.files
        try:
            return decode(
                files.read(int(index.shard[i]), int(index.offset[i]), int(index.size[i])), self.side, self.channels
            )
        except InputError:
            raise
        except DAMAGED as error:
            self._note(i, reason_of(error, index.entry(i)))
            return None

    def unreadable(self) -> list[str]:
        """`name: reason` of every image that could not be decoded so far."""
        with self.lock:
            return [told(self.index.entry(i), reason) for i, reason in sorted(self.bad.items())]

    def _note(self, i: int, reason: str) -> None:
        with self.lock:
            first = not self.bad
            self.bad[i] = reason
            check_bad(Path(self.origin), Listing(self.index), list(self.bad.items()), self.max_bad)
        if first:
            warn(
                f"{self.origin}: an image cannot be decoded, {told(self.index.entry(i), reason)}; the next one is taken"
            )

    def __getitem__(self, index: Rows | int) -> np.ndarray:
        """uint8 [n, C, S, S] of a slice, integers or booleans [N]; [C, S, S] of one integer.

        Raises:
            IndexError: rows that are not there.
            InputError: more than memory holds; see `one` too.
        """
        if isinstance(index, (int, np.integer)):
            return self.one(int(row_numbers(np.array([index]), len(self))[0]))
        rows = row_numbers(index, len(self))
        self._require_memory(len(rows))
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def work(part: range) -> None:
            for k in part:
                out[k] = self.one(int(rows[k]))

        with closing(in_order(work, len(rows), self.threads())) as parts:
            for _ in parts:
                pass
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def threads(self) -> int | None:
        return 1 if self.workers is None and self.index.size.mean() < _TINY else self.workers

    def _require_memory(self, n: int) -> None:
        need = n * int(np.prod(self.shape[1:]))
        if need > 1 << 28 and need > _RESERVE * available_memory():
            given = f"{n:,} images of {self.origin} at once ({need / 1e9:,.1f} GB decoded)"
            raise InputError(
                given, "what fits in memory", "give fewer samples or a smaller --size; pretrain and embed stream"
            )

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows int64 [n] -> uint8 [n, C, S, S] on the CPU."""
        import torch

        return torch.from_numpy(self[rows.cpu().numpy()])

    def to(self, device: torch.device | str) -> PackedImages:
        """Itself: batches are moved to a device as they come, so that its memory holds no more than they need."""
        return self

    def subset(self, index: Rows) -> PackedImages:
        """The rows `index`, still in their shards."""
        rows = row_numbers(index, len(self))
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def in_colour(self) -> PackedImages:
        """With three channels, as a net that was trained on colour takes them."""
        return replace(self, channels=3)

    def at_size(self, side: int) -> PackedImages:
        return self if side == self.side else replace(self, side=side)


def block_starts(samples: Any, shuffle: str) -> np.ndarray | None:
    """Where the blocks of neighbours begin that are shuffled as a whole, int64 [K]; None: samples one by one.

    Blocks of images in the shards where there are at least 64 of them with 64 GiB in all (`shuffle` auto), or where
    they are asked for: neighbours in a file, `BLOCK_BYTES` or a little more in all.

    Raises:
        InputError: blocks of samples in memory.
    """
    if not isinstance(samples, PackedImages):
        if shuffle == "blocks":
            raise InputError("shuffle blocks of samples in memory", "shards to shuffle so", "leave it at auto")
        return None
    stats = samples.index.stats
    large = len(stats) >= MANY and int(stats[:, 0].sum()) >= LARGE
    if shuffle == "all" or (shuffle == "auto" and not large):
        return None
    places = samples.places(np.arange(len(samples)))
    begun = places[:, 2].cumsum() - places[:, 2]  # bytes before each image
    first = np.flatnonzero(np.diff(places[:, 0], prepend=-1))  # of each file
    within = begun - np.repeat(begun[first], np.diff(first, append=len(places)))
    block = within // BLOCK_BYTES
    return np.flatnonzero((np.diff(places[:, 0], prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0))
