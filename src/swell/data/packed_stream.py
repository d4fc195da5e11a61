"""Images in shards in parts, one in memory at a time: what encoding them needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from swell.console import warn
from swell.data.images import in_order
from swell.data.packed import PackedImages
from swell.data.packed_open import header
from swell.data.shards import Packed, index_of
from swell.data.stream import WHOLE, Part, Share, Stream, rows_at_once, starts
from swell.errors import InputError

__all__ = ["stream_packed"]


def stream_packed(packed: Packed, shape: tuple[int, ...], max_bad: float, cache: Path, share: Share = WHOLE) -> Stream:
    """The images, or a share, in parts, in order, for an encoder of samples of `shape`; unreadable ones are left out.

    Raises:
        InputError: see `open_packed`; images in colour for a net of grey ones.
    """
    index = index_of(packed, cache)
    images = PackedImages(index, shape[0], shape[1], packed.origin, max_bad)
    rows = rows_at_once(shape, 1)

    def work(start: int, part: range) -> list[tuple[int, np.ndarray]]:
        found = []
        for i in range(start + part.start, start + part.stop):
            if shape[0] == 1:
                _refuse_colour(images, i, shape)
            made = images.decoded(i)
            if made is not None:
                found.append((i, made))
        return found

    def parts() -> Iterator[Part]:
        kept: list[tuple[int, np.ndarray]] = []
        for start in starts(len(index), rows, share):
            stop = min(start + rows, len(index))
            last = stop == len(index) or share.count > 1
            with closing(in_order(partial(work, start), stop - start, images.threads())) as found:
                kept += [pair for some in found for pair in some]
            if share.count > 1 and not kept:
                yield Part(np.empty((0, *shape), np.uint8), np.empty(0, np.int64))
            while len(kept) >= rows or (last and kept):
                some, kept = kept[:rows], kept[rows:]
                ids = np.array([i for i, _ in some], np.int64)
                yield Part(np.stack([made for _, made in some]), ids, [index.name(int(i)) for i in ids])
        if images.bad and share == WHOLE:
            warn(f"{len(images.bad):,} of {len(index):,} images left out")

    return Stream(packed.origin, len(index), parts(), of_files=True, most_bad=int(max_bad * len(index)))


def _refuse_colour(images: PackedImages, i: int, shape: tuple[int, ...]) -> None:
    found = header(images, i)
    if not isinstance(found, str) and not found.grey:
        given = f"{images.origin}: {images.index.name(i)} in colour"
        raise InputError(given, f"the run's shape {list(shape)}", "give data of the same kind")
