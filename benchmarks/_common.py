"""What the benchmarks share: real images, the machine in words, claim lines, results, other processes' load.

Every script writes `benchmarks/results/DATE-NAME/result.json`, whose `claim` is the line the README quotes.
"""

from __future__ import annotations

import datetime
import io
import itertools
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swell.errors import InputError
from swell.files import atomic_path, write_json
from swell.threads import all_cores
from swell.training.machine import cpu_name

ROOT = Path(__file__).resolve().parents[1]
PACKED = {"train": ("cifar10_train_a.npz", "cifar10_train_b.npz"), "test": ("cifar10_test.npz",)}


def cifar10(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10 in its official order: images uint8 [N, 3, 32, 32] and labels int64 [N].

    Read from the packed files in ../shared/data beside the repository, or in the folder SWELL_SHARED names; decoded
    once and kept in the temporary folder.

    Raises:
        InputError: the packed files are not there.
    """
    parts = [_decoded(name) for name in PACKED[split]]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _decoded(name: str) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(os.environ.get("SWELL_SHARED", ROOT.parent / "shared" / "data"))
    packed = folder / name
    if not packed.exists():
        raise InputError(
            f"no {name} in {folder}", "the packed CIFAR-10", "set SWELL_SHARED to the folder that holds it"
        )
    stem = f"{packed.stem}-{packed.stat().st_size}"
    kept = [Path(tempfile.gettempdir()) / "swell-benchmarks" / f"{stem}-{part}.npy" for part in ("images", "labels")]
    if not all(path.exists() for path in kept):
        for path, array in zip(kept, unpack(packed), strict=True):
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, array)
    return np.load(kept[0], mmap_mode="r"), np.load(kept[1])


def unpack(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, C, H, W] and labels of a packed file: lossless pictures that are sheets of `grid` x `tile` images.

    Members: `blob`, all pictures end to end; `offsets`, where each starts and the last ends; `tile` (H, W, C); `grid`
    (rows, columns of a sheet, filled row by row); `labels`.
    """
    with np.load(path, allow_pickle=False) as packed:
        blob, offsets, labels = packed["blob"], packed["offsets"], packed["labels"].astype(np.int64)
        (height, width, channels), (rows, columns) = packed["tile"], packed["grid"]
    sheets = []
    for start, end in itertools.pairwise(offsets):
        with Image.open(io.BytesIO(blob[start:end].tobytes())) as picture:
            pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
        tiles = pixels.reshape(rows, height, columns, width, channels)
        sheets.append(tiles.transpose(0, 2, 4, 1, 3).reshape(-1, channels, height, width))
    return np.ascontiguousarray(np.concatenate(sheets)[: len(labels)]), labels


def resident(pid: int) -> float:
    """Resident memory of a process in MiB, 0 where the process has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def device_line(threads: str = "") -> str:
    """Processor, cores, this process's threads or what `threads` says of them, torch; nothing that names the host."""
    if not threads:
        bound = os.environ.get("OMP_PROC_BIND", "").lower() in ("true", "close", "spread")
        threads = f"{torch.get_num_threads()} threads {'bound' if bound else 'unbound'}"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu_name()}, {len(all_cores())} cores, {threads}{gpu}, torch {torch.__version__}"


def _commit() -> str:
    """Short hash of the commit, with `+changes` where src, benchmarks or the pinned versions differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "src", "benchmarks/*.py", "constraints.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (head.stdout.strip() or "unknown") + ("+changes" if changed.stdout.strip() else "")


_COMMIT = _commit()  # what runs is what was there at the start, whatever is committed meanwhile


def commit() -> str:
    """The commit this script was started at."""
    return _COMMIT


def claim(
    name: str,
    mean: float,
    sd: float | None,
    n: int,
    seconds: float,
    unit: str = "",
    detail: str = "",
    threads: str = "",
    commits: str = "",
) -> str:
    """`NAME: MEAN +- SD UNIT (n=N), DETAIL; SECONDS s, DEVICE, commit HASH`; `seconds` is the whole benchmark's time.

    `threads` and `commits` say those of the rows, where they are not this process's.
    """
    spread = "" if sd is None else f" +- {sd:.3g}"
    value = f"{mean:.3g}{spread}{' ' if unit else ''}{unit} (n={n})"
    return (
        f"{name}: {value}{', ' if detail else ''}{detail}; {seconds:.0f} s, {device_line(threads)}, "
        f"commit {commits or commit()}"
    )


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<today>-<name>/result.json` whole, with date, commit and, unless given, device; returns its path."""
    today = datetime.date.today().isoformat()
    path = ROOT / "benchmarks" / "results" / f"{today}-{name}" / "result.json"
    write_json(path, {"device": device_line(), **result, "date": today, "commit": commit()})
    return path


class Load:
    """Cores that other processes (and, as `stolen`, other guests) kept busy since the object was made, from /proc/stat.

    This process and all below it are not others. NaN where there is no /proc.
    """

    def __init__(self) -> None:
        self.start = self._now()

    def read(self) -> dict[str, float]:
        """`foreign` and `stolen`, in cores."""
        (t0, busy0, stolen0), (t1, busy1, stolen1) = self.start, self._now()
        seconds = max(t1 - t0, 1e-9)
        return {"foreign": max(0.0, (busy1 - busy0) / seconds), "stolen": (stolen1 - stolen0) / seconds}

    def _now(self) -> tuple[float, float, float]:
        """Clock, CPU seconds of all other processes so far, stolen seconds so far."""
        try:
            user, nice, system, _, _, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
        except (OSError, ValueError):
            return time.perf_counter(), float("nan"), float("nan")
        tick = os.sysconf("SC_CLK_TCK")
        busy = (user + nice + system + irq + softirq) / tick
        return time.perf_counter(), busy - sum(tree_seconds(os.getpid()).values()), stolen / tick


def tree_seconds(root: int) -> dict[int, float]:
    """CPU seconds of `root` and of each living process below it, those of its ended children included; {} without /proc."""
    parent, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        parent[int(entry.name)] = int(fields[1])
        seconds[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def belongs(pid: int) -> bool:
        while pid and pid != root:
            pid = parent.get(pid, 0)
        return pid == root

    return {pid: cpu for pid, cpu in seconds.items() if belongs(pid)}
