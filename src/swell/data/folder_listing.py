"""Which image files a folder holds."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from swell.errors import InputError

__all__ = ["SUFFIXES", "ImageFile", "Listing", "check_bad", "list_images", "listing", "told"]

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"}


class ImageFile(NamedTuple):
    """One line of a folder's listing. `path` is relative with forward slashes; a broken link has -1 bytes."""

    path: str
    n_bytes: int
    mtime_ns: int
    ctime_ns: int


class Listing(Sequence[ImageFile]):
    """Image files, kept as columns: a million tuples take seconds to make and to collect.

    Args:
        paths: of the files.
        numbers: int64 [N, 3] bytes, mtime and ctime of each.
    """

    def __init__(self, paths: list[str], numbers: np.ndarray) -> None:
        self.paths, self.numbers = paths, numbers

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, at: int) -> ImageFile: ...
    @overload
    def __getitem__(self, at: slice) -> Listing: ...
    def __getitem__(self, at: int | slice) -> ImageFile | Listing:
        if isinstance(at, slice):
            return Listing(self.paths[at], self.numbers[at])
        return ImageFile(self.paths[at], *self.numbers[at].tolist())

    def __iter__(self) -> Iterator[ImageFile]:
        return map(ImageFile, self.paths, *self.numbers.T.tolist())


def list_images(root: Path) -> tuple[Listing, int]:
    """Image files at any depth under `root`, sorted by path, and how many other files there are.

    Hidden files and folders are left out. Links to folders are followed, but each folder is read once: under
    its own name if it lies inside `root`, else under the first link to it. So loops end.

    Raises:
        InputError: the folder cannot be read.
    """
    paths: list[str] = []
    numbers = array("q")
    others = 0
    seen: set[tuple[int, int]] = set()
    links = [""]
    while links:
        links.sort(reverse=True)
        folders = [links.pop()]
        while folders:
            folder = folders.pop()
            before = f"{folder}/" if folder else ""
            with _entries(root, folder, seen) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    try:
                        inner = entry.is_dir()
                    except OSError:  # a link to itself
                        inner = False
                    if inner:
                        (links if entry.is_symlink() else folders).append(before + name)
                    elif name[name.rfind(".") :].lower() in SUFFIXES and (found := _numbers(entry)):
                        paths.append(before + name)
                        numbers.extend(found)
                    else:
                        others += 1
    order = sorted(range(len(paths)), key=paths.__getitem__)
    columns = np.array(numbers, np.int64).reshape(-1, 3)
    return Listing([paths[i] for i in order], columns[order]), others


@contextmanager
def _entries(root: Path, folder: str, seen: set[tuple[int, int]]) -> Iterator[list[os.DirEntry[str]]]:
    """What the folder holds; nothing where it was `seen` before.

    Of an open folder, where the system can list one, files are found without their whole paths being walked.
    """
    path = os.path.join(root, folder)
    where: str | int = path
    with ExitStack() as opened:
        try:
            if os.scandir in os.supports_fd:
                where = os.open(path, os.O_RDONLY)
                opened.callback(os.close, where)
            here = os.stat(where)
            entries = [] if (here.st_dev, here.st_ino) in seen else list(os.scandir(where))
        except OSError as error:
            raise InputError(
                f"cannot read {Path(root, folder)} ({os.strerror(error.errno or 0).lower()})",
                "a folder you may read",
                "mend its permissions or move it away",
            ) from None
        seen.add((here.st_dev, here.st_ino))
        yield entries


def _numbers(entry: os.DirEntry[str]) -> tuple[int, int, int] | None:
    """None for what is no file: a pipe or a device may never end, or never begin, when it is read."""
    try:
        s = entry.stat()
    except OSError:  # a broken link is told as one later
        return -1, 0, 0
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns) if stat.S_ISREG(s.st_mode) else None


def listing(root: Path) -> Listing:
    """The image files of a folder, sorted. Raises InputError where there is none."""
    files, others = list_images(root)
    if not files:
        raise InputError(
            f"{root} holds no images ({others:,} other files)",
            "JPEG, PNG, WebP, BMP or TIFF files",
            "check the folder",
        )
    return files


def check_bad(root: Path, files: Sequence[ImageFile], bad: list[tuple[int, str]], max_bad: float) -> None:
    """Raises InputError where more than the share `max_bad` of all files is unreadable, or every file."""
    if len(bad) > max_bad * len(files) or len(bad) == len(files):
        first = "; ".join(told(files[i], reason) for i, reason in bad[:3])
        raise InputError(
            f"{root}: {len(bad):,} of {len(files):,} images are unreadable ({first})",
            f"at most {max_bad:.1%} of them",
            "mend or remove them, or allow a larger share",
        )


def told(file: ImageFile, reason: str) -> str:
    """`path: reason`, printable whatever bytes the path holds."""
    return f"{file.path}: {reason}".encode("utf-8", "backslashreplace").decode("utf-8")
