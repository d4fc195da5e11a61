"""The members of a tar file, found by reading its headers alone. Nothing is ever extracted.

Plain tar as POSIX, GNU and Python write it (ustar, pax, GNU long names, sizes beyond 8 GiB); neither compressed nor
sparse. Written strictly for files from anywhere: every number is checked against the file's own size, so that no header
can make the walk go backwards, stand still, or read much at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from swell.errors import InputError

__all__ = ["TAIL", "Member", "walk"]

BLOCK = 512
TAIL = 64  # last bytes of a member that are read along with the next header
_MOST_EXTRA = 1 << 20  # bytes of a long name or of a pax header
_FILES = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever size they claim
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"(\xb5": "unzstd"}


class Member(NamedTuple):
    """One entry. `kind` is file, other (a folder, link, device or pipe) or end, the mark after the last entry."""

    kind: str
    name: str = ""
    offset: int = 0  # of its contents in the tar file
    size: int = 0
    tail: bytes = b""  # the last bytes of its contents


def walk(handle: int, total: int, path: str) -> Iterator[Member]:
    """Every entry of the open tar file `handle` of `total` bytes, in order; `path` is for messages.

    The last is the end mark. A file that ends at the border of two entries without one gives none: whether something is
    missing cannot be told.

    Raises:
        InputError: no tar file, a damaged header, contents that are cut short, sparse members.
    """
    at, block = 0, os.pread(handle, BLOCK, 0)
    if not block:
        raise _damaged(path, 0, "an empty file")
    name, size = "", -1  # what an extra header says of the next entry
    while block:
        if len(block) < BLOCK:
            raise _damaged(path, at, "cut short")
        if not block.strip(b"\0"):
            yield Member("end")
            return
        if not _checked(block):
            raise _not_tar(path, block) if at == 0 else _damaged(path, at, "not a header")
        kind, offset = block[156:157], at + BLOCK
        if kind in (b"S", b"M", b"V"):
            raise InputError(
                f"{path} (a sparse member or several volumes, at byte {at:,})", "a plain tar", "write it anew"
            )
        extra = kind in (b"x", b"g", b"L", b"K", b"X")
        own = _number(block[124:136], path, at)
        count = own if extra or size < 0 else size
        count = 0 if kind in _WITHOUT_DATA else count
        if count < 0 or offset + count > total:
            raise _damaged(path, at, f"{count:,} bytes announced, {max(total - offset, 0):,} there: cut short")
        padding = -count % BLOCK
        if extra:
            if count > _MOST_EXTRA:
                raise _damaged(path, at, f"a header of {count:,} bytes")
            text = os.pread(handle, count, offset)
            if kind == b"L":
                name = _text(text)
            elif kind in (b"x", b"X"):
                pax = _pax(text, path, at)
                if any(key.startswith("GNU.sparse") for key in pax):
                    raise InputError(f"{path} (a sparse member at byte {at:,})", "a plain tar", "write it anew")
                name, size = pax.get("path", name), _whole(pax["size"], path, at) if "size" in pax else -1
            block = os.pread(handle, BLOCK, offset + count + padding)
        else:
            kept = min(count, TAIL)
            read = os.pread(handle, kept + padding + BLOCK, offset + count - kept)
            own_name = name or _name(block)
            folder = kind in _WITHOUT_DATA or own_name.endswith("/")
            yield Member("file" if kind in _FILES and not folder else "other", own_name, offset, count, read[:kept])
            name, size, block = "", -1, read[kept + padding :]
        at = offset + count + padding
        if at > total:
            raise _damaged(path, total, "cut short")


def _checked(block: bytes) -> bool:
    try:
        wanted = int(block[148:156].strip(b" \0") or b"-", 8)
    except ValueError:
        return False
    return wanted == sum(block[:148]) + 8 * 32 + sum(block[156:])


def _number(field: bytes, path: str, at: int) -> int:
    """Octal digits, or GNU's big-endian binary after a first bit of 1."""
    if field[0] & 0x80:
        return -1 if field[0] & 0x40 else int.from_bytes(bytes([field[0] & 0x3F]) + field[1:])
    digits = field.split(b"\0")[0].strip() or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise _damaged(path, at, "a size that is no number")
    return int(digits, 8)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:262] == b"ustar" and block[257:265] != b"ustar  \0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(text: bytes, path: str, at: int) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header."""
    found: dict[str, str] = {}
    start = 0
    while start < len(text) and text[start]:
        length = text[start : start + 8].partition(b" ")[0]
        end = start + int(length) if length.isdigit() else 0
        key, equals, value = text[start + len(length) + 1 : end - 1].partition(b"=")
        if not equals or not start < end <= len(text) or text[end - 1 : end] != b"\n":
            raise _damaged(path, at, "a damaged pax header")
        found[_text(key)] = value.decode("utf-8", "surrogateescape")
        start = end
    return found


def _whole(text: str, path: str, at: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _damaged(path, at, "a size that is no number")
    return int(text)


def _damaged(path: str, at: int, what: str) -> InputError:
    return InputError(f"{path} ({what}, at byte {at:,})", "a whole tar file", "copy or make it again")


def _not_tar(path: str, block: bytes) -> InputError:
    for magic, tool in _COMPRESSED.items():
        if block.startswith(magic):
            why = "a plain tar, in which any image can be reached at once"
            return InputError(f"{path} (compressed)", why, f"run {tool} on it; images hardly compress")
    return InputError(f"{path} (no tar header)", "a tar file", "check the file")
