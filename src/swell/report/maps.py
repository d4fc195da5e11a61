"""Embedding maps: thousands of samples on a plane, as compact arrays that the page's script draws and searches."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swell.report.pictures import Sprite
from swell.report.svg import COLOURS, SHAPES, Key, point_key

MOST_POINTS = 20_000  # more are neither smooth nor small
MOST_CLASSES = COLOURS * SHAPES  # more than these nobody can tell apart
SHOWN_NEIGHBOURS = 6
FRAME = (11_520, 8_640)  # width and height of the plane, in the whole numbers that places are told in
_MARGIN = 224
_NONE = 65_535  # of a sample without a class


@dataclass(frozen=True, eq=False)
class Layout:
    """Where one encoder puts the n samples: xy [n, 2], the rows `near` [n, k] of the nearest others, clusters [n]."""

    name: str
    xy: np.ndarray
    near: np.ndarray
    clusters: np.ndarray


@dataclass(frozen=True, eq=False)
class Colouring:
    """A way to colour the samples: which of `names` each is, codes [n]; -1 where it is none of them."""

    name: str
    names: Sequence[str]
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """The same n samples as one or several encoders see them; `sheet` holds a picture of each, if they are images."""

    title: str
    layouts: Sequence[Layout]
    colourings: Sequence[Colouring] = ()
    sheet: Sprite | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.layouts[0].xy)


def draw_map(part: EmbeddingMap) -> dict[str, Any]:
    """What the template needs of a map. Raises ValueError where its parts are not of equally many samples."""
    n = len(part)
    counts = [len(a) for layout in part.layouts for a in (layout.xy, layout.near, layout.clusters)]
    counts += [len(colouring.codes) for colouring in part.colourings]
    if set(counts) != {n} or n > MOST_POINTS:
        raise ValueError(
            f"map {part.title!r}: {n} places (at most {MOST_POINTS}) beside arrays of {sorted(set(counts))}"
        )
    groups = 1 + max((int(layout.clusters.max(initial=0)) for layout in part.layouts), default=0)
    legends = [{**_legend(c.name, c.names), "blank": bool((c.codes < 0).any())} for c in part.colourings]
    if groups > 1:
        legends.append(_legend("cluster", [f"cluster {i + 1}" for i in range(groups)]))
    sheet = part.sheet
    return {
        "title": part.title,
        "note": part.note,
        "count": n,
        "layouts": [layout.name for layout in part.layouts],
        "legends": [legend for legend in legends if legend["keys"]],
        "uncoloured": [legend for legend in legends if not legend["keys"]],
        "sheet": sheet.uri if sheet else "",
        "data": {
            "count": n,
            "size": FRAME,
            "layouts": [
                {
                    "xy": _packed(place(layout.xy)),
                    "near": _packed(layout.near[:, :SHOWN_NEIGHBOURS]),
                    "k": min(SHOWN_NEIGHBOURS, layout.near.shape[1]),
                    "cluster": _packed(layout.clusters),
                }
                for layout in part.layouts
            ],
            "colourings": [
                {"name": c.name, "names": list(c.names), "codes": _packed(np.where(c.codes < 0, _NONE, c.codes))}
                for c in part.colourings
            ],
            "sheet": {"columns": sheet.columns, "tile": sheet.tile, "tip": _tip_size(sheet.tile)} if sheet else None,
        },
    }


def _legend(name: str, names: Sequence[str]) -> dict[str, Any]:
    keys: list[Key] = [point_key(word, i) for i, word in enumerate(names)] if len(names) <= MOST_CLASSES else []
    return {"name": name, "keys": keys, "count": len(names), "blank": False}


def _packed(values: np.ndarray) -> str:
    """Whole numbers 0 to 65,535 as little-endian 16-bit words in base64."""
    return base64.b64encode(np.ascontiguousarray(values).astype("<u2").tobytes()).decode("ascii")


def place(xy: np.ndarray) -> np.ndarray:
    """Coordinates [n, 2] of any scale -> whole numbers in the frame, y upwards, one scale for both axes."""
    xy = np.nan_to_num(np.asarray(xy, float), posinf=0.0, neginf=0.0)
    if not len(xy):
        return np.zeros((0, 2), int)
    low, high, frame = xy.min(0), xy.max(0), np.array(FRAME)
    scale = float(((frame - 2 * _MARGIN) / np.maximum(high - low, 1e-12)).min())
    centred = (xy - (low + high) / 2) * scale if scale < 1e12 else np.zeros_like(xy)
    return np.rint(frame / 2 + centred * [1, -1]).astype(int)


def _tip_size(tile: tuple[int, int]) -> tuple[int, int]:
    """Size of the picture under the pointer: a whole multiple of its tile, about 96 pixels."""
    factor = max(1, round(96 / max(tile)))
    return tile[0] * factor, tile[1] * factor
