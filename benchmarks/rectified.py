"""What it saves and costs to make activations again in the backward pass instead of keeping them.

    python benchmarks/rectified.py [--rounds 3] [--steps 6] [--batch 256]

Forward, backward and update of SimCLR on ResNet-18, two views of 32x32 that are ready, bf16, by `swell.nets.rectified` and with
everything kept. Each run has a process of its own, whose peak is read; rounds take turns. With glibc, whose gaps come on
top, and with tcmalloc, which has none, where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

from swell.threads import bind_threads, free_cores

bind_threads()

from _common import Load, claim, write_result  # noqa: E402
from allocator import allocators  # noqa: E402
from step import step_of_resnet18  # noqa: E402
from swell.nets.rectified import all_kept  # noqa: E402
from swell.training.allocator import memory_reused  # noqa: E402

WARM = 3  # steps until the heap has found its size
ARMS = {"kept": all_kept, "again": nullcontext}


def resident(field: str) -> float:
    """MiB: VmRSS now, or VmHWM, its peak."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(arm: str, steps: int, batch: int) -> dict[str, Any]:
    step, load = step_of_resnet18(batch), Load()
    before, seconds = resident("VmRSS"), []
    with memory_reused(), ARMS[arm]():
        for t in range(WARM + steps):
            begun = time.perf_counter()
            step()
            if t >= WARM:
                seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds, "mib": resident("VmHWM") - before, "peak_mib": resident("VmHWM"), **load.read()}


def in_a_process(arm: str, environment: dict[str, str], args: argparse.Namespace) -> dict[str, Any]:
    task = {"arm": arm, "steps": args.steps, "batch": args.batch}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MALLOC_"))}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**clean, **environment})
    if done.returncode:
        raise SystemExit(f"{task}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="measured in each process")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measure(**json.loads(args.task))))
        return
    free_cores()  # or the measured would inherit this process's one core
    begun = time.perf_counter()
    known = {name: env for name, env in allocators().items() if name in ("glibc, kept", "tcmalloc")}
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {name: {arm: [] for arm in ARMS} for name in known}
    for _ in range(args.rounds):
        for name, environment in known.items():
            for arm in ARMS:
                found = in_a_process(arm, environment, args)
                rows[name][arm].append(found)
                print(
                    f"  {name}, {arm}: {statistics.median(found['seconds']):.3f} s, {found['mib']:,.0f} MiB", flush=True
                )
    spent, summary, lines = time.perf_counter() - begun, {}, []
    for name, arms in rows.items():
        pairs = list(zip(arms["again"], arms["kept"], strict=True))
        time_ratios = [statistics.median(a["seconds"]) / statistics.median(k["seconds"]) for a, k in pairs]
        memory_ratios = [a["mib"] / k["mib"] for a, k in pairs]
        mib = {arm: statistics.mean(row["mib"] for row in found) for arm, found in arms.items()}
        summary[name] = {"time_ratios": time_ratios, "memory_ratios": memory_ratios, "mib": mib}
        sd = statistics.stdev(memory_ratios) if len(pairs) > 1 else None
        detail = f"{mib['again']:,.0f} of {mib['kept']:,.0f} MiB, time of a step {statistics.mean(time_ratios):.3f}x"
        title = f"a step's memory, activations made again over all kept, {name}"
        lines.append(claim(title, statistics.mean(memory_ratios), sd, len(pairs), spent, "x", detail))
    settings = {"batch": args.batch, "steps": args.steps, "backbone": "resnet18", "precision": "bf16"}
    result = {**summary, "rows": rows, "settings": settings, "claim": lines[0], "claims": lines}
    print(write_result("rectified", result))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
