"""The cases of `malformed.py` about cells and tables: .h5ad, .csv and .parquet files, and preparations."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malformed_inputs import PICKLE, Build, Case, cut, pipe, saved, written

GENES = [f"gene{j}" for j in range(12)]
FEW = ("--steps", "2", "--batch-size", "16", "--width", "0.1")
HAS_H5PY = importlib.util.find_spec("h5py") is not None
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
PREPARATION = "cells/preparation.safetensors"


def ready_vectors() -> Iterator[tuple[str, ...]]:
    """Write what the cases start from to the working folder; the commands that make its run from it."""
    counts = np.random.default_rng(0).poisson(1.5, (40, 12))
    rows = "".join(f"{i},{i % 7},{'rg'[i % 2]}\n" for i in range(40))
    Path("table.csv").write_text("width,doors,colour\n" + rows)
    yield ("pretrain", "table.csv", "--out", "rows", *FEW)
    if HAS_H5PY:
        write_h5ad(Path("cells.h5ad"), counts)
        yield ("pretrain", "cells.h5ad", "--out", "cells", *FEW)


def write_h5ad(path: Path, counts: np.ndarray) -> None:
    """Counts [N, 12] as anndata writes them, with labels and a batch, by hand: anndata need not be there."""
    import h5py

    with h5py.File(path, "w") as file:
        rows, columns = np.nonzero(counts)
        x = file.create_group("X")
        x.attrs["encoding-type"], x.attrs["shape"] = "csr_matrix", counts.shape
        x["data"], x["indices"] = counts[rows, columns].astype(np.float32), columns.astype(np.int32)
        x["indptr"] = np.r_[0, np.bincount(rows, minlength=len(counts)).cumsum()].astype(np.int32)
        for name, words in (("obs", [f"cell{i}" for i in range(len(counts))]), ("var", GENES)):
            frame = file.create_group(name)
            frame.attrs["_index"] = "_index"
            frame["_index"] = words
        file["obs"]["label"] = np.arange(len(counts)) % 3
        file["obs"]["donor"] = ["one", "two"] * (len(counts) // 2)


def copied(*names: str) -> tuple[Build, ...]:
    def build(name: str) -> Build:
        def copy(at: Path, templates: Path) -> None:
            (shutil.copytree if (templates / name).is_dir() else shutil.copy)(templates / name, at / name)

        return copy

    return tuple(build(name) for name in names)


def edited(change: Callable[[Any], object]) -> Build:
    """cells.h5ad after `change`."""

    def build(at: Path, _: Path) -> None:
        import h5py

        with h5py.File(at / "cells.h5ad", "r+") as file:
            change(file)

    return build


def put(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Build:
    """cells.h5ad with `value` of what lay at `name` there."""

    def change(file: Any) -> None:
        old = file[name][()]
        del file[name]
        file[name] = value(old)

    return edited(change)


def stored(change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> Build:
    """The run's preparation after `change` of its words and its arrays."""

    def build(at: Path, _: Path) -> None:
        from safetensors.numpy import load_file, save_file

        path = at / PREPARATION
        content = path.read_bytes()
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        words, arrays = json.loads(head["__metadata__"]["preparation"]), load_file(path)
        change(words, arrays)
        save_file(arrays, path, {"preparation": json.dumps(words)})

    return build


def vectors() -> Iterator[Case]:
    yield from _tables()
    if HAS_H5PY:
        yield from _cells()


def _tables() -> Iterator[Case]:
    train = ("pretrain", "x.csv", "--out", "out", *FEW)
    embed = ("embed", "rows", "x.csv", "--out", "z.npz")
    for name, names, text in (
        ("a table with a short row", "1 cells in row 3", "a,b\n1,2\n3\n4,5\n"),
        ("a table with a long row", "3 cells in row 3", "a,b\n1,2\n3,4,5\n"),
        ("a table with a long row of words", "3 cells in row 3", "a,b\n1,x\n3,y,z\n"),
        ("a table of one row", "x.csv: 1 samples", "a,b\n1,2\n"),
        ("a table of names alone", "x.csv: 0 samples", "a,b\n"),
        ("a table without a byte", "x.csv (empty)", ""),
        ("a table with a name twice", "'a' twice", "a,a\n1,2\n3,4\n"),
        ("a table with an infinite number", "'b': infinite in row 1", "a,b\n1,2\n3,inf\n"),
        ("a table of empty cells", "columns a, b", "a,b\n,NA\n,nan\n"),
        ("a table of labels alone", "no columns but labels", "label\n1\n2\n"),
        ("a table with an open quote", "x.csv", 'a,b\n"1,2\n3,4\n'),
        ("a table in another encoding", "x.csv", "a,b\n1,grün\n3,rot\n".encode("latin-1")),
        ("a pickle named .csv", "x.csv", PICKLE),
    ):
        yield Case(name, train, names, (written("x.csv", text),))
    yield Case("a pipe named .csv", train, "x.csv", (pipe("x.csv"),))
    yield Case("a size for a table", (*train, "--size", "8"), "size 8", (written("x.csv", "a,b\n1,2\n3,4\n"),))
    rows = copied("rows")
    for name, names, text in (
        ("rows without a column", "'doors'", "width,colour\n1,r\n2,g\n"),
        ("rows with words for numbers", "'width' of another kind", "width,doors,colour\nbig,1,r\nsmall,2,g\n"),
        ("rows with numbers for words", "'colour' of another kind", "width,doors,colour\n1,1,1\n2,2,2\n"),
        ("rows of nothing known", "2 columns missing", "a,b\n1,2\n2,3\n"),
    ):
        yield Case(name, embed, names, (*rows, written("x.csv", text)))
    yield Case("an array of another width", ("embed", "rows", "x.npy", "--out", "z.npz"), "vectors of 6",
               (*rows, saved("x.npy", np.ones((9, 6)))))  # fmt: skip
    yield Case("images to a run of rows", ("embed", "rows", "data.npz", "--out", "z.npz"), "[1, 8, 8]", rows)
    yield Case("labels that were features", ("evaluate", "rows", "table.csv", "--labels", "colour"), "'colour'",
               (*rows, *copied("table.csv")))  # fmt: skip
    yield Case("patches of rows", ("embed", "rows", "table.csv", "--out", "z.npz", "--patches", "4"), "patches",
               (*rows, *copied("table.csv")))  # fmt: skip
    yield Case("cells out of a table", ("embed", "rows", "table.csv", "--out", "z.h5ad"), "z.h5ad",
               (*rows, *copied("table.csv")))  # fmt: skip
    if HAS_PYARROW:
        for name, content in (
            ("a zero-byte .parquet", ""),
            ("a pickle named .parquet", PICKLE),
            ("text named .parquet", "a"),
        ):
            yield Case(name, ("pretrain", "x.parquet", "--out", "out"), "x.parquet", (written("x.parquet", content),))


def _cells() -> Iterator[Case]:
    train = ("pretrain", "cells.h5ad", "--out", "out", *FEW)
    embed, cells = ("embed", "cells", "cells.h5ad", "--out", "z.npz"), copied("cells.h5ad")
    damage: tuple[tuple[str, str, Build], ...] = (
        ("cells cut short", "a whole .h5ad", cut("cells.h5ad")),
        ("cells without a byte", "a whole .h5ad", cut("cells.h5ad", 0.0)),
        ("a pickle named .h5ad", "a whole .h5ad", written("cells.h5ad", PICKLE)),
        ("text named .h5ad", "a whole .h5ad", written("cells.h5ad", "dear diary")),
        ("CSR pointers that run backwards", "run backwards", put("X/indptr", lambda p: np.r_[p[0], p[-2:0:-1], p[-1]])),
        ("CSR pointers that do not begin at 0", "pointers", put("X/indptr", lambda p: p + 1)),
        ("CSR pointers beyond the values", "pointers", put("X/indptr", lambda p: p * 2)),
        ("a CSR pointer too few", "pointers", put("X/indptr", lambda p: p[:-1])),
        ("CSR columns beyond the genes", "beyond its width", put("X/indices", lambda c: c + 9)),
        ("CSR columns below 0", "beyond its width", put("X/indices", lambda c: c - 1)),
        ("CSR values too few", "pointers", put("X/data", lambda v: v[:-1])),
        ("CSR pointers with fractions", "whole numbers", put("X/indptr", lambda p: p + 0.5)),
        ("CSR values that are words", "numbers", put("X/data", lambda v: np.array([b"x"] * len(v)))),
        ("NaN among counts", "NaN or infinite", put("X/data", lambda v: v * np.nan)),
        ("an infinite count", "NaN or infinite", put("X/data", lambda v: np.r_[v[:-1], np.inf])),
        ("cells without a count", "without a single count", put("X/data", lambda v: v * 0)),
        ("two genes of one name", "'gene0'", put("var/_index", lambda g: np.r_[g[:1], g[:1], g[2:]])),
        ("a gene name too few", "11 genes", put("var/_index", lambda g: g[1:])),
        ("cells without X", "no X", edited(lambda f: f.__delitem__("X"))),
        ("cells without obs", "no obs and var", edited(lambda f: f.__delitem__("obs"))),
        ("cells without a shape", "cells.h5ad", edited(lambda f: f["X"].attrs.__delitem__("shape"))),
        (
            "a matrix of another kind",
            "stored as bsr",
            edited(lambda f: f["X"].attrs.__setitem__("encoding-type", "bsr")),
        ),
        ("values that claim terabytes", "more than it can hold", edited(_terabytes)),
        ("values that lie in another file", "another file", edited(_elsewhere)),
    )
    for name, names, build in damage:
        yield Case(name, train, names, (*cells, build))
    run = (*copied("cells"), *cells)
    renamed = put("var/_index", lambda g: np.array([f"ENSG{j}".encode() for j in range(len(g))]))
    later: tuple[tuple[str, str, Build], ...] = (
        ("cells with other genes", "12 of 12 genes missing", renamed),
        (
            "cells that lack genes",
            "3 of 12 genes missing",
            put("var/_index", lambda g: np.r_[[b"a", b"b", b"c"], g[3:]]),
        ),
        ("logged cells where there were counts", "whole counts", put("X/data", lambda v: np.log1p(v))),
        ("scaled cells where there were counts", "negative values", put("X/data", lambda v: v - 2)),
        ("a preparation cut short", PREPARATION, cut(PREPARATION)),
        ("a preparation that is a pickle", PREPARATION, written(PREPARATION, PICKLE)),
        (
            "a preparation of a later format",
            "preparation-9",
            stored(lambda w, _: w.update(format="swell-preparation-9")),
        ),
        ("a preparation of no known kind", "soup", stored(lambda w, _: w.update(kind="soup"))),
        ("a preparation with a gene too many", PREPARATION, stored(lambda _, a: a.update(genes=np.arange(13)))),
        ("a preparation that is NaN", PREPARATION, stored(lambda _, a: a.update(scale=a["scale"] * np.nan))),
        ("a preparation without settings", PREPARATION, stored(lambda w, _: w.update(settings={}))),
    )
    for name, names, build in later:
        yield Case(name, embed, names, (*run, build))
    evaluate = ("evaluate", "cells", "cells.h5ad", "--labels")
    yield Case("labels that no cell has", (*evaluate, "labl"), "did you mean 'label'?", run)
    yield Case("images to a run of cells", ("embed", "cells", "data.npz", "--out", "z.npz"), "[1, 8, 8]", run)
    yield Case(
        "features into a folder of cells",
        (*embed[:-1], "d.h5ad"),
        "d.h5ad",
        (*run, lambda at, _: (at / "d.h5ad").mkdir()),
    )


def _terabytes(file: Any) -> None:
    del file["X/data"]
    file["X"].create_dataset("data", (10**12,), "f4", chunks=(1000,))


def _elsewhere(file: Any) -> None:
    count = len(file["X/data"])
    del file["X/data"]
    file["X"].create_dataset("data", (count,), "f4", external="data.npz")
