"""Images packed in large files: tar shards (WebDataset), Arrow and Parquet files (Hugging Face datasets).

What is trained on is one list of places, (file, offset, size) of every image, in the order of the files and of the
images in them. It is made once, from tar headers or from the files' own tables, without reading the images, and kept in
the cache; any image is then one plain read. An index is used while every file has the size and times it had.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swell.console import Progress, warn
from swell.data.arrays import UNREADABLE
from swell.data.cache import settled
from swell.data.folder_listing import SUFFIXES, ImageFile
from swell.data.tars import walk
from swell.errors import InputError
from swell.files import atomic_path, read_json

__all__ = ["PACK", "Index", "Packed", "Piece", "expanded", "find_shards", "index_of"]

ENDINGS = {".tar": "tar", ".arrow": "arrow", ".parquet": "parquet"}
PACK = ".pack"  # images of Parquet files, copied out of them; names tell which
_VERSION = 1
_MOST_FILES = 1_000_000  # that a pattern may stand for
_WIDE = 8  # files whose headers are read at once: what waits for a network does not wait for a core


class Packed(NamedTuple):
    """Files that images are packed in, as somebody named them."""

    origin: str
    kind: str  # tar, arrow or parquet
    files: tuple[str, ...]


class Piece(NamedTuple):
    """What was found in one file: the image of each sample, and where a tar has labels, those."""

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    tails: bytes  # end of every image, for the fingerprint: of a PNG it holds two checksums of all of it
    labels: list[tuple[int, int, int, int]]  # offset and size of .cls and of .json; offset -1: none
    left_out: dict[str, int]  # what else there was, and how often


@dataclass(frozen=True, eq=False)
class Index:
    """Where every image lies; arrays have one entry a sample."""

    files: np.ndarray  # str [F], absolute paths
    stats: np.ndarray  # int64 [F, 3]: bytes, mtime and ctime in ns
    shard: np.ndarray  # int32 [N]
    offset: np.ndarray  # int64 [N]
    size: np.ndarray  # int64 [N]
    labels: np.ndarray  # int64 [N, 4] of tar, else [0, 4]; see `Piece`
    names: np.ndarray  # uint8: all names end to end
    ends: np.ndarray  # int64 [N]: where each name ends
    content: np.ndarray  # str []: a hash of names, sizes and tails

    def __len__(self) -> int:
        return len(self.offset)

    def name(self, i: int) -> str:
        """`shard.tar/name` of image i."""
        start = self.ends[i - 1] if i else 0
        name = self.names[start : self.ends[i]].tobytes().decode("utf-8", "surrogateescape")
        shard = os.path.basename(str(self.files[self.shard[i]]))
        return name if shard.endswith(PACK) else f"{shard}/{name}"

    def entry(self, i: int) -> ImageFile:
        """Image i as a line of a listing."""
        _, mtime, ctime = self.stats[self.shard[i]].tolist()
        return ImageFile(self.name(i), int(self.size[i]), mtime, ctime)


# ---- which files ---------------------------------------------------------------------------------------


def find_shards(data: str | os.PathLike[str]) -> Packed | None:
    """What `data` names, if images packed in files: a file, a folder of such files, a pattern; None of anything else.

    Patterns have braces and the stars of a shell, train-{000..099}.tar, in braces' order and else sorted. Of a folder
    with images at its top the images count, as ever.

    Raises:
        InputError: a pattern that names nothing, or files that are not there; several splits.
    """
    name = os.path.expanduser(os.fspath(data))
    if os.path.isdir(name):
        return _of_folder(name)
    kind = ENDINGS.get(os.path.splitext(name)[1].lower())
    if kind is None or re.match(r"\w{2,}:", name):
        return None
    if os.path.isfile(name):
        return None if kind == "parquet" and not _holds_images(name) else Packed(name, kind, (name,))
    if not re.search(r"[{*?\[]", name):
        return None
    files = expanded(name)
    if kind == "parquet" and not _holds_images(files[0]):
        raise InputError(f"{name} (tables without images)", "one .parquet file of vectors", "join them")
    return Packed(name, kind, tuple(files))


def expanded(pattern: str) -> list[str]:
    """The files that a pattern of braces, {a,b} and {00..12}, and stars stands for.

    Raises:
        InputError: none at all, one that is not there, or far too many.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    if np.prod([float(len(choice)) for choice in choices]) > _MOST_FILES:
        raise InputError(f"{pattern}", f"a pattern of {_MOST_FILES:,} files at most", "check the numbers in braces")
    files: list[str] = []
    missing: list[str] = []
    for words in itertools.product(*choices):
        name = "".join(words)
        found = sorted(glob(name)) if re.search(r"[*?\[]", name) and not os.path.isfile(name) else [name]
        files += found
        missing += [file for file in found or [name] if not found or not os.path.isfile(file)]
    if missing:
        count = f"{len(missing):,} of {max(len(files), len(missing)):,} files are missing, the first {missing[0]}"
        raise InputError(f"{pattern} ({count})", "files that are there", "check the pattern and the folder")
    return list(dict.fromkeys(files))


def _choices(text: str) -> Sequence[str]:
    if match := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text):
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= _MOST_FILES:
            raise InputError(f"{{{text}}}", f"{_MOST_FILES:,} files at most", "check the numbers in braces")
        width = len(match[1]) if match[1].startswith("0") or len(match[1]) == len(match[2]) else 0
        return [str(i).zfill(width) for i in range(first, last + 1)]
    return text.split(",")


def _of_folder(root: str) -> Packed | None:
    if os.path.isfile(os.path.join(root, "dataset_dict.json")):
        splits = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        told = f"one of its splits, {', '.join(os.path.join(root, split) for split in splits[:4])}"
        raise InputError(f"{root} (several splits of a Hugging Face dataset)", told, "give that folder")
    if os.path.isfile(os.path.join(root, "state.json")):
        return _saved(root)
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                ending = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    continue
                if ending in SUFFIXES:
                    return None
                if ending in (".tar", ".parquet") and entry.is_file():
                    found.setdefault(ENDINGS[ending], []).append(entry.path)
    except OSError:  # told where folders of images are read
        return None
    kind = "tar" if "tar" in found else "parquet"
    files = tuple(sorted(found.get(kind, ())))
    if not files or (kind == "parquet" and not _holds_images(files[0])):
        return None
    return Packed(root, kind, files)


def _saved(root: str) -> Packed | None:
    """A folder that `Dataset.save_to_disk` made; its state.json tells the order of the files."""
    state = read_json(os.path.join(root, "state.json"))
    listed = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(listed, list):
        return None
    if state.get("_indices_files"):
        raise InputError(
            f"{root} (its order and choice lie in a file beside it)", "a plain dataset", "flatten_indices()"
        )
    names = [str(row.get("filename", "")) if isinstance(row, dict) else "" for row in listed]
    files = tuple(os.path.join(root, name) for name in names)
    absent = [
        name
        for name, file in zip(names, files, strict=True)
        if os.path.basename(name) != name or not os.path.isfile(file)
    ]
    if absent or not files:
        given = f"{root}/state.json ({absent[0]!r} is no file of this folder)" if absent else f"{root} (no data)"
        raise InputError(given, "the folder as save_to_disk wrote it", "save the dataset again")
    return Packed(root, "arrow", files)


def _holds_images(path: str) -> bool:
    from swell.data.arrow_images import image_column, parquet_schema

    return image_column(parquet_schema(path)) is not None


# ---- where the images lie ------------------------------------------------------------------------------


def index_of(packed: Packed, cache: Path, quiet: bool = False) -> Index:
    """The index of `packed`, from the cache where it stands for these very files.

    Raises:
        InputError: a file that is damaged, cut short or not what its name says; none that holds an image.
    """
    listed_at = time.time_ns()
    stats = np.array([_stat(file) for file in packed.files], np.int64)
    paths = [os.path.abspath(file) for file in packed.files]
    digest = hashlib.sha256("\0".join([f"{_VERSION} {packed.kind}", *paths]).encode("utf-8", "surrogateescape"))
    digest.update(stats.tobytes())
    kept = cache / f"index-{digest.hexdigest()[:24]}.npz"
    found = _kept(kept, stats)
    if found is not None:
        return found
    if packed.kind == "parquet":
        from swell.data.arrow_images import packed_out

        index = _joined(*packed_out(packed.files, stats, cache, quiet))
    else:
        index = _joined(paths, stats, _pieces(packed, paths, stats, quiet), quiet)
    if settled(stats[:, 2], listed_at):
        _keep(kept, index, quiet)
    return index


def _stat(file: str) -> tuple[int, int, int]:
    try:
        found = os.stat(file)
    except OSError as error:
        raise InputError(f"{file} ({os.strerror(error.errno or 0).lower()})", "a file you may read") from None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _kept(path: Path, stats: np.ndarray) -> Index | None:
    """The index stored at `path`, if it is whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            index = Index(**{f.name: stored[f.name] for f in fields(Index)})
        n, inside = len(index), index.stats[index.shard, 0]
        whole = len(index.shard) == len(index.size) == len(index.ends) == n > 0 and index.shard.min() >= 0
        whole &= bool(
            (index.size >= 0).all() and (index.offset >= 0).all() and (index.offset + index.size <= inside).all()
        )
        whole &= bool((np.diff(index.ends, prepend=0) >= 0).all()) and int(index.ends[-1]) == len(index.names)
        whole &= index.labels.shape in ((0, 4), (n, 4)) and index.stats.shape == (len(index.files), 3)
    except (*UNREADABLE, IndexError, AttributeError):
        return None
    return index if whole and all(os.path.isfile(str(file)) for file in index.files) else None


def _keep(path: Path, index: Index, quiet: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{f.name: getattr(index, f.name) for f in fields(Index)})
    except (InputError, OSError) as error:  # read-only or full: made anew the next time, nothing else is lost
        if not quiet:
            warn(f"the index of the shards is not kept: {error}")


def _pieces(packed: Packed, paths: list[str], stats: np.ndarray, quiet: bool) -> Iterator[Piece]:
    if packed.kind == "tar":
        read = tar_piece
    else:
        from swell.data.arrow_images import arrow_piece

        read = arrow_piece
    with (
        Progress("looking at shards", len(paths), "files", quiet=quiet) as bar,
        ThreadPoolExecutor(_WIDE, "swell-index") as pool,
    ):
        try:
            for done, piece in enumerate(pool.map(read, paths, stats[:, 0].tolist()), 1):
                yield piece
                bar.update(done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _joined(paths: Sequence[str], stats: np.ndarray, pieces: Iterator[Piece], quiet: bool) -> Index:
    content = hashlib.sha256()
    columns: dict[str, list[np.ndarray]] = {
        "shard": [],
        "offset": [],
        "size": [],
        "labels": [],
        "names": [],
        "ends": [],
    }
    left_out: dict[str, int] = {}
    end = 0
    for number, piece in enumerate(pieces):
        names = [name.encode("utf-8", "surrogateescape") for name in piece.names]
        lengths, sizes = np.array([*map(len, names)], np.int64), np.array(piece.sizes, np.int64)
        columns["shard"].append(np.full(len(names), number, np.int32))
        columns["offset"].append(np.array(piece.offsets, np.int64))
        columns["size"].append(sizes)
        columns["labels"].append(np.array(piece.labels, np.int64).reshape(-1, 4))
        columns["names"].append(np.frombuffer(b"".join(names), np.uint8))
        columns["ends"].append(end + lengths.cumsum())
        end += int(lengths.sum())
        for part in (columns["names"][-1].tobytes(), lengths.tobytes(), sizes.tobytes(), piece.tails):
            content.update(hashlib.sha256(part).digest())
        for what, count in piece.left_out.items():
            left_out[what] = left_out.get(what, 0) + count
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    if left_out and not quiet:
        warn("left out of the shards: " + ", ".join(f"{count:,} {what}" for what, count in left_out.items()))
    if not len(joined["offset"]):
        raise InputError(
            f"{paths[0]} and the other shards hold no images", "JPEG, PNG, WebP, BMP or TIFF images in them"
        )
    return Index(np.array(paths, str), stats, content=np.array(content.hexdigest()), **joined)


def tar_piece(path: str, total: int) -> Piece:
    """The samples of one tar file: every image, but where a sample has one named KEY.jpg, others such as KEY.mask.png
    are left out. KEY ends at the first dot after the last slash; .cls and .json of the same key may hold its label.

    Raises:
        InputError: a damaged file, or two members of one name.
    """
    seen: set[str] = set()
    images: list[tuple[str, str, int, int, bytes]] = []  # key, name, offset, size, tail
    plain: set[str] = set()  # keys with an image KEY.jpg
    labels: dict[str, dict[str, tuple[int, int]]] = {}
    left_out: dict[str, int] = {}
    ended = False

    def leave(what: str) -> None:
        left_out[what] = left_out.get(what, 0) + 1

    handle = os.open(path, os.O_RDONLY)
    try:
        for member in walk(handle, total, path):
            name = member.name
            if member.kind != "file":
                ended |= member.kind == "end"
                if member.kind == "other" and not name.endswith("/"):
                    leave("links or devices")
                continue
            if name.startswith("/") or ".." in name.split("/"):
                leave("names that lead out of their folder")
                continue
            if name in seen:
                raise InputError(f"{path}: member {name!r} twice", "a name of its own for each", "make the shard again")
            seen.add(name)
            folder, _, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            key, ending = f"{folder}/{stem}", ending.lower()
            if not stem:  # hidden, as macOS leaves them
                continue
            if ending in ("cls", "json"):
                labels.setdefault(key, {})[ending] = member.offset, member.size
            elif "." + ending.rpartition(".")[2] in SUFFIXES:
                images.append((key, name, member.offset, member.size, member.tail))
                if "." not in ending:
                    plain.add(key)
    finally:
        os.close(handle)
    if not ended:
        leave(f"ends of files, without which nobody knows whether all is there: {os.path.basename(path)}")
    piece = Piece([], [], [], b"", [], left_out)
    tails: list[bytes] = []
    for key, name, offset, size, tail in images:
        if key in plain and "." in name.rpartition("/")[2].partition(".")[2]:
            leave("further images of a sample")
            continue
        piece.names.append(name)
        piece.offsets.append(offset)
        piece.sizes.append(size)
        tails.append(tail)
        own: dict[str, Any] = labels.get(key, {})
        piece.labels.append((*own.get("cls", (-1, 0)), *own.get("json", (-1, 0))))
    return piece._replace(tails=b"".join(tails))
