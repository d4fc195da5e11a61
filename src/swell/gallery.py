"""What a method or a probe can show in a report: rows of pictures with words. The report draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture.

    Attributes:
        pixels: an image uint8 [C, H, W], or a map [h, w] of which class of the gallery is where, -1 where none is.
        about: a few words of its own, under it.
        key: the class of the gallery that the whole picture stands for; it gets a frame of that colour.
    """

    pixels: np.ndarray
    about: str = ""
    key: int | None = None


@dataclass(frozen=True, eq=False)
class Strip:
    """Pictures side by side under one heading."""

    heading: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Rows of strips, each row about one thing, which `row` names ("sample").

    Attributes:
        note: what one sees, in plain words, above the pictures.
        details: how it was made and how far to trust it, below them.
        classes: names for the numbers in maps and keys; those that occur are in the legend.
    """

    title: str
    note: str
    row: str
    rows: Sequence[Sequence[Strip]]
    classes: Sequence[str] = ()
    details: str = ""


def as_pixels(x: Tensor) -> np.ndarray:
    """Images float [.., C, H, W] in [0, 1] -> uint8."""
    return (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
