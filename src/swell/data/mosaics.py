"""Scenes: images with a class for every pixel. Here made of labelled images, for want of a segmentation set.

    scenes = Mosaics(test, count=1000, tiles=2, seed=0)     # canvas of 2 x 2 samples
    images, maps = scenes[:64]                              # uint8 [64, C, H, W], int16 [64, H, W]

A mosaic is a window on a wall of samples, laid like bricks: the rows start at a random height and every row at a
random place of its own. So the borders between samples do not keep to the grid of an encoder's patches, and at the edge
of the window samples are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from swell.data.source import Source
from swell.errors import InputError
from swell.seeding import generator_for

IGNORE = -1  # of a map: a pixel without a class, which is neither learnt from nor scored
FEWEST_TILES, MOST_TILES = 2, 4


class Scenes(Protocol):
    """What the dense probe reads, a slice at a time, so that no more than that need lie in memory."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names, by the values of the maps."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [M, C, H, W] and maps int16 [M, H, W] of classes from 0 up, or `IGNORE`."""
        ...

    def describe(self) -> dict[str, Any]:
        """What they are, for JSON: scores on scenes of another description do not compare."""
        ...


def check_tiles(tiles: int) -> int:
    """Raises InputError for tiles that are no whole number from 2 to 4."""
    if not isinstance(tiles, int) or isinstance(tiles, bool) or not FEWEST_TILES <= tiles <= MOST_TILES:
        raise InputError(f"tiles {tiles!r}", f"a whole number from {FEWEST_TILES} to {MOST_TILES}", "2 is usual")
    return tiles


class Mosaics:
    """`count` mosaics of the labelled images of `source`; mosaic i depends on the source, `seed` and i alone.

    Args:
        tiles: height and width of the canvas in samples, 2 to 4. One row and one column more are partly visible.
        side: height and width of the canvas in pixels, where it shall be another one.

    Raises:
        InputError: no images, no labels, a single class, or a number that there is not.
    """

    def __init__(self, source: Source, count: int, tiles: int = 2, seed: int = 0, side: int | None = None) -> None:
        origin = source.provenance.origin
        if not source.is_images or source.labels is None:
            raise InputError(f"mosaics of {origin} (vectors or no labels)", "labelled images", "give labelled images")
        if len(np.unique(source.labels)) < 2:
            raise InputError(f"mosaics of {origin} (one class only)", "at least two classes", "choose another label")
        for name, value in (("mosaics", count), ("canvas side", 1 if side is None else side)):
            if value < 1:
                raise InputError(f"{name} {value}", "at least 1")
        self.source, self.count, self.tiles, self.seed = source, count, check_tiles(tiles), seed
        channels, *tile = source.shape
        height, width = (tiles * length if side is None else side for length in tile)
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.tile = (tile[0], tile[1])
        self.labels = source.labels.astype(np.int16)
        most = int(source.labels.max()) + 1
        self.classes: Sequence[str] = list(source.classes) or [str(k) for k in range(most)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        numbers = range(*rows.indices(self.count))
        images = np.empty((len(numbers), *self.shape), np.uint8)
        maps = np.empty((len(numbers), *self.shape[1:]), np.int16)
        for row, number in enumerate(numbers):
            self._lay(number, images[row], maps[row])
        return images, maps

    def describe(self) -> dict[str, Any]:
        return {"source": "mosaics", "tiles": self.tiles, "canvas": list(self.shape[1:]), "seed": self.seed}

    def _lay(self, number: int, image: np.ndarray, classes: np.ndarray) -> None:
        """Fill `image` [C, H, W] and `classes` [H, W]."""
        g = generator_for(self.seed, "mosaic", number)
        (_, height, width), (h, w) = self.shape, self.tile
        rows, columns = -(-height // h) + 1, -(-width // w) + 1  # enough for any start
        picked = torch.randint(len(self.source), (rows, columns), generator=g).numpy()
        top = -int(torch.randint(h, (1,), generator=g))
        starts = -torch.randint(w, (rows,), generator=g).numpy()
        for i in range(rows):
            for j in range(columns):
                y, x = top + i * h, int(starts[i]) + j * w
                on_canvas = np.s_[max(y, 0) : min(y + h, height), max(x, 0) : min(x + w, width)]
                of_tile = np.s_[max(-y, 0) : height - y, max(-x, 0) : width - x]
                if y < height and x < width:
                    image[:, *on_canvas] = self.source.samples[picked[i, j]][:, *of_tile]
                    classes[on_canvas] = self.labels[picked[i, j]]
