"""Decoding a folder of images: which size and colour, then every file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from swell.console import Progress
from swell.data.cache import Decoded, DecodedCache
from swell.data.folder_helpers import Helpers, helping, look_at
from swell.data.folder_listing import Listing, check_bad
from swell.data.images import TINY, Chunk, Header, automatic_size, decode_files, read_header

T = TypeVar("T")
LOOKED = 1000  # files; of a folder with more, so many tell what the others will be like


class Look(NamedTuple):
    """What a folder's images have in common."""

    size: int
    channels: int
    pixels: int  # of a typical file

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size


class _Misjudged(Exception):
    """The folder does not look as a part of it did."""


def decode_folder(
    root: Path,
    files: Listing,
    size: int | None,
    max_bad: float,
    kept: DecodedCache,
    workers: int | None,
    quiet: bool,
) -> Decoded:
    """All readable images at one size, the wanted or the automatic one, and with the channels that all of them need.

    Each file is read once, at the size and colour that some of them tell; where all together tell another, they are
    looked at first, as those of a small folder are, and then decoded as they must be.

    Raises:
        InputError: no file, or fewer than the share `max_bad` allows, can be read.
    """
    with warnings.catch_warnings(), helping(len(files), workers) as helpers:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files

        def decoded(look: Look, judged: bool) -> Decoded:
            if helpers is not None and look.pixels < TINY:
                decoding = helpers.decode(root, files, look.size, look.channels)
            else:
                decoding = decode_files(root, files, look.size, look.channels, look.pixels, workers)
            with (
                Progress("decoding images", len(files), "images", quiet=quiet) as bar,
                closing(decoding) as chunks,
            ):
                certain = chunks if judged else _as_expected(chunks, look, size, int(max_bad * len(files)))
                return kept.collect(_with_bar(certain, bar), look.shape)

        if (expected := _expected(root, files, size)) is not None:
            try:
                return decoded(expected, judged=False)
            except _Misjudged:
                pass
        return decoded(_looked(root, files, size, max_bad, helpers, quiet), judged=True)


def _look(headers: Counter[Header], size: int | None) -> Look:
    pixels = np.repeat([h.width * h.height for h in headers], list(headers.values()))
    channels = 1 if all(h.grey for h in headers) else 3
    return Look(size or automatic_size(headers), channels, int(np.median(pixels)))


def _expected(root: Path, files: Listing, size: int | None) -> Look | None:
    """How a large folder looks by some files from all over it; None where only all can tell."""
    if len(files) <= LOOKED:
        return None
    some = (files[int(i)] for i in np.linspace(0, len(files) - 1, LOOKED))
    headers = Counter(found for file in some if not isinstance(found := read_header(root, file), str))
    return _look(headers, size) if headers else None


def _as_expected(chunks: Iterator[Chunk], expected: Look, size: int | None, most_bad: int) -> Iterator[Chunk]:
    """The chunks, as long as they are what a look at all files would have made of them.

    Colour is noticed at once, another size each time that twice as many files were seen: so little is done in vain.

    Raises:
        _Misjudged: they are not, or so many files are bad that all should be counted and told.
    """
    headers: Counter[Header] = Counter()
    bad = seen = 0
    again = LOOKED
    for chunk in chunks:
        headers.update(chunk.headers)
        seen += len(chunk.digests)
        bad += len(chunk.bad)
        if bad > most_bad or (expected.channels == 1 and not all(h.grey for h in chunk.headers)):
            raise _Misjudged
        if seen >= again:
            again = 2 * seen
            _compare(headers, expected, size)
        yield chunk
    _compare(headers, expected, size)


def _compare(headers: Counter[Header], expected: Look, size: int | None) -> None:
    if not headers or _look(headers, size).size != expected.size:
        raise _Misjudged


def _looked(root: Path, files: Listing, size: int | None, max_bad: float, helpers: Helpers | None, quiet: bool) -> Look:
    headers: Counter[Header] = Counter()
    bad: list[tuple[int, str]] = []
    with (
        Progress("looking at images", len(files), "images", quiet=quiet) as bar,
        closing(look_at(root, files, helpers)) as parts,
    ):
        for i, header in enumerate(counted(parts, bar)):
            if isinstance(header, str):
                bad.append((i, header))
            else:
                headers[header] += 1
    check_bad(root, files, bad, max_bad)
    return _look(headers, size)


def _with_bar(chunks: Iterator[Chunk], bar: Progress) -> Iterator[Chunk]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk.digests)
        bar.update(done)


def counted(parts: Iterator[list[T]], bar: Progress) -> Iterator[T]:
    """What the parts hold, told to the bar."""
    done = 0
    for part in parts:
        yield from part
        done += len(part)
        bar.update(done)
