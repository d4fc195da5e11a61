"""What the first bytes of an ordinary PNG say, at a quarter of the time that opening it as an image takes."""

from __future__ import annotations

import struct
import zlib

_START = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR"
_BYTES = 33  # signature, length, name, 13 bytes of header, checksum
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 4: (8, 16), 6: (8, 16)}  # bits by colour type; palettes want a second look


def png_header(path: str) -> tuple[int, int, bool] | None:
    """Width, height and whether it is grey; None for anything but an undamaged header without a palette."""
    try:
        with open(path, "rb", buffering=0) as opened:
            start = opened.read(_BYTES)
    except OSError:
        return None
    if len(start) < _BYTES or not start.startswith(_START):
        return None
    width, height, depth, colour, check = struct.unpack(">IIBB3xI", start[16:])
    if depth not in _DEPTHS.get(colour, ()) or zlib.crc32(start[12:29]) != check or not width * height:
        return None
    return width, height, colour in (0, 4)
