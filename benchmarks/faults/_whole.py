"""What the fault suite asks of a folder: is every file in it whole, and what does it say apart from times?"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from

from swell.checkpoint import load_checkpoint
from swell.data.gen import open_gen
from swell.errors import InputError
from swell.files import read_json
from swell.run import load_encoder, read_ledger

TEMPORARY = re.compile(r"^\..*\.tmp$|\.unfinished$|^\.made\.|\.lock$|^\.lock$")  # the names of what may be left behind
TIMES = ("second", "memory", "resident")  # parts of the keys of numbers that differ from one time to the next
UNREADABLE = (
    OSError, ValueError, LookupError, RuntimeError, EOFError, TypeError, zipfile.BadZipFile, SafetensorError, InputError,
)  # fmt: skip


def results(place: Path) -> Iterator[Path]:
    """All files at or below `place` that are no temporary ones."""
    if place.is_file():
        yield place
    elif place.is_dir():
        for path in sorted(place.iterdir()):
            if not TEMPORARY.search(path.name):
                yield from results(path)


def said(path: Path) -> str:
    """What a file says, times left out, as a short text. Raises one of UNREADABLE where it is not whole."""
    kind, data = path.suffix, path.read_bytes()
    if path.name == "generated.json":  # digests of files that hold times
        return _short(sorted(json.loads(data)))
    if kind == ".json":
        return _short(timeless(json.loads(data)))
    if kind == ".jsonl":
        return _short([timeless(json.loads(line)) for line in data.decode().splitlines()])
    if kind == ".toml":
        return _short(tomllib.loads(data.decode()))
    if kind == ".safetensors":
        return _short({name: _of_array(tensor) for name, tensor in sorted(tensors_from(data).items())})
    if kind == ".pt":
        return _short(_of_state(load_checkpoint(path)))
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return _short({name: _of_array(archive[name]) for name in sorted(archive.files)})
    if kind == ".parquet":
        return _short(pyarrow.parquet.read_table(path).to_pydict())
    if kind == ".png":
        with Image.open(path) as picture:
            return _short(_of_array(np.asarray(picture)))
    text = data.decode()
    if not text.endswith("</html>\n" if kind == ".html" else "\n") and not text.endswith("</html>"):
        raise ValueError("cut short")
    return _short(text) if kind == ".log" else "there"  # pages and tables tell times in their text


def timeless(value: Any) -> Any:
    """`value` without what is told in seconds and bytes of memory."""
    if isinstance(value, dict):
        kept = {key: timeless(item) for key, item in value.items() if not any(word in key for word in TIMES)}
        return {key: item for key, item in kept.items() if key != "generator_sha256"}  # its header tells seconds
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def _of_state(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _of_array(value)
    if isinstance(value, dict):
        kept = {str(key): item for key, item in value.items() if not any(word in str(key) for word in TIMES)}
        return {key: timeless(json.loads(item)) if key == "ledger" else _of_state(item) for key, item in kept.items()}
    return [_of_state(item) for item in value] if isinstance(value, (list, tuple)) else value


def _of_array(array: Any) -> list[Any]:
    plain = np.ascontiguousarray(array.view(torch.uint8) if getattr(array, "dtype", None) == torch.bfloat16 else array)
    return [str(plain.dtype), list(plain.shape), hashlib.sha256(plain.tobytes()).hexdigest()[:16]]


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def facts(place: Path) -> dict[str, str]:
    """What every file at or below `place` says, by its name."""
    return {str(path.relative_to(place)): _said_or_broken(path) for path in results(place)}


def _said_or_broken(path: Path) -> str:
    try:
        return said(path)
    except UNREADABLE as error:
        return f"not whole: {error}"[:100]


def broken(folder: Path) -> list[str]:
    """Files below `folder` that are neither whole nor absent, and results that do not open; none is as it must be."""
    found = []
    for path in results(folder):
        try:
            if path.name == "metrics.jsonl":  # a log: its last line may be cut short, and is then left out by readers
                [json.loads(line) for line in path.read_text().splitlines()[:-1]]
            else:
                said(path)
            if path.name == "encoder.safetensors":
                load_encoder(path.parent)
                read_ledger(path.parent / "ledger.json")
            if path.name == "manifest.json":
                open_gen(path.parent)
            if path.name == "compare.json":
                read_json(path)
        except UNREADABLE as error:
            found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}"[:200])
    return found


def left_over(folder: Path) -> list[str]:
    """Temporary names below `folder`, locks not counted."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if TEMPORARY.search(path.name))
    return sorted(str(name) for name in names if not name.name.endswith(".lock"))
