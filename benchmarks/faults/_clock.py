"""The time of day jumps by years, to and fro, at every look: results, logs, locks and `swell watch` do not depend on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _changed import FOLDER, _write_images
from _forks import Forks
from _kills import differences
from _scenes import SCENES, environment, stage
from _whole import broken, facts

HOUR, DAY = 3600.0, 86400.0  # a jump is longer than either


def clocks(ready: Path, work: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    with Forks(work) as forks:
        for scene in SCENES:
            if "suite" not in scene.name and scene.name not in done:
                yield {"case": scene.name, **_jumping(scene, ready, work, forks)}
        if not (ready / "images").exists():
            _write_images(ready)
        for case, look in (("watch: files of the future", _watched), ("images changed while the clock jumps", _fresh)):
            if case not in done:
                yield {"case": case, **look(ready, work, forks)}


def _jumping(scene: Any, ready: Path, work: Path, forks: Forks) -> dict[str, Any]:
    whole, at = (stage(scene, ready, work / name) for name in ("undisturbed", "jumping"))
    forks.run(whole, scene.argv)
    ended = forks.run(at, scene.argv, clock=True)
    faults = [ended.told[-300:]] if ended.status else differences(facts(at / scene.out), facts(whole / scene.out))
    faults += broken(at)
    for path in sorted(at.rglob("ledger.json")):
        seconds = json.loads(path.read_text())["total"]["seconds"]
        if scene.out in path.parts and not 0 < seconds < DAY:
            faults.append(f"{path.relative_to(at)} tells {seconds} seconds")
    shutil.rmtree(at)
    return {"outcome": "the same result", "faults": faults}


def _watched(ready: Path, work: Path, forks: Forks) -> dict[str, Any]:
    """A run that was killed while the clock was an hour ahead is no running one; one at work is, whatever its files say."""
    scene = next(scene for scene in SCENES if scene.name == "pretrain")
    at = stage(scene, ready, work / "watched")
    ended = forks.run(at, scene.argv, change=40, signal=signal.SIGSTOP)
    for path in (at / "run").iterdir():
        os.utime(path, (time.time() + HOUR, time.time() + HOUR))
    states = [_state(work, at)]
    forks.end(ended.stopped)
    states.append(_state(work, at))
    right = ["running", "crashed"]
    return {"outcome": ", then ".join(states), "faults": [] if states == right else [f"{states}, not {right}"]}


def _state(work: Path, at: Path) -> str:
    command = [sys.executable, "-m", "swell", "watch", "run", "--json", "--once"]
    told = subprocess.run(command, cwd=at, env=environment(work), capture_output=True, text=True, check=True).stdout
    return str(json.loads(told)["runs"][0]["state"])


def _fresh(ready: Path, work: Path, forks: Forks) -> dict[str, Any]:
    """The cache of decoded images: an image is changed, its size and times kept, and the next start must see it."""
    at = stage(FOLDER, ready, work / "fresh")
    faults = []
    runs = []
    for number in range(3):
        argv = tuple(f"run{number}" if word == "run" else word for word in FOLDER.argv)
        ended = forks.run(at, argv, clock=True)
        if ended.status:
            faults.append(ended.told[-300:])
            break
        runs.append((at / f"run{number}" / "recipe.toml").read_text().partition("[data]")[2].split()[2])
        if number == 1:
            path, other = at / "images" / "000.png", at / "images" / "001.png"
            times = path.stat()
            content = other.read_bytes()
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if len(set(runs[:2])) != 1 or len(set(runs)) != 2:
        faults.append(f"fingerprints {runs}: the first two must be equal, the third another one")
    return {"outcome": "a changed image is seen", "faults": faults}
