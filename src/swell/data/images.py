"""Folders of images: listing, decoding, one square size.

Every file becomes uint8 by these rules, which the cache's `DECODING` number stands for (raise it when one
changes):

* EXIF orientation is applied; of several frames or pages the first is taken.
* Alpha and transparent palette entries are laid over white.
* 16-bit grey is scaled by the full range (value / 257, rounded), 1-bit becomes 0 and 255, floats must lie in
  [0, 1]. 12-bit camera data stored in 16-bit files therefore come out dark: stretch them first.
* The shortest side is resized to the wanted one (bicubic, antialiased) and the centre kept; where nothing needs
  resizing the pixels are kept exactly, the offset rounded down.
* The set has 1 channel when no file has colour (by its mode or palette), else 3 in RGB order.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from swell.data.folder_listing import ImageFile
from swell.data.png_header import png_header
from swell.threads import all_cores, free_cores

__all__ = [
    "DAMAGED",
    "DECODING",
    "DIGEST",
    "TINY",
    "Chunk",
    "Header",
    "automatic_size",
    "decode",
    "decode_files",
    "decode_part",
    "digests",
    "header_of",
    "in_order",
    "is_grey",
    "read_header",
    "reason_of",
    "refuse_bomb",
    "shifted",
    "square",
]

DECODING = 1
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF")  # nothing else is tried, whatever a file's name says
# What Pillow's readers are known to raise on damaged files.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# Mending these changes what stat says of the file; other errors of disk or network may pass by themselves.
_LASTING = (None, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP)
_EIGHT_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # 16-bit value -> 8-bit value, rounded
_ORIENT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DIGEST = 16  # bytes
_CHUNK = 16  # files a thread takes at a time: few, so that Ctrl-C is answered at once
_PIXELS, _A_BYTE = 6000 * 6000, 32  # that any file may have, and that a larger one may for each of its bytes
TINY = 128 * 128  # pixels; below, Python's own work dominates and a second thread only gets in the way

T = TypeVar("T")


class Header(NamedTuple):
    width: int
    height: int
    grey: bool


def content_of(root: Path, file: ImageFile) -> bytes:
    with open(os.path.join(root, file.path), "rb", buffering=0) as opened:
        return opened.readall()


def read_header(root: Path, file: ImageFile) -> Header | str:
    """Size and colour of one file, or why it cannot be an image. Pixels are read for palette images only."""
    path = os.path.join(root, file.path)
    if found := png_header(path):
        width, height, grey = found
        if width * height <= min(_PIXELS, _A_BYTE * file.n_bytes):
            return Header(width, height, grey)
    return header_of(path, file)


def header_of(opened: str | IO[bytes], file: ImageFile) -> Header | str:
    try:
        with Image.open(opened, formats=_FORMATS) as image:
            return _header(image, file.n_bytes)
    except DAMAGED as error:
        return reason_of(error, file)


def _header(image: Image.Image, n_bytes: int) -> Header:
    refuse_bomb(image, n_bytes)
    return Header(image.width, image.height, is_grey(image))


def refuse_bomb(image: Image.Image, n_bytes: int) -> None:
    """Raises Pillow's DecompressionBombError before a file of so few bytes is decoded to so many pixels.

    Sheets of white paper are the emptiest pictures there are, and need a bit for every ten pixels.
    """
    if image.width * image.height > max(_PIXELS, _A_BYTE * n_bytes):
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels in {n_bytes:,} bytes")


def is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        r, g, b = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3).T
        return bool((r == g).all() and (g == b).all())
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def reason_of(error: BaseException, file: ImageFile) -> str:
    if file.n_bytes == 0:
        return "empty file"
    if file.n_bytes < 0:
        return "broken link"
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, WebP, BMP or TIFF image"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels (decompression bomb?)"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return reason.encode("utf-8", "backslashreplace").decode("utf-8")


def automatic_size(headers: Iterable[Header]) -> int:
    """The side images get when none is asked for; a Counter stands for as many headers as it says.

    The common side if all are squares of one size up to 96; else the (lower) median of the shorter sides,
    rounded down to a multiple of 8, and 96 at most.
    """
    counts = Counter(headers)
    w, h, _ = first = next(iter(counts))
    if w == h <= 96 and all(header[:2] == first[:2] for header in counts):
        return w
    sides: Counter[int] = Counter()
    for header, count in counts.items():
        sides[min(header.width, header.height)] += count
    median = sorted(sides.elements())[(counts.total() - 1) // 2]
    return min(96, median // 8 * 8) if median >= 8 else median


def decode(content: bytes, size: int, channels: int) -> np.ndarray:
    """One encoded image to uint8 [channels, size, size].

    Raises one of Pillow's many errors for damaged files.
    """
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        refuse_bomb(image, len(content))
        return _pixels(image, size, channels)


def _pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """uint8 [channels, size, size] of an image that was opened, but not loaded."""
    image.draft("", (2 * size, 2 * size))  # JPEG decodes at 1/2, 1/4, 1/8 while twice the side is left
    image.load()
    turn = _ORIENT.get(_orientation(image))
    plain = _eight_bit(image, "L" if channels == 1 else "RGB")
    upright = plain if turn is None else plain.transpose(turn)
    content = square(upright, size).tobytes()  # sooner than by the array interface
    return np.frombuffer(content, np.uint8).reshape(size, size, channels).transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not image.info:
        return 1  # the chunks that could tell another would be there
    try:
        return int(image.getexif().get(0x0112, 1))
    except DAMAGED:
        return 1  # a damaged EXIF block does not spoil the picture


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """`image` in 8-bit `mode` (L or RGB), alpha laid over white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_EIGHT_BIT[np.asarray(image)]).convert(mode)
    if image.mode == "I":  # 16-bit PNG before Pillow 11, or 32-bit TIFF
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"32-bit values from {values.min()} to {values.max()}; up to 16 bits are read")
        return Image.fromarray(_EIGHT_BIT[values]).convert(mode)
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also true for NaN
            raise ValueError(f"float values from {values.min():g} to {values.max():g}; [0, 1] is read")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert(mode)
    return image if image.mode == mode else image.convert(mode)


def square(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """The centre square of `image`, resized to `size` x `size` (bicubic, antialiased) where it must be."""
    w, h = image.size
    side = min(w, h)
    if side == size:
        left, top = (w - side) // 2, (h - side) // 2
        return image.crop((left, top, left + side, top + side))
    x, y = (w - side) / 2, (h - side) / 2  # halves count: a JPEG decoded at 1/8 has large pixels
    return image.resize((size, size), resample, box=(x, y, x + side, y + side))


class Chunk(NamedTuple):
    """What one thread made of a few files."""

    rows: list[np.ndarray] | np.ndarray  # uint8 [C, S, S] of each readable file
    digests: list[bytes]  # of every file
    bad: list[tuple[int, str]]  # (index of the file, reason)
    lasting: bool  # whether the reasons hold as long as the files stay the same
    headers: Counter[Header]  # how many files have which


def decode_part(root: Path, files: Sequence[ImageFile], size: int, channels: int) -> Chunk:
    """Decode some files; `bad` counts from the first of them."""
    rows, hashes, bad, lasting = [], [], [], True
    headers: Counter[Header] = Counter()
    for i, file in enumerate(files):
        content = b""
        try:
            content = content_of(root, file)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                headers[_header(image, len(content))] += 1
                rows.append(_pixels(image, size, channels))
        except DAMAGED as error:
            bad.append((i, reason_of(error, file)))
            lasting &= getattr(error, "errno", None) in _LASTING and not isinstance(error, MemoryError)
        hashes.append(_digest(content))
    return Chunk(rows, hashes, bad, lasting, headers)


def shifted(chunk: Chunk, first: int) -> Chunk:
    """The same of a part that begins with file `first` of all."""
    return chunk._replace(bad=[(first + i, reason) for i, reason in chunk.bad])


def decode_files(
    root: Path,
    files: Sequence[ImageFile],
    size: int,
    channels: int,
    pixels: int,
    workers: int | None,
) -> Generator[Chunk, None, None]:
    """Decode all files in order, on all cores unless `pixels` (of a typical file) says they are tiny."""

    def work(part: range) -> Chunk:
        return shifted(decode_part(root, files[part.start : part.stop], size, channels), part.start)

    return in_order(work, len(files), 1 if pixels < TINY and workers is None else workers)


def digests(root: Path, files: Sequence[ImageFile], workers: int | None) -> Generator[list[bytes], None, None]:
    """The content hash of every file, in order, a few at a time; an unreadable file counts as empty."""

    def work(part: range) -> list[bytes]:
        return [_digest(_content_or_nothing(root, files[i])) for i in part]

    return in_order(work, len(files), workers)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def _content_or_nothing(root: Path, file: ImageFile) -> bytes:
    try:
        return content_of(root, file)
    except OSError:
        return b""


def in_order(work: Callable[[range], T], n: int, workers: int | None, each: int = _CHUNK) -> Generator[T, None, None]:
    """`work` on 0..n-1 in ranges of `each`, results in order. Pillow and hashlib release the interpreter lock."""
    parts = [range(i, min(i + each, n)) for i in range(0, n, each)]
    if workers is None:
        workers = len(all_cores())
    if workers <= 1:
        yield from map(work, parts)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="swell-decode", initializer=free_cores)
    try:
        yield from pool.map(work, parts)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
