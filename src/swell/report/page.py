"""The report: one HTML file that holds everything it shows and asks nothing of the network.

Build a `Page` from the parts there are and hand it to `write_report`. All text is escaped wherever it lands,
for names of classes and files come from users; on top of that the page forbids itself every request and every
script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from swell.files import write_text
from swell.gallery import Gallery
from swell.report.galleries import draw
from swell.report.maps import EmbeddingMap, draw_map
from swell.report.pictures import channels_note, png_data_uri
from swell.report.svg import Chart, Series, chart_keys, draw_chart
from swell.report.tables import Cell, Column, Table, decimals, header_unit, show

__all__ = [
    "Cell",
    "Chart",
    "Charts",
    "Column",
    "EmbeddingMap",
    "Page",
    "Pairs",
    "Series",
    "Table",
    "render",
    "write_report",
]

_MAX_PAIRS = 24


@dataclass(frozen=True, eq=False)
class Pairs:
    """Generated samples beside the real ones nearest to them: both uint8 [n, C, H, W], distance [n].

    `flags` [n], where there are any, are a few words about the pairs that look like copies; empty for the others.
    """

    title: str
    generated: np.ndarray
    nearest: np.ndarray
    distance: Sequence[float] | np.ndarray
    note: str = ""
    flags: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Charts:
    """A section of charts: `anchor` is its id, `name` its heading, `explain` what a reader shall look for."""

    anchor: str
    name: str
    explain: str
    charts: Sequence[Chart]


@dataclass(frozen=True, eq=False)
class Page:
    """Everything a report may hold; parts left out do not appear.

    `verdict` is the first thing read, two sentences in plain words. `facts` say what was run and with what, `notices`
    what one must know before believing a number (a generator that saw labels, a run cut short). `sections` are further
    charts, after the tables. `recipe` is TOML, `recipes` those of several arms by name. `commands` are (what for, the
    command) to make everything again, `environment` (name, value) what it was made with.
    """

    title: str
    verdict: str = ""
    facts: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = ()
    tables: Sequence[Table] = ()
    sections: Sequence[Charts] = ()
    curves: Sequence[Chart] = ()
    spectra: Sequence[Chart] = ()
    galleries: Sequence[Gallery] = ()
    pairs: Pairs | None = None
    maps: Sequence[EmbeddingMap] = ()
    recipe: str = ""
    recipes: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()
    environment: Sequence[tuple[str, str]] = ()
    footer: str = ""


def write_report(path: Path | str, page: Page) -> None:
    """Write `page` to `path`, whole or not at all. Raises InputError when the place cannot be written."""
    write_text(path, render(page))


def render(page: Page) -> str:
    """The HTML of `page`; equal pages give equal text."""
    script = _own("script.js") + _own("map.js")
    recipes = [*([("Show the recipe", page.recipe)] if page.recipe else []), *page.recipes]
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            style=Markup(_own("style.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            tables=[show(table) for table in page.tables],
            sections=[(part, [_chart(chart) for chart in part.charts]) for part in page.sections if part.charts],
            curves=[_chart(chart) for chart in page.curves],
            spectra=[_chart(chart) for chart in page.spectra],
            galleries=[draw(gallery) for gallery in page.galleries if gallery.rows],
            pairs=_pairs(page.pairs) if page.pairs is not None and len(page.pairs.generated) else None,
            maps=[draw_map(part) for part in page.maps],
            recipes=recipes,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["header_unit"] = header_unit
    environment.filters["worded"] = _worded
    return environment


def _worded(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _own(name: str) -> str:
    return package_files("swell.report").joinpath(name).read_text(encoding="utf-8")


def _chart(chart: Chart) -> dict[str, Any]:
    drawn = draw_chart(chart)
    return {
        "title": chart.title,
        "note": chart.note,
        "svg": drawn.svg,
        "data": drawn.data,
        "legend": chart_keys(chart),
    }


def _pairs(pairs: Pairs) -> dict[str, Any]:
    """The closest pairs first: if anything was copied, it is at the top."""
    distance = np.asarray(pairs.distance, float)
    if not len(distance) == len(pairs.generated) == len(pairs.nearest):
        counts = f"{len(pairs.generated)} generated, {len(pairs.nearest)} nearest, {len(distance)} distances"
        raise ValueError(f"pairs {pairs.title!r}: {counts}")
    flags = list(pairs.flags) or [""] * len(distance)
    order = np.argsort(distance, kind="stable")[:_MAX_PAIRS]
    digits = decimals(distance[order][np.isfinite(distance[order])].tolist())
    items = [
        (png_data_uri(pairs.generated[i]), png_data_uri(pairs.nearest[i]), f"{distance[i]:.{digits}f}", flags[i])
        for i in order
    ]
    high, wide = pairs.generated.shape[2:]
    scale = max(1, round(64 / max(high, wide))) if max(high, wide) <= 64 else 64 / max(high, wide)
    return {
        "title": pairs.title,
        "note": _sentences(pairs.note, channels_note(pairs.generated.shape[1])),
        "items": items,
        "flagged": sum(map(bool, flags)) if pairs.flags else None,
        "count": len(distance),
        "hidden": len(distance) - len(items),
        "width": max(1, round(wide * scale)),
        "height": max(1, round(high * scale)),
    }


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)
