"""Arrays and .npy / .npz files into sources: layouts, value ranges, labels.

Layouts, decided by shape alone:

* 2-D ``[N, D]``: vectors, kept as float32.
* 3-D ``[N, H, W]``: grey images.
* 4-D ``[N, H, W, C]`` or ``[N, C, H, W]`` with C 1 or 3. Where both fit, channels come first, as Swell stores
  them.

Image values are 0..255 integers, booleans, floats in [0, 1] (times 255, rounded) or floats in [0, 255]
(rounded). Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import math
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from swell.data.bombs import refuse_bomb
from swell.data.images import square
from swell.data.source import Provenance, Source
from swell.errors import InputError, suggest

__all__ = ["SAMPLE_KEYS", "UNREADABLE", "as_numpy", "check_header", "encode_labels", "from_array", "open_npy",
           "open_npz", "refuse_bomb_in", "resized"]  # fmt: skip

SAMPLE_KEYS = ("images", "image", "x", "X", "data", "samples")
LABEL_KEYS = ("labels", "label", "y")
UNREADABLE = (  # what NumPy is known to raise on damaged files
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
_LONGEST_HEADER = 1 << 16  # bytes; NumPy reads none of more than 10,000
_CHUNK = 4096  # rows converted at a time, so that no second float copy of everything is made


def as_numpy(data: object) -> np.ndarray | None:
    """`data` as an array when it is one, or a torch tensor on any device; else None. Never imports torch."""
    if isinstance(data, np.ndarray):
        return data
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(data, torch.Tensor):
        return None
    try:
        tensor = data.detach().cpu()
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        return np.asarray(tensor.numpy())
    except (TypeError, RuntimeError):
        raise InputError(
            f"a {data.layout} tensor of {data.dtype}", "a dense tensor of numbers", "call .to_dense()"
        ) from None


def from_array(
    a: np.ndarray, origin: str = "array", labels: np.ndarray | None = None, size: int | None = None
) -> Source:
    """A source from one array, in any layout and range this module's docstring names.

    Args:
        labels: one label a sample, integers or strings of any kind; see `encode_labels`.
        size: side of the square images to resize to; None keeps H and W, which need not be equal.

    Raises:
        InputError: wrong shape, type or range; NaN or infinite values; fewer than two samples.
    """
    if a.dtype.kind not in "buif":
        raise InputError(f"{origin}: an array of {a.dtype}", "numbers (integers, booleans or floats)")
    if a.ndim not in (2, 3, 4) or 0 in a.shape[1:]:
        raise InputError(f"{origin}: shape {list(a.shape)}", "[N, D], [N, H, W], [N, H, W, C] or [N, C, H, W]")
    if len(a) < 2:
        raise InputError(f"{origin}: {len(a)} samples", "at least 2")
    samples = vectors(a, origin) if a.ndim == 2 else _images(channels_first(a, origin), origin)
    source = Source(samples, Provenance("real", origin))
    if labels is not None:
        codes, classes = encode_labels(labels, origin)
        source = Source(samples, source.provenance, codes, classes)
    return resized(source, size)


def channels_first(a: np.ndarray, origin: str) -> np.ndarray:
    """`a` as a view [N, C, H, W]."""
    if a.ndim == 3:
        h, w = a.shape[1:]
        if h != w and w in (1, 3, 4):
            raise InputError(
                f"{origin}: shape {list(a.shape)}",
                "a batch [N, H, W] of grey images",
                "this looks like one image or lacks its channel axis; give [N, H, W, C]",
            )
        return a[:, None]
    if a.shape[1] in (1, 3):
        return a
    if a.shape[3] in (1, 3):
        return a.transpose(0, 3, 1, 2)
    raise InputError(
        f"{origin}: shape {list(a.shape)}",
        "images with 1 or 3 channels, first or last",
        "drop an alpha channel; choose three of many bands",
    )


def vectors(a: np.ndarray, origin: str) -> np.ndarray:
    """`a` [N, D] as float32. Raises InputError for NaN and infinite values."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is reported as such
        vectors = np.ascontiguousarray(a, dtype=np.float32)
    _require_finite(vectors, origin)
    return vectors


def _require_finite(a: np.ndarray, origin: str) -> None:
    bad = np.concatenate(
        [~np.isfinite(a[i : i + _CHUNK]).all(tuple(range(1, a.ndim))) for i in range(0, len(a), _CHUNK)]
    )
    if bad.any():
        raise InputError(
            f"{origin}: NaN or infinite values in {bad.sum():,} of {len(a):,} rows, first row {bad.argmax()}",
            "finite numbers",
            "remove or fill those rows",
        )


def _images(a: np.ndarray, origin: str) -> np.ndarray:
    """[N, C, H, W] of any number type to contiguous uint8 0..255."""
    if a.dtype == np.uint8:
        return np.ascontiguousarray(a)
    unit = unit_range(a, origin)
    out = np.empty(a.shape, np.uint8)
    for i in range(0, len(a), _CHUNK):
        out[i : i + _CHUNK] = as_bytes(a[i : i + _CHUNK], unit)
    return out


def unit_range(a: np.ndarray, origin: str) -> bool:
    """Whether image values lie in [0, 1] rather than in 0..255; raises InputError where they do neither."""
    if a.dtype.kind == "f":
        _require_finite(a, origin)
    low, high = a.min(), a.max()
    if low < 0 or high > 255:
        raise InputError(
            f"{origin}: image values from {low:g} to {high:g}",
            "0..255 or floats in [0, 1]",
            "scale them, or give vectors as [N, D]",
        )
    return a.dtype.kind == "b" or bool(a.dtype.kind == "f" and high <= 1)


def as_bytes(rows: np.ndarray, unit: bool) -> np.ndarray:
    """Image values as uint8: times 255 where they are `unit`, rounded."""
    return np.rint(rows.astype(np.float32) * 255 if unit else rows).astype(np.uint8)


def resized(source: Source, size: int | None) -> Source:
    """The same source with images of `size` x `size`: the centre square, antialiased. None: as they are."""
    if size is None:
        return source
    if not source.is_images:
        given = f"{source.provenance.origin}: size {size} for vectors of {source.shape[0]}"
        raise InputError(given, "images", "give images, or leave the size out")
    n, c, h, w = source.samples.shape
    if h == w == size:
        return source
    if not isinstance(source.samples, np.ndarray):  # images in shards come in any size
        return replace(source, samples=source.samples.at_size(size))
    out = np.empty((n, c, size, size), np.uint8)
    for i, image in enumerate(source.samples):
        one = Image.fromarray(image[0] if c == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        out[i] = np.atleast_3d(np.asarray(square(one, size))).transpose(2, 0, 1)
    return Source(out, source.provenance, source.labels, source.classes, source.skipped)


def encode_labels(labels: np.ndarray, origin: str) -> tuple[np.ndarray, list[str]]:
    """Labels [N] of integers, whole floats, booleans or strings to codes int64 [N] and the K class names.

    Codes 0..K-1 follow the sorted labels; names are the labels as text.

    Raises:
        InputError: any other shape or type, or floats that are not whole numbers.
    """
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    # Words stay objects: in an array of text each takes the room of the longest.
    words = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat)
    if labels.ndim != 1 or not (words or labels.dtype.kind in "buifSU"):
        raise InputError(
            f"{origin}: labels {labels.dtype}{list(labels.shape)}",
            "one integer or string a sample, [N]",
            "turn one-hot rows into numbers with argmax(1)",
        )
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
            raise InputError(f"{origin}: labels that are fractions or NaN", "whole numbers or strings")
        labels = labels.astype(np.int64)
    names, codes = np.unique(labels, return_inverse=True)
    if names.dtype.kind == "S":
        return codes.astype(np.int64), [name.decode("utf-8", "replace") for name in names.tolist()]
    return codes.astype(np.int64), [str(name) for name in names.tolist()]


def open_npy(path: Path, size: int | None = None) -> Source:
    """A source from a .npy file; raises InputError for anything that is not a plain array."""
    a = mapped(path)
    source = from_array(a, str(path), size=size)
    if np.shares_memory(source.samples, a):  # never stay mapped on a file that may be overwritten under us
        return Source(np.array(source.samples), source.provenance)
    return source


def mapped(path: Path) -> np.ndarray:
    """A .npy file as an array that stays on disk until it is read; raises InputError as `open_npy` does."""
    with _told(path):
        with path.open("rb") as opened:
            check_header(opened, path.stat().st_size)
        a = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(a, np.ndarray):
            raise ValueError("a zip archive; name it .npz")
    return a


def open_npz(path: Path, labels: bool | str = False, size: int | None = None) -> Source:
    """A source from a .npz file.

    Samples are under the first of `SAMPLE_KEYS` there is, else the only other array that can be samples.
    Labels are read only when asked for: under labels, label or y, or under the key given as `labels`.
    """
    with _told(path):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("a bare array; name it .npy")
    with archive:
        label_key = _label_key(path, archive.files, labels)
        key = _sample_key(path, archive, {*LABEL_KEYS, label_key})
        with _told(path):
            samples = _member(archive, key)
            y = _member(archive, label_key) if label_key else None
    return from_array(samples, str(path), y, size)


def _label_key(path: Path, keys: list[str], labels: bool | str) -> str:
    if labels is False:
        return ""
    wanted = (labels,) if isinstance(labels, str) else LABEL_KEYS
    found = [key for key in wanted if key in keys]
    if not found:
        raise InputError(
            f"{path}: no labels under {' or '.join(wanted)}",
            "an array of labels",
            suggest(wanted[0], keys) if keys else "",
        )
    return found[0]


def _sample_key(path: Path, archive: np.lib.npyio.NpzFile, not_samples: set[str]) -> str:
    known = [key for key in SAMPLE_KEYS if key in archive.files and key not in not_samples]
    if known:
        return known[0]
    with _told(path):
        others = [key for key in archive.files if key not in not_samples]
        fit = [key for key in others if _member(archive, key).ndim in (2, 3, 4)]
    if len(fit) != 1:
        raise InputError(
            f"{path}: arrays {', '.join(archive.files) or 'none'}",
            f"samples under one of {', '.join(SAMPLE_KEYS)}, or a single array that fits",
        )
    return fit[0]


def _member(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    refuse_bomb_in(archive.zip, key)
    value = archive[key]
    if not isinstance(value, np.ndarray):  # NumPy hands out what is no .npy file as bytes
        raise ValueError(f"{key} is not an array")
    return value


def refuse_bomb_in(archive: zipfile.ZipFile | None, key: str) -> None:
    """Raises InputError where the array `key` of an .npz claims far more bytes than are stored; see `refuse_bomb`."""
    if archive is None:
        raise ValueError("a closed archive")
    names = archive.namelist()
    member = archive.getinfo(key if key in names else f"{key}.npy")
    refuse_bomb(f"array {key!r}", member.file_size, member.compress_size)
    with archive.open(member) as opened:
        check_header(opened, member.file_size)


def check_header(opened: IO[bytes], size: int) -> None:
    """Raises ValueError where a .npy file of `size` bytes claims more, or numbers of no bytes.

    NumPy makes room for what a header claims before it reads on, and to map numbers of no bytes ends the process.
    """
    start = io.BytesIO(opened.read(_LONGEST_HEADER))
    if not start.getvalue().startswith(np.lib.format.MAGIC_PREFIX):
        return  # no .npy file, as NumPy will say
    version = np.lib.format.read_magic(start)[0]
    read = np.lib.format.read_array_header_1_0 if version == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)  # those of version 3 differ in the letters of names only
    if min(shape, default=0) < 0 or dtype.itemsize == 0:
        raise ValueError(f"an array {list(shape)} of {dtype}")
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array {list(shape)} of {dtype} in {size:,} bytes")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever NumPy says about a malformed file into one InputError."""
    try:
        yield
    except InputError as error:
        given = error.given if str(path) in error.given else f"{path}: {error.given}"
        raise InputError(given, error.expected, error.todo) from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "ickle" in reason or "bject" in reason:
            reason = "it holds Python objects or is a pickle, which Swell never loads"
        raise InputError(
            f"{path} ({reason})",
            "an array file that NumPy wrote, whole and without Python objects",
            "save it again with np.savez(path, images=..., labels=...)",
        ) from None
