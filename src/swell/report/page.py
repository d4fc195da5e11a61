"""The report: one HTML file that holds everything it shows and asks nothing of the network.

Build a `Page` from the parts there are and hand it to `write_report`. All text is escaped wherever it lands,
for names of classes and files come from users; on top of that the page forbids itself every request and every
script but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from swell.files import write_text
from swell.gallery import Gallery
from swell.report.galleries import draw
from swell.report.pictures import channels_note, png_data_uri, sprite
from swell.report.svg import Chart, Series, chart_keys, line_chart, place, point_key, scatter
from swell.report.tables import Cell, Column, Table, decimals, header_unit, show

__all__ = [
    "Cell",
    "Chart",
    "Column",
    "EmbeddingMap",
    "Page",
    "Pairs",
    "Series",
    "Table",
    "render",
    "write_report",
]

_MAX_CLASSES = 20  # more than these nobody can tell apart
_MAX_PAIRS = 24


@dataclass(frozen=True, eq=False)
class Pairs:
    """Generated samples beside the real ones nearest to them: both uint8 [n, C, H, W], distance [n]."""

    title: str
    generated: np.ndarray
    nearest: np.ndarray
    distance: Sequence[float] | np.ndarray
    note: str = ""


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Samples on a plane: xy [n, 2] (see `project`), images uint8 [n, C, H, W] and labels [n] if any."""

    title: str
    xy: np.ndarray
    images: np.ndarray | None = None
    labels: Sequence[str] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """Everything a report may hold; parts left out do not appear.

    `verdict` is the first thing read, in plain words. `facts` say what was run and with what, `notices` what
    one must know before believing a number (a generator that saw labels, a run cut short). `recipe` is TOML.
    """

    title: str
    verdict: str = ""
    facts: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = ()
    tables: Sequence[Table] = ()
    curves: Sequence[Chart] = ()
    spectra: Sequence[Chart] = ()
    galleries: Sequence[Gallery] = ()
    pairs: Pairs | None = None
    maps: Sequence[EmbeddingMap] = ()
    recipe: str = ""
    footer: str = ""


def write_report(path: Path | str, page: Page) -> None:
    """Write `page` to `path`, whole or not at all. Raises InputError when the place cannot be written."""
    write_text(path, render(page))


def render(page: Page) -> str:
    """The HTML of `page`; equal pages give equal text."""
    script = _own("script.js")
    return (
        _environment()
        .from_string(_own("page.html"))
        .render(
            page=page,
            style=Markup(_own("style.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            tables=[show(table) for table in page.tables],
            curves=[_chart(chart) for chart in page.curves],
            spectra=[_chart(chart) for chart in page.spectra],
            galleries=[draw(gallery) for gallery in page.galleries if gallery.rows],
            pairs=_pairs(page.pairs) if page.pairs is not None and len(page.pairs.generated) else None,
            maps=[_map(part) for part in page.maps],
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["header_unit"] = header_unit
    return environment


def _own(name: str) -> str:
    return package_files("swell.report").joinpath(name).read_text(encoding="utf-8")


def _chart(chart: Chart) -> dict[str, Any]:
    return {"title": chart.title, "note": chart.note, "svg": line_chart(chart), "keys": chart_keys(chart)}


def _pairs(pairs: Pairs) -> dict[str, Any]:
    """The closest pairs first: if anything was copied, it is at the top."""
    distance = np.asarray(pairs.distance, float)
    if not len(distance) == len(pairs.generated) == len(pairs.nearest):
        counts = f"{len(pairs.generated)} generated, {len(pairs.nearest)} nearest, {len(distance)} distances"
        raise ValueError(f"pairs {pairs.title!r}: {counts}")
    order = np.argsort(distance, kind="stable")[:_MAX_PAIRS]
    digits = decimals(distance[order][np.isfinite(distance[order])].tolist())
    items = [
        (png_data_uri(pairs.generated[i]), png_data_uri(pairs.nearest[i]), f"{distance[i]:.{digits}f}") for i in order
    ]
    high, wide = pairs.generated.shape[2:]
    scale = max(1, round(64 / max(high, wide))) if max(high, wide) <= 64 else 64 / max(high, wide)
    return {
        "title": pairs.title,
        "note": _sentences(pairs.note, channels_note(pairs.generated.shape[1])),
        "items": items,
        "hidden": len(distance) - len(items),
        "width": max(1, round(wide * scale)),
        "height": max(1, round(high * scale)),
    }


def _map(part: EmbeddingMap) -> dict[str, Any]:
    places = place(part.xy)
    names = sorted(set(part.labels), key=_natural) if part.labels is not None else []
    codes = [names.index(label) for label in part.labels] if part.labels is not None else None
    for what in (part.labels, part.images):
        if what is not None and len(what) != len(places):
            raise ValueError(f"map {part.title!r}: {len(places)} places for {len(what)} labels or images")
    coloured = 0 < len(names) <= _MAX_CLASSES
    sheet = sprite(part.images) if part.images is not None and len(part.images) else None
    keys = [point_key(name, i) for i, name in enumerate(names)] if coloured else []
    alt = f"{part.title}: {len(places)} samples as dots"
    alt += f", coloured by {len(names)} labels" if coloured else ""
    columns = sheet.columns if sheet else 0
    data = {"xy": places.reshape(-1).tolist(), "names": names, "label": codes, "columns": columns}
    return {
        "title": part.title,
        "note": _sentences(part.note, channels_note(part.images.shape[1]) if part.images is not None else ""),
        "svg": scatter(places, codes if coloured else None, alt),
        "keys": keys,
        "classes": len(names),
        "sheet": sheet,
        "tip": _tip_size(sheet.tile) if sheet else (0, 0),
        "data": data,
        "count": len(places),
    }


def _tip_size(tile: tuple[int, int]) -> tuple[int, int]:
    """Size of the picture under the pointer: a whole multiple of its tile, about 96 pixels."""
    factor = max(1, round(96 / max(tile)))
    return tile[0] * factor, tile[1] * factor


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers in order of size, then words."""
    return (0, float(name), name) if name.isdecimal() else (1, 0.0, name)


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)
