"""Rows of pictures in a report: what a method rebuilds, where a ViT looks, what the dense probe takes pixels for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.dense import DensePictures
from swell.gallery import Gallery, Picture, Strip, as_pixels
from swell.methods.registry import METHODS, Method
from swell.nets.encoder import Encoder
from swell.nets.vit import ViT
from swell.report.pictures import channels_note, png_data_uri
from swell.seeding import seed_for

if TYPE_CHECKING:
    from swell.run import Run

SAMPLES, LOOKED_AT = 32, 8  # samples that a method may draw from, and those whose attention is shown
CHOSEN = 10  # samples whose neighbours are shown
COLOURS = 10  # of the style sheet; more classes share one
LONGEST = 128  # pixels of a picture's longer side


def galleries_of(run: Run, shown: Source, dense: DensePictures | None = None) -> list[Gallery]:
    """Everything there is to show of a run: equal runs and samples give equal pictures.

    Without a checkpoint that fits, the method shows nothing; without a ViT there is no attention.
    """
    found = [] if dense is None else [dense_gallery(dense)]
    if not shown.is_images or not len(shown):
        return found
    rows = np.linspace(0, len(shown) - 1, min(SAMPLES, len(shown))).astype(int)
    x = torch.tensor(shown.samples[rows], device=run.encoder.mean.device).float().div_(255)
    if isinstance(run.encoder.backbone, ViT):
        found = [attention_gallery(run.encoder, x[:: max(1, len(x) // LOOKED_AT)][:LOOKED_AT]), *found]
    return [*_of_method(run, x), *found]


def _of_method(run: Run, x: Tensor) -> Sequence[Gallery]:
    recipe = run.recipe
    if recipe.method not in METHODS or METHODS[recipe.method].pictures is Method.pictures:
        return ()  # nothing to show, so the checkpoint need not be read
    known = run.parts()
    if known is None:
        return ()
    method, parts = known
    with torch.no_grad(), torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed_for(recipe.seed, "pictures"))
        try:
            return method.pictures(run.encoder, parts, x)
        except InputError:  # samples that this method cannot take, as when they are too few for a group
            return ()


@torch.no_grad()
def attention_gallery(encoder: Encoder, x: Tensor) -> Gallery:
    """Samples [B, C, H, W] in [0, 1] beside the attention of the last block, mean over heads, as heat over them."""
    vit = encoder.backbone
    assert isinstance(vit, ViT)
    attention = encoder.attention_map(x).mean(1).cpu().numpy()  # [B, h, w]
    images = as_pixels(x)
    rows = []
    for image, shares in zip(images, attention, strict=True):
        about = f"{shares.max() * shares.size:.1f}\N{NO-BREAK SPACE}×"
        rows.append([Strip("input", [Picture(image)]), Strip("attention", [Picture(heated(image, shares), about)])])
    who = "the class token looks" if vit.extra else "its patches look, on average,"
    heads = f"mean over {vit.heads} heads" if vit.heads > 1 else "which has one head"
    note = f"Where {who} in the last block, {heads}: yellow gets most, grey least, in each picture for itself."
    details = (
        f"Under a picture: what the yellowest patch gets, in multiples of an even share of the {attention[0].size}. "
        "Attention tells what goes into the feature, not why."
    )
    return Gallery("Where the encoder looks", note, "sample", rows, details=details)


def heated(image: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """An image uint8 [C, H, W] in grey under heat: from the least of `shares` [h, w], none, to the most, yellow."""
    shown = image[:3] if len(image) >= 3 else image[:1]
    grey = np.broadcast_to(0.25 + 0.5 * shown.mean(0, keepdims=True) / 255, (3, *image.shape[1:]))
    (height, width), (h, w) = image.shape[1:], shares.shape
    at_pixels = shares[np.arange(height)[:, None] * h // height, np.arange(width) * w // width]
    heat = (at_pixels - shares.min()) / max(shares.max() - shares.min(), 1e-12)  # [H, W] in [0, 1]
    red, yellow = (np.array(colour)[:, None, None] for colour in ((0.85, 0.1, 0.2), (1.0, 0.93, 0.3)))
    colour, alpha = red + (yellow - red) * heat, 0.85 * heat
    return np.rint(255 * (grey * (1 - alpha) + colour * alpha)).astype(np.uint8)


def neighbour_gallery(near: np.ndarray, images: np.ndarray, codes: np.ndarray, names: Sequence[str]) -> Gallery:
    """Evenly picked samples beside those nearest to them, by rows `near` [n, k] of images uint8 [n, C, H, W].

    Args:
        codes: which of `names` each sample is [n], -1 where it is none.
    """
    chosen = np.linspace(0, len(near) - 1, min(CHOSEN, len(near))).astype(int).tolist()
    first = [int(of[0]) for c in range(len(names)) if len(of := np.flatnonzero(codes[: len(near)] == c))]
    chosen = first[:CHOSEN] if len(first) > 1 else chosen  # of as many classes as there is room for

    def picture(i: int) -> Picture:
        return Picture(images[i], names[codes[i]] if codes[i] >= 0 else "", int(codes[i]) if codes[i] >= 0 else None)

    rows = [[Strip("sample", [picture(i)]), Strip("nearest first", [picture(int(j)) for j in near[i]])] for i in chosen]
    note = "The samples whose features are most like those of the first one, by all features and not on the flat map."
    details = "Frames tell labels, which took no part in training." if len(names) else ""
    return Gallery("Nearest neighbours", note, "sample", rows, names, details)


def dense_gallery(pictures: DensePictures) -> Gallery:
    """Test scenes with what every pixel shows and what the dense probe takes it for."""
    rows = []
    for image, truth, predicted in zip(pictures.images, pictures.truth, pictures.predicted, strict=True):
        known = truth >= 0
        about = f"{100 * (predicted == truth)[known].mean():.0f} % right" if known.any() else ""
        rows.append(
            [
                Strip("scene", [Picture(image)]),
                Strip("true", [Picture(truth)]),
                Strip("predicted", [Picture(predicted, about)]),
            ]
        )
    note = "What every pixel of a scene shows, and what a linear classifier on cells of the feature map takes it for."
    details = "Its answers are as coarse as that map, so borders between classes are never quite right."
    return Gallery("What every pixel shows", note, "scene", rows, pictures.classes, details)


@dataclass(frozen=True)
class Colours:
    """A colour for each class that occurs in a gallery: with up to ten one each, else the rarer ones share one."""

    of_class: dict[int, str]  # class -> what the style sheet calls its colour
    legend: list[tuple[str, str]]  # (colour, name)


def colours_of(gallery: Gallery) -> Colours:
    counts = np.zeros(len(gallery.classes), np.int64)
    blank = False
    for picture in (p for row in gallery.rows for strip in row for p in strip.pictures):
        if picture.key is not None:
            counts[picture.key] += 1
        if picture.pixels.ndim == 2:
            counts += np.bincount(picture.pixels[picture.pixels >= 0], minlength=len(counts))
            blank |= bool((picture.pixels < 0).any())
    own = sorted(np.argsort(-counts, kind="stable")[: min(COLOURS, int((counts > 0).sum()))].tolist())
    others = sorted(set(np.flatnonzero(counts).tolist()) - set(own))
    of_class = {number: f"k{i}" for i, number in enumerate(own)} | dict.fromkeys(others, "others")
    legend = [(of_class[number], gallery.classes[number]) for number in own]
    if others:
        legend.append(("others", f"{len(others)} rarer classes"))
    return Colours(of_class, [*legend, ("none", "no class")] if blank else legend)


def draw(gallery: Gallery) -> dict[str, Any]:
    """What the template needs of a gallery."""
    colours = colours_of(gallery)
    images = [p.pixels for row in gallery.rows for strip in row for p in strip.pictures if p.pixels.ndim == 3]
    wide, high = _size(images[0].shape[2], images[0].shape[1]) if images else (96, 96)
    rows = []
    for i, row in enumerate(gallery.rows, 1):
        strips = []
        for strip in row:
            tiles = [
                _tile(picture, f"{gallery.row} {i}, {strip.heading}{_place(j, strip)}", colours, gallery.classes)
                for j, picture in enumerate(strip.pictures, 1)
            ]
            strips.append({"heading": strip.heading, "tiles": tiles})
        rows.append(strips)
    return {
        "title": gallery.title,
        "note": gallery.note,
        "details": f"{gallery.details} {channels_note(images[0].shape[0]) if images else ''}".strip(),
        "rows": rows,
        "legend": colours.legend,
        "width": wide,
        "height": high,
    }


def _place(j: int, strip: Strip) -> str:
    return f" {j} of {len(strip.pictures)}" if len(strip.pictures) > 1 else ""


def _size(wide: int, high: int) -> tuple[int, int]:
    """Width and height on the page: small pictures by a whole factor to about 96 pixels, large ones smaller."""
    longest = max(wide, high)
    scale = max(1, round(96 / longest)) if longest <= LONGEST else LONGEST / longest
    return max(1, round(wide * scale)), max(1, round(high * scale))


def _tile(picture: Picture, alt: str, colours: Colours, classes: Sequence[str]) -> dict[str, Any]:
    frame = "" if picture.key is None else colours.of_class[picture.key]
    if frame:
        alt += f", framed as {classes[picture.key or 0]}"
    tile: dict[str, Any] = {"about": picture.about, "frame": frame, "alt": alt, "uri": "", "svg": ""}
    if picture.pixels.ndim == 3:
        tile["uri"] = png_data_uri(picture.pixels, LONGEST)
    else:
        tile["svg"] = class_map(picture.pixels, alt, colours, classes)
    return tile


def class_map(cells: np.ndarray, alt: str, colours: Colours, classes: Sequence[str]) -> Markup:
    """A map [h, w] of classes as an <svg>, in the colours of the page; cells below 0 stay blank.

    A drawing and not a PNG, so that it changes its colours with the page between light and dark.
    """
    step = -(-max(cells.shape) // LONGEST)
    cells = cells[step // 2 :: step, step // 2 :: step]
    high, wide = cells.shape
    strokes: dict[str, list[str]] = {}
    for y, line in enumerate(cells.tolist()):
        starts = [0, *(x for x in range(1, wide) if line[x] != line[x - 1]), wide]
        for start, end in pairwise(starts):
            if line[start] >= 0:
                strokes.setdefault(colours.of_class[line[start]], []).append(f"M{start} {y}h{end - start}")
    numbers, counts = np.unique(cells[cells >= 0], return_counts=True)
    top = counts.argsort(kind="stable")[::-1][:3]
    held = ", ".join(f"{classes[numbers[i]]} {100 * counts[i] / cells.size:.0f} %" for i in top)
    paths = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(colour, "".join(parts)) for colour, parts in sorted(strokes.items())
    )
    return Markup('<svg class="cells" viewBox="0 -.5 {} {}" role="img" aria-label="{}">{}</svg>').format(
        wide, high, f"{alt}: {held}" if held else alt, paths
    )
