"""The readers under test. Each takes what a stranger may have given to a user, as bytes, and reads it as Swell does.

A target returns quietly or raises `InputError`; everything else is a finding. Files lie in `box`, a folder in memory
that is this process's own. Targets of a folder take it as a zip archive of its files, which `unpacked` lays out.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import mutate
import numpy as np

Mutator = Callable[..., bytes]


@dataclass(frozen=True)
class Target:
    """One reader: `read(content, box)`, how its input is changed, and its part of all executions."""

    name: str
    read: Callable[[bytes, Path], object]
    change: Mutator | None
    share: float
    modules: tuple[str, ...]  # that it reads with, for the fuzzer to watch
    longest: int = 65536  # bytes of an input


def unpacked(content: bytes, folder: Path, names: tuple[str, ...]) -> None:
    """`folder` with those members of the archive that are called one of `names`, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                if info.filename in names and info.file_size < 1 << 21:
                    (folder / info.filename).write_bytes(archive.read(info))
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, LookupError):
        return  # the archive is ours alone: no reader sees it
    except zipfile.zlib.error:
        return


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()


def opened(path: Path, box: Path, labels: bool | str = False) -> None:
    """As `swell.open` does, and a few samples looked at."""
    from swell.data.open import open_data

    cache = box / "cache"
    try:
        source = open_data(path, labels=labels, quiet=True, cache=cache, workers=1, max_bad=1.0)
        _ = source.samples[:2]
        _ = source.fingerprint
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _either(content: bytes) -> bool:
    """Whether labels are asked for, by the content alone: the same input is always read in the same way."""
    return bool(content) and bool(content[len(content) // 2] & 1)


def _file(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, box: Path) -> None:
        path = box / name
        path.write_bytes(content)
        opened(path, box, _either(content))

    return read


# ---- pictures ----------------------------------------------------------------------------------------------


def image(content: bytes, box: Path) -> None:
    from swell.data.folder_listing import ImageFile
    from swell.data.images import DAMAGED, Header, decode, header_of, read_header, reason_of

    file = ImageFile("a.png", len(content), 0, 0)
    header = header_of(io.BytesIO(content), file)
    (box / file.path).write_bytes(content)
    quick = read_header(box, file)  # without Pillow of a PNG, of which it takes the first header and Pillow the last
    assert not isinstance(header, Header) or quick == header or content.count(b"IHDR") > 1, (quick, header)
    try:
        decode(content, 16, 1 if _either(content) else 3)
    except DAMAGED as error:  # which the readers leave out and count
        reason_of(error, file)


def mask(content: bytes, box: Path) -> None:
    from swell.data.masks import _mask

    path = box / "a.png"
    path.write_bytes(content)
    _mask(path, (8, 8), 8)


# ---- arrays, tables, cells -----------------------------------------------------------------------------------


def array(content: bytes, box: Path) -> None:
    path = box / ("a.npz" if content.startswith(b"PK") else "a.npy")
    path.write_bytes(content)
    opened(path, box, _either(content) and path.suffix == ".npz")


def array_change(content: bytes, rng: Any, plain: mutate.Plain) -> bytes:
    return (mutate.zip_file if content.startswith(b"PK") else mutate.npy_file)(content, rng, plain)


def codes(content: bytes, box: Path) -> None:
    from swell.positives import _table

    path = box / "codes.npz"
    path.write_bytes(content)
    _table(path)


def cells(content: bytes, box: Path) -> None:
    from swell.data.cells import open_h5ad
    from swell.data.cells_in_parts import open_rows, parts_of

    path = box / "a.h5ad"
    path.write_bytes(content)
    kind = content[len(content) // 2] % 4 if content else 0
    if kind < 2:
        open_h5ad(path, "kind" if kind else False, "", "batch" if kind else "")
    elif (rows := open_rows(path, "raw" if kind == 3 else "", "batch")) is not None:
        for _ in parts_of(path, "raw" if kind == 3 else "", rows, 2):
            pass


def tar(content: bytes, box: Path) -> None:
    from swell.data.shards import tar_piece

    path = box / "a.tar"
    path.write_bytes(content)
    piece = tar_piece(str(path), len(content))
    if all(offset + size <= len(content) for offset, size in zip(piece.offsets, piece.sizes, strict=True)):
        if _seldom(content):
            opened(path, box, _either(content))
        return
    raise ValueError("members beyond the end of the file")


def _seldom(content: bytes) -> bool:
    """One input in sixteen, by the content alone: what starts threads and writes a cache is slow."""
    return sha256(content).digest()[0] < 16


def arrow(content: bytes, box: Path) -> None:
    from swell.data.arrow_images import arrow_piece, column_labels
    from swell.data.packed_open import open_packed
    from swell.data.shards import Packed

    path = box / "a.arrow"
    path.write_bytes(content)
    packed = Packed(str(path), "arrow", (str(path),))
    if not _seldom(content):
        arrow_piece(str(path), len(content))
        column_labels(packed, True)
        return
    try:
        open_packed(packed, _either(content), None, 1.0, box / "cache", 1, True)
    finally:
        shutil.rmtree(box / "cache", ignore_errors=True)


# ---- what Swell wrote ------------------------------------------------------------------------------------------


def recipe(content: bytes, box: Path) -> None:
    from swell.recipes import load_recipe, read_recipe

    path = box / "recipe.toml"
    path.write_bytes(content)
    read_recipe(path)
    load_recipe(str(path)).to_dict()


def checkpoint(content: bytes, box: Path) -> None:
    from swell.checkpoint import load_checkpoint

    load_checkpoint(io.BytesIO(content))


ENCODER = ("encoder.json", "encoder.safetensors", "preparation.safetensors", "recipe.toml", "ledger.json")


def encoder(content: bytes, box: Path) -> None:
    from swell.run import Run

    unpacked(content, box / "run", ENCODER)
    run = Run(box / "run", device="cpu")
    _ = run.about
    shape = run.encoder.config.shape
    if np.prod([float(n) for n in shape]) < 1e5 and run.preparation is None:
        run.encoder.encode(np.zeros((2, *shape), np.float32 if len(shape) == 1 else np.uint8))


def exported(content: bytes, box: Path) -> None:
    from swell.exporting.exported import open_exported

    path = box / "a.safetensors"
    path.write_bytes(content)
    _ = open_exported(path, device="cpu").about


def generator(content: bytes, box: Path) -> None:
    from swell.generators.registry import load_generator

    path = box / "generator.safetensors"
    path.write_bytes(content)
    load_generator(path, device="cpu")


GEN = ("manifest.json", "shard-00000.npz", "shard-00001.npz")


def gen(content: bytes, box: Path) -> None:
    from swell.data.gen import is_gen, open_gen

    folder = box / "gen"
    unpacked(content, folder, GEN)
    if is_gen(folder):
        open_gen(folder)
        opened(folder, box)


def gen_change(content: bytes, rng: Any, plain: mutate.Plain) -> bytes:
    """The checksums of the shards in the manifest are made right, mostly: else no shard is ever opened."""
    made = mutate.zip_file(content, rng, plain)
    if rng.random() < 0.3:
        return made
    try:
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        told = json.loads(files["manifest.json"])
        for row in told["shards"]:
            row["sha256"] = sha256(files[row["file"]]).hexdigest()
        return packed({**files, "manifest.json": json.dumps(told).encode()})
    except (
        zipfile.BadZipFile,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        RecursionError,
        NotImplementedError,
    ):
        return made


def suite(content: bytes, box: Path) -> None:
    import torch

    from swell.data.arrays import from_array
    from swell.suites.plan import make_plan

    folder = box / "suite"
    unpacked(content, folder, ("suite.json", "recipe.toml"))
    if not (folder / "suite.json").is_file():
        return
    for seed in (0, 1):
        place = folder / "runs" / "00-one" / f"seed{seed}"
        place.mkdir(parents=True)
        if (folder / "recipe.toml").is_file():
            (place / "recipe.toml").write_bytes((folder / "recipe.toml").read_bytes())
    data = from_array(np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8))
    make_plan(folder, data, None, {}, {}, torch.device("cpu"))


RUN = ("evaluation.json", "ledger.json", "recipe.toml", "environment.json", "metrics.jsonl", "run.log", "live.json",
       "phases.jsonl", "curve.json", "map.npz", "predictions.npz", "quality.json")  # fmt: skip


def watched(content: bytes, box: Path) -> None:
    """`swell watch`: nothing may fail here, and every state must be told in words and as JSON."""
    from swell.watching import look
    from swell.watching_text import table

    folder = box / "run"
    unpacked(content, folder, RUN)
    seen = look(folder)
    table([seen], 100)
    json.dumps(seen.to_dict())


def compared(content: bytes, box: Path) -> None:
    """`swell compare`: a run from a stranger beside one of one's own, up to the page."""
    from swell.evaluation.compare import compare_runs
    from swell.report.compare_page import render_comparison

    folder = box / "run"
    unpacked(content, folder, RUN)
    (folder / "encoder.safetensors").write_bytes(b"")
    render_comparison(compare_runs([box.parent / f"{box.name}-own", folder], across_data=True))


_OPEN, _PACKED = ("swell.data.open",), ("swell.data.open", "swell.data.packed_open", "swell.data.tars")
_TABLES = ("swell.data.open", "swell.data.tables", "swell.data.raw")
TARGETS = {
    target.name: target
    for target in (
        Target(
            "image", image, mutate.png_file, 0.22, ("swell.data.images", "PIL.PngImagePlugin", "PIL.TiffImagePlugin")
        ),
        Target("mask", mask, mutate.png_file, 0.12, ("swell.data.masks", "PIL.PngImagePlugin")),
        Target("array", array, array_change, 0.06, _OPEN),
        Target("codes", codes, mutate.zip_file, 0.1, ("swell.positives",)),
        Target("cells", cells, None, 0.02, ("swell.data.cells", "swell.data.cells_in_parts"), 200_000),
        Target("csv", _file("a.csv"), mutate.csv_file, 0.04, _TABLES),
        Target("parquet", _file("a.parquet"), None, 0.02, (*_TABLES, *_PACKED, "swell.data.arrow_images")),
        Target("arrow", arrow, None, 0.03, (*_PACKED, "swell.data.arrow_images")),
        Target("tar", tar, mutate.tar_file, 0.08, _PACKED),
        Target("recipe", recipe, mutate.toml_file, 0.05, ("swell.recipes",)),
        Target("checkpoint", checkpoint, mutate.zip_file, 0.16, ("swell.checkpoint",)),
        Target("encoder", encoder, mutate.zip_file, 0.01, ("swell.run",)),
        Target("exported", exported, mutate.safetensors_file, 0.02, ("swell.exporting.exported",)),
        Target("generator", generator, mutate.safetensors_file, 0.02, ("swell.generators",), 400_000),
        Target("gen", gen, gen_change, 0.03, _OPEN),
        Target("suite", suite, mutate.zip_file, 0.005, ("swell.suites.plan",)),
        Target("watched", watched, mutate.zip_file, 0.01, ("swell.watching", "swell.watching_text")),
        Target("compared", compared, mutate.zip_file, 0.005, ("swell.evaluation.compare", "swell.report.compare_page")),
    )
}
