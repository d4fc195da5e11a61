"""The commands that the fault suite disturbs, and the small real data they work on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 240  # real handwritten digits, 8x8
GENERATOR = ("--network", "mlp", "--options", "width=64", "--steps", "150")
SMALL = ("--recipe", "digits", "--width", "0.25", "--batch-size", "64", "--checkpoint-seconds", "0.05")
SUITE = '''"""Two arms, one of them inflated."""

from dataclasses import replace

from swell.recipes import load_recipe
from swell.suites.registry import Arm, Generated


def two(data, steps: int = 60):
    base = replace(load_recipe("digits"), steps=steps, width=0.25, batch_size=64)
    made = Generated("diffusion", 200, 60, options={"network": "mlp", "width": 64})
    return {"plain": Arm(base), "inflated": Arm(replace(base, weight=3.0), made)}
'''


@dataclass(frozen=True)
class Scene:
    """A command, begun in a folder that holds `given`; `out` is what it leaves there."""

    name: str
    argv: tuple[str, ...]
    out: str
    given: tuple[str, ...] = ("digits.npz",)
    earlier: str = (
        ""  # an earlier result that lies at `out` when it begins, and what that is called among the ready ones
    )
    again: tuple[str, ...] = ()  # what the same command needs to go on
    share: int = 1  # of the kills


SCENES = (
    Scene("generate", ("generate", "digits.npz", "--out", "gen", *GENERATOR, "--count", "200"), "gen", share=3),
    Scene("generate, more of an earlier GEN", ("generate", "digits.npz", "--out", "gen", *GENERATOR, "--count", "400"),
          "gen", earlier="gen", share=2),
    Scene("pretrain", ("pretrain", "digits.npz", "--out", "run", *SMALL, "--steps", "150"), "run", again=("--resume",),
          share=4),
    Scene("pretrain --inflate", ("pretrain", "digits.npz", "--out", "run", "--inflate", "gen", "--weight", "3", *SMALL,
          "--steps", "150"), "run", given=("digits.npz", "gen"), again=("--resume",), share=3),
    Scene("adapt", ("adapt", "digits.npz", "--out", "run", *SMALL, "--steps", "60", "--count", "200",
          "--generator-options", "network=mlp,width=64", "--generator-steps", "100", "--budget", "2.4x"), "run",
          again=("--resume",), share=3),
    Scene("compare, an earlier one replaced", ("compare", "one", "two", "--by", "knn", "--out", "both", "--force"),
          "both", given=("one", "two"), earlier="both", share=2),
    Scene("compare, a suite", ("compare", "arms.py:two", "--data", "digits.npz", "--out", "suite", "--seeds", "1",
          "--snapshots", "", "--workers", "0"), "suite", given=("digits.npz", "arms.py")),
    Scene("embed .npz over an earlier one", ("embed", "one", "digits.npz", "--out", "z.npz"), "z.npz",
          given=("digits.npz", "one"), earlier="z.npz", share=2),
    Scene("embed .parquet", ("embed", "one", "digits.npz", "--out", "z.parquet"), "z.parquet",
          given=("digits.npz", "one"), share=2),
)  # fmt: skip
READY = (  # what makes the given and earlier results, in this order
    ("generate", "digits.npz", "--out", "gen", *GENERATOR, "--count", "200"),
    ("pretrain", "digits.npz", "--out", "one", *SMALL, "--steps", "30"),
    ("pretrain", "digits.npz", "--out", "two", *SMALL, "--steps", "30", "--seed", "1"),
    ("evaluate", "one", "digits.npz", "--no-baselines"),
    ("evaluate", "two", "digits.npz", "--no-baselines"),
    ("compare", "one", "two", "--out", "both"),
    ("embed", "two", "digits.npz", "--out", "z.npz"),
)


def environment(work: Path, **more: str) -> dict[str, str]:
    """Of a command: one thread, so that sums are equal, and nothing written outside `work`."""
    own = {"OMP_NUM_THREADS": "1", "SWELL_CACHE": str(work / "cache"), "PYTHONPATH": str(ROOT / "src")}
    return {**os.environ, **own, **more}


def begin(work: Path, at: Path, argv: tuple[str, ...], **more: str) -> subprocess.Popen[str]:
    """Start `python -m swell *argv` in the folder `at`, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "swell", *argv],
        cwd=at,
        env=environment(work, **more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said on stderr."""
    _, told = process.communicate()
    return process.returncode, told


def kill_all(process: subprocess.Popen[str]) -> bool:
    """SIGKILL to the whole group; False where the command had ended already. Returns when nothing of it is left."""
    running = process.poll() is None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        running = False
    process.communicate()
    while _group_lives(process.pid):
        time.sleep(0.01)
    return running and process.returncode == -signal.SIGKILL


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def prepare(work: Path) -> Path:
    """The folder of data and ready results below `work`; made where it is not there yet."""
    ready = work / "ready"
    if (ready / "complete").exists():
        return ready
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir(parents=True)
    digits = load_digits()
    images = np.round(digits.images[:SAMPLES] / 16 * 255).astype(np.uint8)[:, None]
    np.savez(ready / "digits.npz", images=images, labels=digits.target[:SAMPLES])
    (ready / "arms.py").write_text(SUITE)
    for argv in READY:
        status, told = finish(begin(work, ready, argv))
        if status:
            raise RuntimeError(f"swell {' '.join(argv)}: {told}")
    (ready / "complete").touch()
    return ready


def stage(scene: Scene, ready: Path, at: Path) -> Path:
    """The folder `at` as it is before the command of `scene` begins."""
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    places = [(name, name) for name in scene.given] + ([(scene.earlier, scene.out)] if scene.earlier else [])
    for source, name in places:
        if (ready / source).is_dir():
            shutil.copytree(ready / source, at / name)
        else:
            shutil.copy(ready / source, at / name)
    return at
