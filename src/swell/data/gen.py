"""GEN folders: generated samples on disk, in shards with checksums, beside what is known about their origin.

A folder appears whole or not at all: it is built beside its destination and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swell.data.arrays import UNREADABLE, refuse_bomb_in
from swell.data.bombs import refuse_bomb
from swell.data.source import Provenance, Source
from swell.data.stacked import StackedRows
from swell.errors import InputError
from swell.files import atomic_path, new_folder, read_json, sha256_of, write_json

FORMAT = "swell-gen-1"
SHARD_SIZE = 10_000
MAPPED = 2 << 30  # bytes of samples, beyond which they need not be in memory


def is_gen(path: Path | str) -> bool:
    """Whether `path` is a folder with a manifest of generated samples."""
    manifest = Path(path) / "manifest.json"
    if not os.path.isfile(manifest):
        return False
    try:
        value = read_json(manifest)
    except InputError:  # damaged; the shards still say what it was
        return (Path(path) / "shard-00000.npz").is_file()
    return isinstance(value, dict) and str(value.get("format", "")).startswith("swell-gen-")


def refuse_to_overwrite(out: Path | str, force: bool) -> None:
    """Raises InputError where `out` holds something: generated samples without `force`, or anything else."""
    out = Path(out)
    if not os.path.exists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_gen(out):
        raise InputError(
            f"{out} (in the way, and not a folder of generated samples)",
            "a new folder",
            "choose another --out",
        )
    if not force:
        raise InputError(
            f"{out} (holds other generated samples)",
            "a new folder",
            "choose another --out, or --force to replace it",
        )


@contextlib.contextmanager
def new_gen(out: Path | str, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which becomes `out` when the block succeeds and vanishes when
    it fails.

    What `out` held before is removed only after the new folder is complete. Raises InputError where `out`
    may not be replaced.
    """
    out = Path(out)
    refuse_to_overwrite(out, force)
    with new_folder(out) as made:
        yield made


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.npz"


def write_shard(path: Path, samples: np.ndarray) -> None:
    """Equal samples make equal bytes: the archive holds no time of day."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{_key(samples.dtype): samples})  # type: ignore[arg-type]  # NumPy 1 has no allow_pickle here


def write_shards(folder: Path, samples: np.ndarray, shard_size: int = SHARD_SIZE) -> list[dict[str, Any]]:
    """Write samples as shard-00000.npz and so on; returns the manifest's rows about them."""
    rows: list[dict[str, Any]] = []
    for first in range(0, len(samples), shard_size):
        part, path = samples[first : first + shard_size], folder / shard_name(len(rows))
        write_shard(path, part)
        rows.append({"file": path.name, "first": first, "count": len(part), "sha256": sha256_of(path)})
    return rows


def write_manifest(
    folder: Path,
    shards: list[dict[str, Any]],
    *,
    shape: tuple[int, ...],
    dtype: str,
    provenance: Provenance,
    generator_sha256: str = "",
    sampler: dict[str, Any] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> None:
    """Written last: a folder without it is not a GEN. `shape` is that of one sample; `settings` is what the
    user asked for.
    """
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "provenance": provenance.to_dict(),
            "generator": provenance.generator,
            "generator_sha256": generator_sha256,
            "sampler": sampler or {},
            "seed": seed,
            "settings": settings or {},
            "count": sum(row["count"] for row in shards),
            "shape": list(shape),
            "dtype": dtype,
            "shards": shards,
        },
    )


def write_gen(
    out: Path | str, samples: np.ndarray, provenance: Provenance, *, seed: int = 0, force: bool = False
) -> Path:
    """Store an array of generated samples, uint8 [N, C, H, W] or float32 [N, D], as a GEN folder.

    Raises InputError for real samples, an empty array, other dtypes or a folder that may not be replaced.
    """
    source = Source(samples, provenance)
    if provenance.kind != "generated" or len(source) == 0:
        raise InputError(
            f"{len(source)} {provenance.kind} samples",
            "at least one generated sample",
            "give provenance kind generated",
        )
    with new_gen(out, force=force) as folder:
        shards = write_shards(folder, samples)
        write_manifest(folder, shards, shape=source.shape, dtype=str(samples.dtype), provenance=provenance, seed=seed)
    return Path(out)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of the GEN folder `path`. Raises InputError when it is not one of this version."""
    manifest = read_json(Path(path) / "manifest.json")
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} (format {found!r})",
            f"generated samples in format {FORMAT}",
            "make them again with `swell generate`",
        )
    manifest.setdefault("settings", {})
    return manifest


class Shards(NamedTuple):
    """What the manifest of a GEN folder says, checked."""

    provenance: Provenance
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    total: int


def open_gen(path: Path | str, mapped: bool = False) -> Source:
    """The samples of a GEN folder, every checksum verified, in memory; where `mapped`, more than `MAPPED` bytes of them
    are read from their files row by row instead.

    Raises InputError, naming the shard, when one is missing, altered, cut short or holds anything but plain
    numbers.
    """
    found, shards = gen_shards(Path(path))
    if mapped and found.total * math.prod(found.shape) * found.dtype.itemsize > MAPPED:
        return Source(StackedRows(tuple(_map_shard(file, shard) for file, shard in shards)), found.provenance)
    try:
        samples = np.empty((found.total, *found.shape), found.dtype)
    except (MemoryError, ValueError):
        given = f"{path}/manifest.json ({found.total:,} samples {list(found.shape)})"
        raise InputError(given, "as many as fit in memory", _AGAIN) from None
    first = 0
    for _, shard in shards:
        samples[first : first + len(shard)] = shard
        first += len(shard)
    return Source(samples, found.provenance)


def _map_shard(path: Path, samples: np.ndarray) -> np.ndarray:
    """The samples of a shard where they lie in its file; as they are where it is compressed."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        member = archive.infolist()[0]
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, os.SEEK_CUR)
        if len(archive.infolist()) != 1 or member.compress_type != zipfile.ZIP_STORED:
            return samples
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, samples.dtype, "r", file.tell(), samples.shape)


def gen_shards(path: Path) -> tuple[Shards, Iterator[tuple[Path, np.ndarray]]]:
    """The samples of a GEN folder shard by shard, each with its file; raises as `open_gen` does, of a shard when its
    turn comes."""
    manifest = read_manifest(path)
    try:
        shape, dtype, count = (
            tuple(map(int, manifest["shape"])),
            np.dtype(manifest["dtype"]),
            int(manifest["count"]),
        )
        shards = [
            (str(row["file"]), int(row["first"]), int(row["count"]), str(row["sha256"])) for row in manifest["shards"]
        ]
        provenance = Provenance(**manifest["provenance"])
        if min(shape, default=0) < 1 or dtype != (np.uint8 if len(shape) == 3 else np.float32):
            raise ValueError(f"shape {shape} of {dtype}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SyntaxError) as error:
        raise InputError(
            f"{path}/manifest.json ({type(error).__name__}: {error})", "the fields swell writes", _AGAIN
        ) from None
    expected = 0
    for name, first, rows, _ in shards:
        if first != expected or rows < 1 or Path(name).name != name:
            raise InputError(
                f"{path}/manifest.json (shard {name!r})",
                f"a shard of this folder that begins at {expected}",
                _AGAIN,
            )
        # No file, or a name that no file can have, is told when its turn comes.
        size = os.path.getsize(path / name) if os.path.isfile(path / name) else 0
        refuse_bomb(f"{path / name}, by manifest.json", rows * math.prod(shape) * dtype.itemsize, size)
        expected += rows
    if expected != count or count == 0 or provenance.kind != "generated":
        raise InputError(
            f"{path}/manifest.json ({count} {provenance.kind} samples, {expected} in its shards)",
            "generated samples, as many as the shards hold",
            _AGAIN,
        )
    parts = ((path / name, _read_shard(path / name, digest, (rows, *shape), dtype)) for name, _, rows, digest in shards)
    return Shards(provenance, shape, dtype, count), parts


_AGAIN = "copy the folder again, or make it again with `swell generate --force`"


def _read_shard(path: Path, digest: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    if not os.path.isfile(path):
        raise InputError(f"{path} (missing)", "every shard the manifest lists", _AGAIN)
    if sha256_of(path) != digest:
        raise InputError(f"{path} (checksum differs: altered or cut short)", "the shard as it was written", _AGAIN)
    try:
        with np.load(path, allow_pickle=False) as file:
            refuse_bomb_in(file.zip, _key(dtype))
            samples = np.asarray(file[_key(dtype)])
    except InputError as error:
        raise InputError(f"{path}: {error.given}", error.expected, error.todo) from None
    except (*UNREADABLE, AttributeError) as error:
        raise InputError(f"{path} ({error})", f"plain numbers under the key {_key(dtype)!r}", _AGAIN) from None
    if samples.shape != shape or samples.dtype != dtype:
        raise InputError(f"{path} ({samples.dtype}{list(samples.shape)})", f"{dtype}{list(shape)}", _AGAIN)
    return samples


def _key(dtype: np.dtype[Any]) -> str:
    return "images" if dtype == np.uint8 else "vectors"
