"""Pictures of generated samples for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from swell.files import atomic_path


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Images uint8 [N, C, H, W] on white, `columns` a row, one pixel apart: uint8 [rows, columns, 3]."""
    height, width = images.shape[2:]
    rows = -(-len(images) // columns)
    page = np.full((rows * (height + 1), columns * (width + 1), 3), 255, np.uint8)
    for number, image in enumerate(images):
        colour = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)  # [3, H, W]
        y, x = number // columns * (height + 1), number % columns * (width + 1)
        page[y : y + height, x : x + width] = colour.transpose(1, 2, 0)
    return page


def write_samples(path: Path, generated: np.ndarray, real: np.ndarray, side: int = 10) -> None:
    """side x side generated images on the left, as many real ones on the right, enlarged to be seen."""
    sheets = [sheet(images[: side * side], side) for images in (generated, real)]
    sheets = [np.pad(s, ((0, max(map(len, sheets)) - len(s)), (0, 0), (0, 0)), constant_values=255) for s in sheets]
    gap = np.full((len(sheets[0]), max(generated.shape[3] // 2, 2), 3), 255, np.uint8)
    _write(path, np.concatenate([sheets[0], gap, sheets[1]], axis=1), generated.shape)


def write_pairs(path: Path, generated: np.ndarray, real: np.ndarray, columns: int = 12) -> None:
    """Each generated image uint8 [N, C, H, W] above the real one it is closest to, the closest pairs first."""
    parts = []
    for start in range(0, len(generated), columns):
        parts += [sheet(images[start : start + columns], columns) for images in (generated, real)]
        parts.append(np.full((max(generated.shape[2] // 4, 2), parts[0].shape[1], 3), 255, np.uint8))
    _write(path, np.concatenate(parts), generated.shape)


def _write(path: Path, pixels: np.ndarray, shape: tuple[int, ...]) -> None:
    scale = max(round(32 / max(shape[2:])), 1)
    picture = Image.fromarray(pixels)
    with atomic_path(path) as temporary:
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(temporary, "PNG")
