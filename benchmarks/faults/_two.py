"""Two processes on one folder: the second is refused in one line, changes nothing, and a kill of the first frees it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _forks import Forks
from _kills import differences
from _scenes import SCENES, Scene, stage
from _whole import broken, facts

SHARED = "generate"  # processes that give the same command share the work, by design; another command is refused
EVALUATE = Scene("evaluate", ("evaluate", "one", "digits.npz", "--no-baselines"), "one", given=("digits.npz", "one"))


def twos(ready: Path, work: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    with Forks(work) as forks:
        for scene in (*SCENES, EVALUATE):
            if not scene.name.startswith("embed") and "suite" not in scene.name and scene.name not in done:
                yield {"case": scene.name, **_two(scene, ready, work, forks)}


def _two(scene: Scene, ready: Path, work: Path, forks: Forks) -> dict[str, Any]:
    whole, at = (stage(scene, ready, work / name) for name in ("undisturbed", "two"))
    changes = forks.run(whole, scene.argv).changes
    first = forks.run(at, scene.argv, change=changes // 2, signal=signal.SIGSTOP)
    before = _all(at)
    argv = (*scene.argv, *scene.again)
    if scene.argv[0] == SHARED:
        argv = (*("7" if word == "150" else word for word in argv), "--force")
    second = forks.run(at, argv)
    faults = []
    if second.status != 2 or len(second.refusals) != 1:
        faults.append(f"the second ended with {second.status}: {second.told[-300:]}")
    if _all(at) != before:
        faults.append("the second has changed something")
    forks.end(first.stopped)
    again = forks.run(at, (*scene.argv, *scene.again))
    if again.status:
        faults.append(f"after the kill: {again.told[-300:]}")
    faults += [*differences(facts(at / scene.out), facts(whole / scene.out)), *broken(at)]
    return {"outcome": second.refusals[-1] if second.refusals else "", "faults": faults}


def _all(at: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(at.rglob("*")) if path.is_file() and path.suffix != ".lock"}
