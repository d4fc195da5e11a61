"""What the first bytes of an ordinary PNG say, at a quarter of the time that opening it as an image takes."""

from __future__ import annotations

import struct
import zlib

_START = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR"
_BYTES = 33  # signature, length, name, 13 bytes of header, checksum
# Bits by colour type. Palettes want a second look, and 16-bit grey with alpha is colour to Pillow (RGBA), by which the
# decoder judges: whatever opens a file must say the same of it.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 4: (8,), 6: (8, 16)}


def png_header(path: str) -> tuple[int, int, bool] | None:
    """Width, height and whether it is grey; None where Pillow must be asked (damage, palettes, LA of 16 bits)."""
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
