"""The map of a run: its samples encoded, projected and grouped; kept beside the evaluation for comparisons."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from swell.data.arrays import UNREADABLE, refuse_bomb_in
from swell.data.source import Source
from swell.evaluation.clusters import assign
from swell.files import write_bytes
from swell.ledger import counted_flops
from swell.nets.encoder import Encoder
from swell.report.maps import MOST_CLASSES, SHOWN_NEIGHBOURS, Colouring, EmbeddingMap, Layout
from swell.report.pictures import Sprite, channels_note, sprite
from swell.report.projection import NEIGHBOURS, nearest_of_others, project

FILE, FORMAT = "map.npz", "swell-map-1"
REAL, GENERATED, FEWEST = 10_000, 5_000, 2_048  # samples shown
FLOPS = 1e12  # to encode those of a run; of nets that need more for them, fewer are shown
CLUSTERS = 10  # of samples without labels
NOTE = "Samples that the encoder finds alike lie together. Labels only colour the dots; they took no part."


@dataclass(frozen=True, eq=False)
class Encoded:
    """Evenly picked samples and their features [n, D]."""

    source: Source
    features: np.ndarray


def encode_some(encoder: Encoder, source: Source, most: int = REAL) -> Encoded:
    """At most `most` of the samples, fewer where encoding so many would take long; by a count, not by a clock."""
    with counted_flops() as flops:
        encoder.encode(source.samples[:1], batch=1)
    affordable = max(FEWEST, int(FLOPS / max(flops[0], 1.0)))
    count = min(len(source), most, affordable)
    some = source.subset(np.linspace(0, len(source) - 1, count).astype(int))
    if some.is_images:
        some = replace(some, samples=np.asarray(some.samples))  # which images in shards are not yet
    return Encoded(some, encoder.encode(some.samples))


def layout_of(name: str, features: np.ndarray, classes: int = 0) -> Layout:
    """The samples of `features` [n, D] on a plane by t-SNE, in as many clusters as there are classes."""
    found = project(features)
    return Layout(name, found.xy, found.near[:, :SHOWN_NEIGHBOURS], _clusters(features, classes))


def _clusters(features: np.ndarray, classes: int) -> np.ndarray:
    """Clusters [n], the largest first, by k-means on unit rows."""
    count = min(classes if 1 < classes <= MOST_CLASSES else CLUSTERS, len(features))
    if count < 2:
        return np.zeros(len(features), np.int64)
    z = torch.from_numpy(np.nan_to_num(np.asarray(features, np.float32)))
    found = assign(z, z, count, starts=1)[0].numpy()
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order)[found]


def labels_of(source: Source) -> list[Colouring]:
    """The colouring by label, where the samples have any."""
    if source.labels is None:
        return []
    names = [str(c) for c in source.classes] or [str(k) for k in range(int(source.labels.max(initial=0)) + 1)]
    return [Colouring("label", names, np.asarray(source.labels))]


def embedding_map(name: str, real: Encoded, made: Encoded | None = None, title: str = "") -> EmbeddingMap:
    """The map of samples, with generated ones among them where there are any."""
    colourings, features, source = labels_of(real.source), real.features, real.source
    samples = source.samples
    if made is not None:
        features = np.concatenate([features, made.features])
        n, m = len(source), len(made.source)
        colourings = [Colouring(c.name, c.names, np.concatenate([c.codes, np.full(m, -1)])) for c in colourings]
        colourings.append(Colouring("source", ["real", "generated"], np.repeat([0, 1], [n, m])))
        samples = np.concatenate([samples, made.source.samples]) if source.is_images else samples
    note = f"{NOTE} {channels_note(source.shape[0])}".strip() if source.is_images else NOTE
    sheet = sprite(samples) if source.is_images and len(samples) else None
    layout = layout_of(name, features, len(source.classes))
    return EmbeddingMap(title or f"Map of the samples: {name}", [layout], colourings, sheet, note)


def several_layouts(title: str, features: dict[str, np.ndarray], source: Source) -> EmbeddingMap:
    """One map of the same samples as several encoders see them."""
    layouts = [layout_of(name, z, len(source.classes)) for name, z in features.items()]
    sheet = sprite(source.samples) if source.is_images and len(source) else None
    return EmbeddingMap(title, layouts, labels_of(source), sheet, NOTE)


@dataclass(frozen=True, eq=False)
class Kept:
    """A map as a run keeps it; `of` is equal for maps of the same samples with the same labels."""

    of: str
    layout: Layout
    colourings: list[Colouring]
    sheet: Sprite | None


def keep_map(folder: Path, part: EmbeddingMap, real: Encoded) -> None:
    """Write map.npz to the run `folder`: the real samples of its map, without generated ones among them."""
    n, own = len(real.source), part.layouts[0]
    near = own.near if len(part) == n else nearest_of_others(real.features, NEIGHBOURS)[:, :SHOWN_NEIGHBOURS]
    sheet = part.sheet if len(part) == n or part.sheet is None else sprite(real.source.samples)
    arrays: dict[str, np.ndarray] = {
        "format": np.array(FORMAT),
        "xy": own.xy[:n].astype(np.float32),
        "near": near.astype(np.int32),
        "clusters": own.clusters[:n].astype(np.int32),
    }
    for colouring in labels_of(real.source):
        arrays |= {"labels": colouring.codes, "classes": np.array(colouring.names, dtype=str)}
    labels = arrays["labels"].tobytes() if "labels" in arrays else b""
    arrays["of"] = np.array(real.source.fingerprint + sha256(labels).hexdigest()[:16])
    if sheet is not None:
        arrays |= {"sheet": np.frombuffer(sheet.uri.encode(), np.uint8), "grid": np.array([sheet.columns, sheet.rows])}
        arrays |= {"tile": np.array(sheet.tile), "size": np.array(sheet.size)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(folder / FILE, buffer.getvalue())


def kept_map(folder: Path, name: str) -> Kept | None:
    """The map that the run `folder` keeps, its layout called `name`; None where there is none that can be read."""
    path = folder / FILE
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            for key in found.files:
                refuse_bomb_in(found.zip, key)
            arrays = {key: found[key] for key in found.files}
        if str(arrays["format"]) != FORMAT:
            return None
        layout = Layout(name, *(arrays[key] for key in ("xy", "near", "clusters")))
        colourings, sheet = [], None
        if "labels" in arrays:
            colourings.append(Colouring("label", arrays["classes"].tolist(), arrays["labels"]))
        if "sheet" in arrays:
            grid, tile, size = ([int(v) for v in arrays[key]] for key in ("grid", "tile", "size"))
            uri = arrays["sheet"].tobytes().decode("ascii")
            if not uri.startswith("data:image/"):
                return None
            sheet = Sprite(uri, grid[0], grid[1], (tile[0], tile[1]), (size[0], size[1]))
        return Kept(str(arrays["of"]), layout, colourings, sheet)
    except (*UNREADABLE, LookupError, UnicodeDecodeError):
        return None


def shared_map(kept: list[Kept], title: str, note: str) -> EmbeddingMap | None:
    """One map of several runs that were shown the same samples; None where they were not."""
    if not kept or len({one.of for one in kept}) > 1:
        return None
    return EmbeddingMap(title, [one.layout for one in kept], kept[0].colourings, kept[0].sheet, note)
