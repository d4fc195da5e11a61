"""Small valid files of every kind, made here: what the fuzzer begins with.

    python benchmarks/fuzz/seeds.py FOLDER

writes FOLDER/seeds/NAME/* for every target NAME. A run of two steps, its evaluation, a generator and an export are among them.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from targets import ENCODER, GEN, RUN, packed, unpacked


def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (8, 8), np.uint8)
    colour = rng.integers(0, 256, (8, 10, 3), np.uint8)
    plain = {"L": Image.fromarray(grey), "RGB": Image.fromarray(colour), "1": Image.fromarray(grey > 99),
             "RGBA": Image.fromarray(np.dstack([colour, colour[..., :1]])), "P": Image.fromarray(grey).convert("P"),
             "I;16": Image.fromarray(grey.astype(np.uint16) * 255), "F": Image.fromarray(grey.astype(np.float32) / 255)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for mode, kind, options in (
        ("L", "PNG", {}), ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("P", "PNG", {"transparency": 3}), ("I;16", "PNG", {}), ("1", "PNG", {}),
        ("RGB", "JPEG", {"exif": exif}), ("L", "JPEG", {"progressive": True}), ("RGB", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {}),
        ("RGB", "BMP", {}), ("1", "BMP", {}), ("P", "BMP", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}), ("F", "TIFF", {}),
        ("L", "TIFF", {"compression": "jpeg"}), ("1", "TIFF", {"compression": "group4"}), ("I;16", "TIFF", {"compression": "tiff_deflate"}),
    ):  # fmt: skip
        out = io.BytesIO()
        plain[mode].save(out, kind, **options)
        made.append(out.getvalue())
    return made


def arrays() -> list[bytes]:
    rng = np.random.default_rng(0)
    images, vectors = rng.integers(0, 256, (6, 1, 8, 8), np.uint8), rng.normal(size=(6, 5)).astype(np.float32)
    made = []
    for array in (images, vectors, images[:, 0] / 255.0, vectors > 0, np.arange(12).reshape(6, 2)):
        out = io.BytesIO()
        np.save(out, array)
        made.append(out.getvalue())
    for save, named in (
        (np.savez, {"images": images, "labels": np.arange(6) % 2}),
        (np.savez_compressed, {"x": vectors, "y": np.array(list("abcabc"))}),
        (np.savez, {"features": vectors}),
    ):
        out = io.BytesIO()
        save(out, **named)
        made.append(out.getvalue())
    return made


def tables() -> tuple[list[bytes], list[bytes], list[bytes]]:
    """CSV, Parquet and Arrow files, of vectors and of images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    csv = [
        b"a,b,label\n1,2,x\n3,4,y\n5,,x\n",
        b"1,2,3\n4,5,6\n7,8,9\n",
        b'\xef\xbb\xbf;b;c\nr1;"x";1\nr2;y;2\nr3;x;3\n',
        b"a\tb\n0.5\tred\n1e3\tblue\n",
    ]
    cells = pa.table(
        {"a": [1.0, None, 3.0, 4.0], "b": ["x", "y", "x", None], "label": [0, 1, 0, 1], "c": [True, False, True, True]}
    )
    words = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "n": [1, 2, 3]})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": content, "path": None} for content in pictures()[:6]]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    images = pa.table({"image": pa.array(rows, kind), "label": [0, 1] * 3}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    flat = pa.table({"image": pa.array([row["bytes"] for row in rows]), "label": list("ababab")})
    parquet = []
    for table in (cells, words, images, flat):
        for how in ("none", "snappy", "zstd"):
            out = io.BytesIO()
            pq.write_table(table, out, compression=how)
            parquet.append(out.getvalue())
    arrow = []
    for table in (images, flat):
        for writer in (pa.ipc.new_stream, pa.ipc.new_file):
            out = io.BytesIO()
            with writer(out, table.schema) as stream:
                stream.write_table(table, max_chunksize=3)
            arrow.append(out.getvalue())
    return csv, parquet, arrow


def cells() -> list[bytes]:
    """Cells x genes as anndata lays them out: dense, CSR and CSC, with categories and a raw matrix."""
    import h5py
    from scipy.sparse import csc_array, csr_array

    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 5)).astype(np.float32)
    made = []
    for kind in ("array", "csr_matrix", "csc_matrix"):
        out = io.BytesIO()
        with h5py.File(out, "w", libver="latest" if kind == "csc_matrix" else "earliest") as file:
            for frame, count in (("obs", 6), ("var", 5), ("raw/var", 5)):
                group = file.create_group(frame)
                group.attrs["_index"] = "_index"
                group["_index"] = [f"{frame}{i}" for i in range(count)]
            file["obs/batch"] = ["a", "b"] * 3
            labels = file.create_group("obs/kind")
            labels["codes"], labels["categories"] = np.array([0, 1, 0, 1, 1, 0], np.int8), ["T", "B"]
            file["var/highly_variable"] = np.array([True, True, True, False, True])
            for place in ("X", "raw/X"):
                if kind == "array":
                    file.create_dataset(place, data=counts, chunks=(3, 5), compression="gzip")
                    continue
                matrix = (csr_array if kind == "csr_matrix" else csc_array)(counts)
                group = file.create_group(place)
                group.attrs["encoding-type"], group.attrs["shape"] = kind, [6, 5]
                group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        made.append(out.getvalue())
    return made


def tars() -> list[bytes]:
    made, images = [], pictures()
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
            for i, (name, content) in enumerate(((f"{'long/' * 12 * (k == 2)}{k}", images[k]) for k in range(4)), 1):
                for ending, data in ((".png", content), (".cls", b"%d" % (i % 2)), (".json", b'{"label": "a"}')):
                    info = tarfile.TarInfo(name + ("é" if kind == tarfile.PAX_FORMAT else "") + ending)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "0.png"
            archive.addfile(link)
        made.append(out.getvalue())
    return made


def written(folder: Path) -> dict[str, list[bytes]]:
    """What Swell itself writes, from the smallest run there is."""
    import swell
    from swell.data.gen import write_gen
    from swell.data.source import Provenance
    from swell.recipes import RECIPES

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), np.arange(60) % 3
    vectors = rng.normal(size=(60, 6)).astype(np.float32)
    made: dict[str, list[bytes]] = {
        name: []
        for name in ("encoder", "watched", "compared", "recipe", "checkpoint", "exported", "generator", "suite")
    }
    for name, data, extra in (
        ("images", images, {"method": "simclr", "method_options": {"hidden": 8, "outputs": 4}}),
        ("vectors", vectors, {"method": "vicreg", "method_options": {"hidden": 8, "outputs": 4}}),
        (
            "vit",
            rng.integers(0, 256, (60, 3, 16, 16), np.uint8),
            {"method": "simclr", "backbone": "vit_tiny", "backbone_options": {"depth": 1, "patch": 4}},
        ),
    ):
        settings: dict[str, Any] = {
            "steps": 4,
            "batch_size": 16,
            "width": 0.25 if name == "images" else 0.1,
            "seed": 1,
            **extra,
        }
        run = swell.pretrain(data, folder / name, quiet=True, **settings)
        run.evaluate((data, labels), baselines=False)
        swell.export(run, folder / f"{name}.safetensors")
        files = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
        made["encoder"].append(packed({k: v for k, v in files.items() if k in ENCODER}))
        told = packed({k: v for k, v in files.items() if k in RUN and len(v) < 40_000})
        made["watched"].append(told)
        made["compared"].append(told)
        made["recipe"].append(files["recipe.toml"])
        if name == "images":
            made["own"] = [packed({k: v for k, v in files.items() if k in RUN})]
        made["checkpoint"].append(files["checkpoint.pt"] if name == "vectors" else _small_checkpoint(folder))
        made["exported"].append((folder / f"{name}.safetensors").read_bytes())
    live = {"state": "running", "step": 7, "seconds": 1.5, "total_steps": 20, "loss": 2.0, "memory_bytes": 10**9}
    phases = [{"phase": 1, "attempt": 1, "trains": "encoder", "rolled_back": False, "seconds": 1.0}]
    lines = [
        {
            "step": i,
            "seconds": 0.1 * i,
            "loss": 3.0 - i / 9,
            "samples_real": 16 * i,
            "samples_generated": 0,
            "score_rankme": 2.0,
        }
        for i in range(9)
    ]
    made["watched"].append(packed({
        "recipe.toml": b'steps = 20\nmethod = "simclr"\n[[phases]]\ntrains = "encoder"\nsteps = 3\n', "live.json": json.dumps(live).encode(),
        "phases.jsonl": "\n".join(map(json.dumps, phases)).encode(), "metrics.jsonl": "\n".join(map(json.dumps, lines)).encode(),
    }))  # fmt: skip
    import tomli_w

    made["recipe"] += [tomli_w.dumps(RECIPES[entry.name]().to_dict()).encode() for entry in RECIPES]
    small = {"width": 8, "latent": 4, "components": 4}
    for name, options in (
        ("vae", {**small, "depth": 1}),
        ("diffusion", {"width": 8, "depth": 1, "reference": 16}),
        ("gan", small),
        ("kde", {}),
    ):
        place = folder / f"gen-{name}"
        swell.generate(vectors, place, generator=name, count=20, steps=2, options=options, quiet=True)
        made["generator"].append((place / "generator.safetensors").read_bytes())
    arms = [{"name": "one", "rows": None, "generated": "", "recipe": {}}]
    prints = swell.open(images).fingerprint
    told = {
        "format": "swell-suite-1",
        "suite": "mine",
        "arms": arms,
        "generated": {},
        "seeds": 2,
        "data": {"fingerprint": prints},
    }
    made["suite"].append(
        packed(
            {"suite.json": json.dumps(told).encode(), "recipe.toml": (folder / "images" / "recipe.toml").read_bytes()}
        )
    )
    made["gen"] = []
    for kind, samples in (("images", images[:6]), ("vectors", vectors[:6])):
        place = write_gen(folder / f"samples-{kind}", samples, Provenance("generated", "gen", "diffusion"))
        made["gen"].append(packed({path.name: path.read_bytes() for path in place.iterdir() if path.name in GEN}))
    return made


def _small_checkpoint(folder: Path) -> bytes:
    import torch

    from swell.checkpoint import save_checkpoint

    state = {
        "step": 3,
        "rng": torch.arange(8, dtype=torch.uint8),
        "parts": {"w": torch.ones(2, 3, dtype=torch.bfloat16)},
        "seen": [1.5, None, "x"],
    }
    save_checkpoint(folder / "small.pt", state)
    return (folder / "small.pt").read_bytes()


def main() -> None:
    root = Path(sys.argv[1]) / "seeds"
    csv, parquet, arrow = tables()
    found = {"image": pictures(), "mask": pictures()[:6], "array": arrays(), "codes": arrays()[5:], "cells": cells(), "csv": csv,
             "parquet": parquet, "arrow": arrow, "tar": tars()}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="swell-fuzz-") as folder:
        found |= written(Path(folder))
        root.mkdir(parents=True, exist_ok=True)
        unpacked(found.pop("own")[0], root.parent / "own", RUN)  # beside which a stranger's run is compared
        own = root.parent / "own"
        (own / "encoder.safetensors").touch()
        (own / "recipe.toml").write_text((own / "recipe.toml").read_text().replace("\nseed = 1\n", "\nseed = 9\n"))
        for name, contents in found.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for number, content in enumerate(contents):
                (root / name / f"{number:02d}").write_bytes(content)


if __name__ == "__main__":
    main()
