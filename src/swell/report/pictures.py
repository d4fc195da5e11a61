"""Images as PNG data: one picture, a sprite sheet, a contact sheet. Pixels are uint8, channels first."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from swell.files import write_bytes

_EXACT = 1 << 20  # bytes of pixels up to which a sprite sheet is a PNG, exact; larger ones are JPEGs
_PIXELS, _TILES, _QUALITY = 6_300_000, (32, 24, 16), 80  # of a JPEG sheet; tiles of whole blocks do not bleed


@dataclass(frozen=True)
class Sprite:
    """Many images in one sheet: image i stands at column i % columns, row i // columns."""

    uri: str  # data URI
    columns: int
    rows: int
    tile: tuple[int, int]  # (width, height) of one image in the sheet, pixels
    size: tuple[int, int]  # (width, height) of one image before it was made smaller


def visible(images: np.ndarray) -> np.ndarray:
    """[n, C, H, W] uint8 of any channel count -> [n, H, W, 1 or 3]: the first three, or the first."""
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape[1:]:
        raise ValueError(f"images {images.dtype}{list(images.shape)}: expected uint8 [n, C, H, W]")
    channels = 3 if images.shape[1] >= 3 else 1
    return np.ascontiguousarray(images[:, :channels].transpose(0, 2, 3, 1))


def channels_note(channels: int) -> str:
    """What a picture of samples with this many channels shows; empty for grey and RGB."""
    if channels in (1, 3):
        return ""
    return f"Pictures show {'the first three' if channels > 3 else 'the first'} of {channels} channels."


def png_bytes(pixels: np.ndarray) -> bytes:
    """[H, W, 1 or 3] uint8 -> PNG."""
    buffer = io.BytesIO()
    _picture(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_data_uri(image: np.ndarray, longest: int = 128) -> str:
    """One image [C, H, W] uint8 as a data URI, made smaller when a side exceeds `longest`."""
    return data_uri(png_bytes(_shrink(visible(image[None]), longest)[0]))


def sprite(images: np.ndarray, columns: int = 0, longest: int = 32) -> Sprite:
    """Images [n, C, H, W] uint8 in one sheet; those with a side above `longest` are made smaller, none larger.

    Sheets of up to a megabyte of pixels are exact. Larger ones are JPEGs with square tiles, the smaller the more there
    are, so that tens of thousands of pictures take a few megabytes.
    """
    tiles = _shrink(visible(images), longest)
    if tiles.nbytes > _EXACT:
        side = next((side for side in _TILES if len(tiles) * side * side <= _PIXELS), _TILES[-1])
        tiles = _padded(_shrink(tiles, side))
    sheet = _grid(tiles, columns, gap=0)
    high, wide = tiles.shape[1:3]
    columns, rows = sheet.shape[1] // wide, sheet.shape[0] // high
    uri = data_uri(png_bytes(sheet)) if tiles.nbytes <= _EXACT else _jpeg_uri(sheet)
    return Sprite(uri, columns, rows, (wide, high), (images.shape[3], images.shape[2]))


def _padded(tiles: np.ndarray) -> np.ndarray:
    """Tiles [n, H, W, C] with sides that are whole blocks of 8 pixels, their edges repeated."""
    high, wide = (-size % 8 for size in tiles.shape[1:3])
    return np.pad(tiles, ((0, 0), (0, high), (0, wide), (0, 0)), mode="edge")


def _jpeg_uri(sheet: np.ndarray) -> str:
    buffer = io.BytesIO()
    _picture(sheet).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def contact_sheet(images: np.ndarray, columns: int = 0, shown: int = 64, gap: int = 1, side: int = 48) -> np.ndarray:
    """The first `shown` of images [n, C, H, W] uint8 side by side -> pixels [H, W, 1 or 3].

    Small images are enlarged by a whole factor to about `side` pixels, so that every pixel stays visible.
    """
    tiles = visible(images[:shown])
    factor = max(1, side // max(tiles.shape[1:3]))
    return _grid(tiles.repeat(factor, 1).repeat(factor, 2), columns, gap)


def write_contact_sheet(path: Path | str, images: np.ndarray, columns: int = 0, shown: int = 64) -> None:
    """`contact_sheet` as a PNG file."""
    write_bytes(path, png_bytes(contact_sheet(images, columns, shown)))


def _grid(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Tiles [n, H, W, C] row by row on a sheet, about square unless `columns` is given; gaps are white."""
    n, high, wide, channels = tiles.shape
    if n == 0:
        raise ValueError("a sheet needs at least one image")
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (high + gap) - gap, columns * (wide + gap) - gap, channels), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (high + gap), i % columns * (wide + gap)
        sheet[y : y + high, x : x + wide] = tile
    return sheet


def _shrink(tiles: np.ndarray, longest: int) -> np.ndarray:
    """Tiles [n, H, W, C] with no side above `longest`, by averaging areas."""
    high, wide = tiles.shape[1:3]
    if max(high, wide) <= longest:
        return tiles
    scale = longest / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    small = [np.asarray(_picture(tile).resize(size, Image.Resampling.BOX)) for tile in tiles]
    return np.stack(small).reshape(len(tiles), size[1], size[0], tiles.shape[-1])


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
