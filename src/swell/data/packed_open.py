"""Images in shards opened as a source, with labels where somebody asks for them."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from swell.console import Progress
from swell.data.arrays import encode_labels
from swell.data.decoding_worker import Files
from swell.data.folder_listing import check_bad
from swell.data.images import Header, automatic_size, header_of, in_order
from swell.data.packed import PackedImages
from swell.data.shards import Index, Packed, index_of
from swell.data.source import Provenance, Source
from swell.errors import InputError

__all__ = ["header", "open_packed"]

LOOKED_AT = 1000  # images whose headers decide size and colour of all
_LONGEST = 1 << 20  # bytes of a file with a label
_LABELS = ("label", "labels", "y", "cls")  # keys in a .json


def open_packed(
    packed: Packed,
    labels: bool | str,
    size: int | None,
    max_bad: float,
    cache: Path,
    workers: int | None,
    quiet: bool,
) -> Source:
    """A source of the images in shards; see `swell.data.open.open_data`.

    Size and colour are decided by the headers of a thousand images, evenly spread over all.

    Raises:
        InputError: damaged shards; too many unreadable images; labels that are not there.
    """
    index = index_of(packed, cache, quiet)
    side, channels = _looked_at(packed, index, size, max_bad)
    images = PackedImages(index, channels, side, packed.origin, max_bad, workers)
    skipped: tuple[str, ...] = ()
    codes: np.ndarray | None = None
    classes: list[str] = []
    if labels:
        codes, classes = encode_labels(_labels(packed, index, labels), packed.origin)
        images = _readable(images, quiet)
        skipped = tuple(images.unreadable())
        codes = codes if images.rows is None else codes[images.rows]
    return Source(images, Provenance("real", packed.origin), codes, classes, skipped)


def _looked_at(packed: Packed, index: Index, size: int | None, max_bad: float) -> tuple[int, int]:
    """Side and channels."""
    rows = np.unique(np.linspace(0, len(index) - 1, min(len(index), LOOKED_AT)).astype(np.int64)).tolist()
    images = PackedImages(index, 3, 1, packed.origin)
    headers: list[Header] = []
    bad: list[tuple[int, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        for k, i in enumerate(rows):
            found = header(images, i)
            if isinstance(found, str):
                bad.append((k, found))
            else:
                headers.append(found)
    check_bad(Path(packed.origin), [index.entry(i) for i in rows], bad, max_bad)
    return size or automatic_size(headers), 1 if all(header.grey for header in headers) else 3


def header(images: PackedImages, i: int) -> Header | str:
    index, entry = images.index, images.index.entry(i)
    try:
        content = images.files.read(int(index.shard[i]), int(index.offset[i]), int(index.size[i]))
    except InputError:
        raise
    except ValueError as error:
        return str(error)
    return header_of(io.BytesIO(content), entry)


def _readable(images: PackedImages, quiet: bool) -> PackedImages:
    """The images that can be decoded, found by decoding them."""
    kept: list[int] = []
    with Progress("looking for unreadable images", len(images), "images", quiet=quiet) as bar:

        def work(part: range) -> list[int]:
            return [i for i in part if images.decoded(i) is not None]

        with closing(in_order(work, len(images), images.threads())) as parts:
            for done, part in enumerate(parts):
                kept += part
                bar.update(min((done + 1) * 16, len(images)))
    return images if len(kept) == len(images) else images.subset(np.array(kept))


def _labels(packed: Packed, index: Index, key: bool | str) -> np.ndarray:
    """The label of every image of the index, as it stands in the shards."""
    if packed.kind != "tar":
        from swell.data.arrow_images import column_labels

        found = column_labels(packed, key)
        if len(found) != len(index):  # pyarrow does not hold a column's own count against that of the rows
            given = f"{packed.origin} ({len(found):,} labels of {len(index):,} images)"
            raise InputError(given, "a label an image", "save the dataset again")
        return found
    files = PackedImages(index, 3, 1, packed.origin).files
    return np.array([_tar_label(files, index, i, key) for i in range(len(index))], object)


def _tar_label(files: Files, index: Index, i: int, key: bool | str) -> str:
    cls_at, cls_size, json_at, json_size = index.labels[i].tolist()
    if max(cls_size, json_size) > _LONGEST:
        raise InputError(f"{index.name(i)}: a label of {max(cls_size, json_size):,} bytes", "a word or a number")
    if cls_at >= 0 and key in (True, "cls"):
        return files.read(int(index.shard[i]), cls_at, cls_size).decode("utf-8", "replace").strip()
    value: Any = None
    if json_at >= 0:
        try:
            stored = json.loads(files.read(int(index.shard[i]), json_at, json_size))
        except (ValueError, RecursionError) as error:
            given = f"{index.name(i)}: its .json ({error})"
            raise InputError(given, "an object as JSON", "make the shard again") from None
        wanted = (key,) if isinstance(key, str) else _LABELS
        known = stored if isinstance(stored, dict) else {}
        value = next((known[name] for name in wanted if name in known), None)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        told_key = (
            f"a .json with {key!r}" if isinstance(key, str) and key != "cls" else "a .cls or a .json with a label"
        )
        raise InputError(f"{index.name(i)} without a label", f"{told_key} beside every image", "do not ask for labels")
    return str(value)
