"""Does a sample cost the same among a million as among ten thousand, and how do seconds and memory grow with the rest?

    python benchmarks/scaling.py [--counts 10000 100000 1000000] [--rounds 3] [--steps 20] [--files 1000000]

Three parts, `--parts n axes start`. `n`: whole SimCLR steps on so many samples, each from an array in memory, from a map
of decoded images on disk (as folders are trained on) and from tar shards; the counts take turns step by step in one
process, since a machine's own rate changes in minutes, and memory is read in a process for each. `axes`: the same on shards over batch, side,
width and number of views, one at a time. `start`: seconds to open so many image files, and shards, for the first time
and again.

Samples are CIFAR-10 over and over. Shards and files are hard links to a few different ones, so the disk's own speed
plays no part.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from swell.threads import bind_threads, free_cores

bind_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from _common import Load, cifar10, claim, write_result  # noqa: E402
from second_start import timed_open  # noqa: E402
from swell.data.open import open_data  # noqa: E402
from swell.data.source import Provenance, Source  # noqa: E402
from swell.devices import pick_device  # noqa: E402
from swell.errors import InputError  # noqa: E402
from swell.files import atomic_path  # noqa: E402
from swell.recipes import Recipe  # noqa: E402
from swell.training.build import build, resolve  # noqa: E402
from swell.training.step import Stepper  # noqa: E402
from swell.views.plan import VIEWS  # noqa: E402

KINDS = ("memory", "map", "shards")
DIFFERENT, EACH = 10_000, 1000  # images in the shards that are not links, and in one of them
USUAL = {"batch": 256, "side": 32, "width": 0.25, "views": 2}
AXES = {"batch": (64, 256, 1024), "side": (32, 64, 96), "width": (0.125, 0.25, 0.5), "views": (2, 4, 8)}
WARM = 3  # steps before the clock starts; the first counts FLOPs
FILES_DIFFERENT, FOLDERS = 4000, 100


def make_map(folder: Path, count: int) -> Path:
    """A .npy file of `count` images."""
    path = folder / f"map-{count}.npy"
    if not path.exists():
        images, _ = cifar10()
        need, free = count * images[0].nbytes, shutil.disk_usage(folder).free
        if need > free:
            raise InputError(f"{folder} ({free / 1e9:.1f} GB free)", f"{need / 1e9:.1f} GB", "set TMPDIR")
        with atomic_path(path) as temporary:
            out = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, *images.shape[1:]))
            for start in range(0, count, len(images)):
                out[start : start + len(images)] = images[: count - start]
            out.flush()
    return path


def make_shards(folder: Path, count: int, each: int) -> Path:
    """`count` images in tar files of `each`, the first of them real files, the others links to these."""
    root = folder / f"shards-{count}"
    if root.exists():
        return root
    real = folder / "shards-real"
    if not real.exists():
        images, _ = cifar10()
        real.mkdir()
        for s in range(0, min(DIFFERENT, count), each):
            with tarfile.open(real / f"{s // each:04d}.tar", "w") as tar:
                for i in range(s, s + each):
                    buffer = io.BytesIO()
                    Image.fromarray(images[i].transpose(1, 2, 0)).save(buffer, "png")
                    info = tarfile.TarInfo(f"{i:07d}.png")
                    info.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(info, buffer)
    own = sorted(real.glob("*.tar"))
    root.mkdir()
    for k in range(count // each):
        os.link(own[k % len(own)], root / f"{k:05d}.tar")
    return root


def make_files(folder: Path, count: int) -> Path:
    """`count` PNGs of 32x32 in folders, links to a few thousand."""
    images, _ = cifar10()
    root, real = folder / "files", folder / "files-real"
    real.mkdir()
    for k in range(min(FILES_DIFFERENT, count)):
        Image.fromarray(images[k].transpose(1, 2, 0)).save(real / f"{k}.png")
    for i in range(count):
        part = root / f"{i % FOLDERS:03d}"
        if i < FOLDERS:
            part.mkdir(parents=True)
        os.link(real / f"{i % FILES_DIFFERENT}.png", part / f"{i:07d}.png")
    return root


# ---- one measurement, in a process of its own ----------------------------------------------------------------


def stepping(task: dict[str, Any]) -> Stepper:
    source = opened(task)
    recipe = Recipe(
        steps=1000, batch_size=task["batch"], width=task["width"], view_count=task["views"], views=VIEWS["simclr"](), optimizer="sgd",
        learning_rate=0.01, method_options={"hidden": 256, "outputs": 64},
    )  # fmt: skip
    device = pick_device("auto")
    return build(resolve(recipe, source, device), source, None, device)


def stepped(stepper: Stepper, t: int) -> float:
    """Seconds of step t."""
    begun = time.perf_counter()
    loss, _, _ = stepper(t, t / 1000)
    loss.item()  # a GPU has done the step only now
    return time.perf_counter() - begun


def measure(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of every step of each task, a step of each in turn, and what memory the process and those that decode for
    it take.
    """
    steppers = [stepping(task) for task in tasks]
    for stepper in steppers:
        stepper.measured(0, 0.0)
    load = Load()
    turns = [[stepped(stepper, t) for stepper in steppers] for t in range(1, WARM + tasks[0]["steps"])][WARM - 1 :]
    anonymous = own_memory()
    for stepper in steppers:
        stepper.close()
    return {
        "seconds": [list(seconds) for seconds in zip(*turns, strict=True)],
        "anonymous_mib": anonymous,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "gpu_peak_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0,
        **load.read(),
    }


def opened(task: dict[str, Any]) -> Source:
    if task["kind"] == "shards":
        return open_data(task["path"], size=task["side"], quiet=True)
    mapped = np.load(task["path"], mmap_mode="r")
    source = Source(mapped if task["kind"] == "map" else np.array(mapped), Provenance("real", "scaling"))
    object.__setattr__(source, "_fingerprint", "scaling")
    return source


def own_memory() -> float:
    """MiB that are this process's own or shared with those that decode for it: neither maps of files nor code."""
    found = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(("RssAnon", "RssShmem")):
            found += int(line.split()[1])
    return found / 1024


def in_a_process(*tasks: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", json.dumps(tasks)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=clean)
    if done.returncode:
        raise SystemExit(f"{tasks}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for task, seconds in zip(tasks, found["seconds"], strict=True):
        rate = task["batch"] / statistics.median(seconds)
        told = f"{rate:,.0f} samples/s, {found['anonymous_mib']:,.0f} MiB in all"
        print(f"  {task['kind']} {task['count']:,} {shown(task)}: {told}", flush=True)
    return found


def shown(task: dict[str, Any]) -> str:
    return " ".join(f"{axis}={task[axis]:g}" for axis in USUAL)


# ---- the parts ---------------------------------------------------------------------------------------------


def over_n(folder: Path, args: argparse.Namespace, each: int) -> dict[str, Any]:
    """Microseconds a sample by kind and count, and the ratio of the largest count to the smallest: the median over
    turns, by rounds.
    """
    paths = {n: {"shards": make_shards(folder, n, each), "map": make_map(folder, n)} for n in args.counts}
    tasks = {
        kind: [
            {**USUAL, "kind": kind, "count": n, "path": str(paths[n].get(kind, paths[n]["map"])), "steps": args.steps}
            for n in args.counts
        ]
        for kind in KINDS
    }
    rounds = [{kind: in_a_process(*tasks[kind]) for kind in KINDS} for _ in range(args.rounds)]
    out: dict[str, Any] = {}
    for kind in KINDS:
        each_n: dict[int, list[float]] = {n: [] for n in args.counts}
        ratios = []
        for found in (r[kind] for r in rounds):
            for n, seconds in zip(args.counts, found["seconds"], strict=True):
                each_n[n].append(1e6 * statistics.median(seconds) / USUAL["batch"])
            pairs = zip(found["seconds"][-1], found["seconds"][0], strict=True)
            ratios.append(statistics.median(last / first for last, first in pairs))
        alone = {task["count"]: in_a_process({**task, "steps": 2}) for task in tasks[kind]}
        out[kind] = {
            "microseconds_a_sample": each_n,
            "ratios": ratios,
            "mib": {n: row["anonymous_mib"] for n, row in alone.items()},
            "rows": [r[kind] for r in rounds],
            "alone": alone,
        }
    return out


def over_axes(folder: Path, args: argparse.Namespace, each: int) -> dict[str, Any]:
    """Microseconds a sample and MiB along each axis, the others as usual."""
    n = args.counts[0]
    path, out = str(make_shards(folder, n, each)), {}
    for axis, values in AXES.items():
        for value in values:
            task = {**USUAL, axis: value, "kind": "shards", "count": n, "path": path, "steps": args.steps}
            if task["batch"] * 3 > n:
                continue
            found = in_a_process(task)
            micro = 1e6 * statistics.median(found["seconds"][0]) / task["batch"]
            out[f"{axis} {value:g}"] = {"microseconds_a_sample": micro, **found}
    return out


def start_up(folder: Path, args: argparse.Namespace, each: int) -> dict[str, Any]:
    """Seconds of the first and the second opening, in processes of their own."""
    out: dict[str, Any] = {}
    places = {"files": lambda: make_files(folder, args.files), "shards": lambda: make_shards(folder, args.files, each)}
    for name, make in places.items():
        root = make()
        os.environ["SWELL_CACHE"] = str(folder / f"cache-{name}")
        time.sleep(2.1)  # older than a tick of any clock
        first, seen = timed_open(root)
        again, seen_again = timed_open(root)
        if seen != seen_again:
            raise SystemExit(f"{name}: another result at the second opening: {seen} and {seen_again}")
        out[name] = {"first_seconds": first, "second_seconds": again, "count": int(seen.split()[0])}
        print(f"  {name}: {first:.1f} s, then {again:.2f} s", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="measured in each process")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=("n", "axes", "start"), default=["n", "axes", "start"])
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="write no result: a rehearsal")
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measure(json.loads(args.task))))
        return
    free_cores()  # or the measured would inherit this process's one core
    args.counts.sort()
    each = min(EACH, args.counts[0] // 10)
    if any(n % each for n in (*args.counts, args.files)):
        raise InputError(f"counts {args.counts} and {args.files} files", f"multiples of {each}", "round them")
    begun, parts = time.perf_counter(), {}
    folder = Path(tempfile.mkdtemp(prefix="swell-scaling-", dir=os.environ.get("TMPDIR")))
    os.environ["SWELL_CACHE"] = str(folder / "cache")
    run = {"n": over_n, "axes": over_axes, "start": start_up}
    try:
        for part in args.parts:
            print(part, flush=True)
            parts[part] = run[part](folder, args, each)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    spent = time.perf_counter() - begun
    result: dict[str, Any] = {
        **parts,
        "arguments": {k: v for k, v in vars(args).items() if k != "task"},
        "seconds": spent,
    }
    lines = claims(parts, args, spent)
    result |= {"claim": lines[0], "claims": lines}
    if not args.dry:
        print(write_result("scaling", result))
    print("\n".join(lines))


def claims(parts: dict[str, Any], args: argparse.Namespace, spent: float) -> list[str]:
    lines = []
    if "n" in parts:
        first, last = args.counts[0], args.counts[-1]
        for kind in KINDS:
            ratios, mib = parts["n"][kind]["ratios"], parts["n"][kind]["mib"]
            sd = statistics.stdev(ratios) if len(ratios) > 1 else None
            detail = (
                f"time of a sample among {last:,} over that among {first:,}; {mib[first]:,.0f} and {mib[last]:,.0f} MiB"
            )
            lines.append(claim(f"scaling, {kind}", statistics.mean(ratios), sd, len(ratios), spent, "x", detail))
    for name, found in parts.get("start", {}).items():
        detail = f"then {found['second_seconds']:.2f} s the second time"
        title = f"first opening of {found['count']:,} images in {name}"
        lines.append(claim(title, found["first_seconds"], None, 1, spent, "s", detail))
    if "axes" in parts:
        rates = ", ".join(f"{name} {found['microseconds_a_sample']:.0f}" for name, found in parts["axes"].items())
        usual = next(iter(parts["axes"].values()))["microseconds_a_sample"]
        lines.append(claim("a sample on shards", usual, None, args.steps, spent, "us", f"by axis: {rates}"))
    return lines


if __name__ == "__main__":
    main()
