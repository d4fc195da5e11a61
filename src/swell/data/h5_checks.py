"""What is looked at in an HDF5 file before its library reads it: links to other files, heaps without an end, types."""

from __future__ import annotations

import contextlib
import mmap
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["attribute", "little_room", "refuse_endless_heaps", "refuse_links", "refuse_odd"]

_MAGIC, _HEAD, _OBJECT = b"GCOL\1", 16, 16  # of a heap of version 1; bytes of its header, and of an object's
_LEAST = 4096  # bytes of a heap
_ROOM = 1 << 29  # bytes


def refuse_links(file: Any) -> None:
    """Raises ValueError for a link to another file, which reading, and even more so writing, would follow."""
    from h5py import h5l

    out: list[bytes] = []

    def look(name: bytes, info: Any) -> None:  # which may not raise
        if info.type not in (h5l.TYPE_HARD, h5l.TYPE_SOFT):
            out.append(name)

    file.id.links.visit(look, info=True)
    if out:
        raise ValueError(f"{out[0].decode('utf-8', 'replace')} is a link to another file")


def refuse_endless_heaps(path: Path) -> None:
    """Raises ValueError where words lie in a heap that leads back into itself: the library would go round for ever.

    A global heap is a header (magic, version, 3 bytes, size) and objects (number, references, 4 bytes, size) to its
    end; object 0 is the free room, whose size counts its own header. The library adds up these sizes as they are.
    Source: HDF5 File Format Specification 3.0, III.E.
    """
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        at = whole.find(_MAGIC)
        while at >= 0:
            size = int.from_bytes(whole[at + 8 : at + _HEAD], "little")
            if _LEAST <= size <= len(whole) - at:  # any other is refused by the library, or is none
                _walk(whole, at, at + size)
            at = whole.find(_MAGIC, at + 1)


def _walk(whole: mmap.mmap, start: int, stop: int) -> None:
    at = start + _HEAD
    while stop - at >= _OBJECT:
        number, size = struct.unpack_from("<H6xQ", whole, at)
        step = _OBJECT + -(-size // 8) * 8 if number else size
        if not 0 < step <= stop - at:
            raise ValueError(f"a heap of words at byte {start:,} that leads out of itself")
        at += step


def refuse_odd(name: str, kind: Any) -> None:
    """Raises ValueError for an h5py type other than numbers, booleans and words.

    Swell's files hold no other, and on malformed ones of other kinds the library ends the process.
    """
    from h5py import h5t

    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING):
        raise ValueError(f"{name} is not made of numbers or words")


def attribute(place: Any, name: str) -> Any:
    """The value of an attribute of a group or dataset. Raises KeyError where there is none, and as `refuse_odd`."""
    refuse_odd(f"{name!r} of {place.name}", place.attrs.get_id(name).get_type())
    with little_room(Path(place.file.filename)):
        return place.attrs[name]


@contextlib.contextmanager
def little_room(path: Path) -> Iterator[None]:
    """While words of the file are read the process grows by no more than `_ROOM` and a few times the file, where the
    system can see to that: the library makes room for the length a word claims, up to 4 GiB, before it looks further.

    The error is the library's own, an OSError.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # not Linux
        yield
        return
    soft, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + _ROOM + 8 * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
