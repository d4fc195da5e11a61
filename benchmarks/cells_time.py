"""Seconds and memory of three sets of cells, each by a process of its own, as the command line has it.

    python benchmarks/cells_time.py

From the file to a probed embedding: the 700 cells of pbmc68k_reduced (wanted in 60 seconds) and the 8,617 of CITE-CBMC (in 5
minutes). Then 100,000 x 2,000 sparse counts, drawn again from real cells and thinned, trained for a few hundred steps (within
4 GiB, the whole process).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

import numpy as np  # noqa: E402

from _cells import cells_file  # noqa: E402
from _common import Load, claim, write_result  # noqa: E402
from swell.files import read_json  # noqa: E402
from swell.threads import free_cores  # noqa: E402

WANTED = {"pbmc68k": 60, "cite_cbmc": 300}  # seconds at most
MANY, KEPT, STEPS, MOST = 100_000, 0.9, 300, 4  # cells, share of the counts that thinning leaves, steps, GiB


def main(pbmc_steps: int, cite_steps: int) -> None:
    begun, load, found = time.perf_counter(), Load(), {}
    free_cores()
    with tempfile.TemporaryDirectory() as folder:
        for name, steps in (("pbmc68k", pbmc_steps), ("cite_cbmc", cite_steps)):
            found[name] = probed(cells_file(name), Path(folder) / name, steps)
            print(name, found[name], flush=True)
        many = Path(folder) / "many.h5ad"
        shape = write_many(cells_file("cite_cbmc"), many)
        found["many"] = command(["pretrain", many, "--out", Path(folder) / "run", "--steps", STEPS, "--seed", 0])
        cost = read_json(Path(folder) / "run" / "ledger.json")["pretraining"]["seconds"]
        found["many"] |= {**shape, "steps": STEPS, "training_seconds": cost}
        print("many", found["many"], flush=True)
    pbmc, cite, gib = found["pbmc68k"], found["cite_cbmc"], found["many"]["peak_memory_bytes"] / 2**30
    detail = (
        f"linear {pbmc['linear']:.1f}, kNN {pbmc['knn']:.1f}; CITE-CBMC {cite['seconds']:.0f} s, {cite['linear']:.1f} and "
        f"{cite['knn']:.1f}; {MANY:,} x {shape['genes']:,} sparse counts, {STEPS} steps: {found['many']['seconds']:.0f} s, "
        f"{gib:.2f} GiB of the whole process"
    )
    seconds = time.perf_counter() - begun
    line = claim(
        "pbmc68k_reduced, file to probed embedding",
        pbmc["seconds"],
        None,
        1,
        seconds,
        "s",
        detail,
        "a process each, all cores",
    )
    met = {name: found[name]["seconds"] < most for name, most in WANTED.items()} | {"many": gib < MOST}
    write_result("cells-time", {"rows": found, "met": met, "load": load.read(), "seconds": seconds, "claim": line})
    print(met, line, sep="\n")


def probed(file: Path, out: Path, steps: int) -> dict[str, Any]:
    """`swell pretrain` and `swell evaluate` from their start to their end, reports and all."""
    trained = command(["pretrain", file, "--out", out, "--seed", 0, *(["--steps", steps] if steps else [])])
    judged = command(["evaluate", out, file, "--labels", "label"])
    scores = read_json(out / "evaluation.json")
    return {
        "seconds": trained["seconds"] + judged["seconds"],
        "pretrain_seconds": trained["seconds"],
        "evaluate_seconds": judged["seconds"],
        "peak_memory_bytes": max(trained["peak_memory_bytes"], judged["peak_memory_bytes"]),
        **{name: 100 * scores[name]["accuracy"] for name in ("linear", "knn")},
        "steps": steps or "default",
    }


def command(arguments: list[Any]) -> dict[str, float]:
    """One command in a process of its own: its seconds, the start of Python included, and the most memory it held."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "swell", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_PROC_BIND", "GOMP_SPINCOUNT")}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {process.returncode}")
    return {"seconds": time.perf_counter() - begun, "peak_memory_bytes": usage.ru_maxrss * 1024}


def write_many(file: Path, out: Path) -> dict[str, int]:
    """Counts of cells drawn again from `file`, each count thinned by itself, as an .h5ad of a sparse matrix."""
    import h5py
    from scipy.sparse import csr_array

    with h5py.File(file) as source:
        x, names = source["X"], source["var"][source["var"].attrs["_index"]][:]
        parts = (x["data"][:], x["indices"][:], x["indptr"][:])
        few = csr_array(parts, shape=tuple(x.attrs["shape"]))
    rng = np.random.default_rng(0)
    many = few[rng.integers(few.shape[0], size=MANY)]
    many.data = rng.binomial(many.data.astype(np.int64), KEPT).astype(np.float32)
    many.eliminate_zeros()
    with h5py.File(out, "w") as target:
        target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        group = target.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": many.shape})
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(many, name))
        for name, index in (("obs", [f"cell {i}" for i in range(MANY)]), ("var", names)):
            frame = target.create_group(name)
            about = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index", "column-order": []}
            frame.attrs.update(about)
            frame.create_dataset("_index", data=index, dtype=h5py.string_dtype())
            frame["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    return {"cells": MANY, "genes": many.shape[1], "counts": int(many.nnz)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pbmc-steps", type=int, default=0, help="0: as the default recipe has it")
    parser.add_argument("--cite-steps", type=int, default=0, help="0: as the default recipe has it")
    main(**vars(parser.parse_args()))
