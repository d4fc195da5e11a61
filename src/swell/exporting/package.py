"""What travels in every export beside the weights: how to make samples, what comes in and out, what made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from swell.exporting.graph import arithmetic
from swell.model import Model
from swell.views.plan import ViewGroup

FORMAT = "swell-export-1"
PATCH = ("scale", "ratio", "size", "flip", "interpolation")  # of a view group: the geometry of its patches

__all__ = ["FORMAT", "description", "patch_of"]


def description(model: Model) -> dict[str, Any]:
    """Plain values, written as JSON under the key `swell` of a file's metadata.

    `encoder` builds the net again; `preparation` is that of vectors (its arrays are tensors of a .safetensors file);
    `images` says how a picture becomes a sample; `input` and `output` what the program takes and gives.
    """
    config, preparation = model.encoder.config, model.preparation
    _, whole = arithmetic(preparation)
    told = None
    if preparation is not None:
        told = {
            "kind": preparation.kind,
            "does": preparation.describe(),
            "in_graph": whole,
            "names": list(preparation.names),
            "width": preparation.width,
            "settings": dict(preparation.settings),
            "arrays": sorted(preparation.arrays),
        }
    if not model.encoder.takes_vectors:
        x: dict[str, Any] = {"dtype": "uint8", "shape": ["batch", *config.shape], "what": "images as `images` says"}
    elif preparation is not None and whole:
        x = {
            "dtype": "float32",
            "shape": ["batch", preparation.width],
            "what": f"raw vectors: {_raw(preparation.kind)}",
        }
    else:
        x = {"dtype": "float32", "shape": ["batch", *config.shape], "what": "vectors, prepared"}
    inputs = {"x": x}
    if preparation is not None and preparation.settings.get("batches"):
        known = len(preparation.settings["batches"])
        inputs["batch"] = {
            "dtype": "int64",
            "shape": ["batch"],
            "what": f"place in preparation.settings.batches of each cell's batch, {known} where it is of none of them",
        }
    patch = None if model.encoder.takes_vectors else asdict(model.patch)
    about = {key: value for key, value in model.about.items() if key != "run"}
    return {
        "format": FORMAT,
        "encoder": config.to_dict(),
        "preparation": told,
        "images": None if model.encoder.takes_vectors else _images(config.shape, config.mean, config.std),
        "patch": None if patch is None else {key: patch[key] for key in PATCH},
        "input": inputs,
        "output": {"features": {"dtype": "float32", "shape": ["batch", model.encoder.features]}},
        "about": about,
    }


def _raw(kind: str) -> str:
    return {
        "counts": "counts of all genes in preparation.names",
        "logged": "logged counts of all genes in preparation.names",
        "table": "the columns of preparation.names, NaN where a cell is empty",
        "none": "the features of preparation.names as they are",
    }[kind]


def _images(shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    channels, height, width = shape
    return {
        "crop": "the centre square",
        "resize": [height, width],
        "interpolation": "bicubic, antialiased, on 8-bit values",
        "channels": "RGB" if channels == 3 else "grey",
        "layout": "NCHW",
        "divide": 255,  # inside the graph, as is what follows
        "mean": list(mean),
        "std": list(std),
    }


def patch_of(told: Mapping[str, Any]) -> ViewGroup:
    """The geometry of patches back from `description`. Raises one of ValueError, TypeError, LookupError."""
    kept: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in told.items() if key in PATCH
    }
    return ViewGroup(**kept)
