"""What keeps the memory of a training step on the CPU best: glibc as it is, glibc told to keep it, jemalloc, tcmalloc.

    python benchmarks/allocator.py [--rounds 3] [--steps 12] [--batch 128]

Each run is a `swell pretrain` of its own: SimCLR, ResNet-18 at full width, CIFAR-10. Rate over its last steps, as its
metrics.jsonl has them; peak memory as its ledger.json has it. In turn, round by round. jemalloc and tcmalloc are preloaded where
the system has them (Debian: libjemalloc2, libtcmalloc-minimal4), else left out. jemalloc is told to give nothing back.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import ROOT, Load, cifar10, claim, write_result
from swell.files import read_json

COMMAND = ("-m", "swell")
RETURNED = "glibc, kept, gaps returned"
AND_RETURN = """  # the command line, but that between forward and backward all free pages go back to the system
from swell.threads import bind_threads
bind_threads()
import ctypes
from swell.training.step import Stepper
libc, loss = ctypes.CDLL(None), Stepper.loss

def trimmed(self, *given):
    outcome = loss(self, *given)
    libc.malloc_trim(0)
    return outcome

Stepper.loss = trimmed
from swell.cli import main
raise SystemExit(main())
"""
FIRST = 3  # steps before the rate is taken: the first counts FLOPs, the next ones fill the heap
LIBRARIES = {"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}
KEEP = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}  # unset, it gives back what is unused after seconds
FOLDERS = tuple(Path(folder) for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"))


def allocators() -> dict[str, dict[str, str]]:
    """What is set for each; `MALLOC_PERTURB_=0` changes nothing but that Swell leaves the allocator alone."""
    known = {"glibc as it is": {"MALLOC_PERTURB_": "0"}, "glibc, kept": {}, RETURNED: {}}
    for name, file in LIBRARIES.items():
        found = next((folder / file for folder in FOLDERS if (folder / file).exists()), None)
        if found is not None:
            known[name] = {"LD_PRELOAD": str(found), **(KEEP if name == "jemalloc" else {})}
    return known


def one(command: tuple[str, str], environment: dict[str, str], images: Path, steps: int, batch: int) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MALLOC_")) and k != "LD_PRELOAD"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        given = f"--method simclr --backbone resnet18 --batch-size {batch} --steps {steps}".split()
        load = Load()
        subprocess.run(
            [sys.executable, *command, "pretrain", str(images), "--out", str(out), *given],
            env={**clean, "PYTHONPATH": str(ROOT / "src"), **environment},
            check=True,
            capture_output=True,
        )
        others = load.read()
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        peak = read_json(out / "ledger.json")["peak_memory_bytes"]
    (first, begun), (last, ended) = ((records[i]["step"], records[i]["seconds"]) for i in (FIRST - 1, -1))
    return {"rate": batch * (last - first) / (ended - begun), "peak_memory_bytes": peak, **others}


def main(rounds: int, steps: int, batch: int) -> None:
    begun, known = time.perf_counter(), allocators()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "cifar10.npy"
        np.save(images, cifar10("train")[0])
        for _ in range(rounds):
            for name, environment in known.items():
                command = ("-c", AND_RETURN) if name == RETURNED else COMMAND
                rows[name].append(row := one(command, environment, images, steps, batch))
                print(name, {key: round(value, 3) for key, value in row.items()}, flush=True)
    base = rows["glibc, kept"]
    told = {}
    for name, runs in rows.items():
        rates = [a["rate"] / b["rate"] for a, b in zip(runs, base, strict=True)]
        memory = [a["peak_memory_bytes"] / b["peak_memory_bytes"] for a, b in zip(runs, base, strict=True)]
        told[name] = {
            "rate": statistics.fmean(rates),
            "memory": statistics.fmean(memory),
            "mib": statistics.fmean(run["peak_memory_bytes"] for run in runs) / 2**20,
        }
    own = [run["peak_memory_bytes"] / 2**20 for run in base]
    detail = "; ".join(
        f"{name}: {x['mib']:,.0f} MiB, {x['memory']:.2f} of its memory at {x['rate']:.2f} of its rate"
        for name, x in told.items()
        if name != "glibc, kept"
    )
    line = claim(
        "peak of SimCLR, memory kept by glibc",
        statistics.fmean(own),
        statistics.stdev(own) if rounds > 1 else None,
        rounds,
        time.perf_counter() - begun,
        "MiB",
        f"ResNet-18, batch {batch}, bf16 where the CPU has it; {detail}",
        threads="2 threads a run",
    )
    write_result("allocator", {"claim": line, "rows": rows, "ratios": told, "steps": steps, "batch": batch})
    print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    main(**vars(parser.parse_args()))
