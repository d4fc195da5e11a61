"""The disk full at a random write of a command: one clear line, nothing half written, and with room again it goes on."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _forks import Forks
from _kills import differences
from _scenes import SCENES, Scene, stage
from _whole import broken, facts, left_over

CASES = 6  # of a scene: free space between nothing and what an undisturbed command needs
ROOM = 64 << 20
CLONE_NEWNS, MS_REMOUNT, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 1 << 5, 1 << 14, 1 << 18, 2


def disks(ready: Path, work: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """A row a case; none where this process may not mount a disk of its own (root on Linux may)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        print("disk: left out, for it needs root on Linux", flush=True)
        return
    at = work / "disk"
    at.mkdir(exist_ok=True)

    def room(size: int, again: bool = False) -> None:
        kind = MS_REMOUNT if again else 0
        if libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", kind, f"size={size // 4096 * 4096}".encode()):
            raise OSError(ctypes.get_errno(), "no small disk could be mounted")

    with Forks(work) as forks:
        for scene in SCENES:
            names = [f"{scene.name}, {number}" for number in range(CASES)]
            if "suite" in scene.name or done.issuperset(names):
                continue
            whole = stage(scene, ready, work / "undisturbed")
            before = _bytes(whole)
            forks.run(whole, scene.argv)
            expected, needed = facts(whole / scene.out), _bytes(whole) - before
            for name in [name for name in names if name not in done]:
                free = int(random.Random(name).uniform(0, 1.1) * needed)
                room(ROOM)
                try:
                    folder = stage(scene, ready, at / "here")
                    room(_bytes(at) + free, again=True)
                    row = _full(scene, folder, forks, expected, lambda: room(ROOM, again=True))
                finally:
                    libc.umount2(os.fsencode(at), MNT_DETACH)
                yield {"case": name, "free_bytes": free, **row}
            shutil.rmtree(whole)


def _bytes(at: Path) -> int:
    """Of the disk, in its blocks."""
    return sum(4096 * (1 + path.stat().st_size // 4096) for path in at.rglob("*"))


def _full(scene: Scene, at: Path, forks: Forks, expected: dict[str, str], free_some: Any) -> dict[str, Any]:
    faults, earlier = [], facts(at / scene.out) if scene.earlier else {}
    given = {name: facts(at / name) for name in scene.given}
    ended = forks.run(at, scene.argv)
    outcome = "enough room" if ended.status == 0 else ended.refusals[-1] if ended.refusals else ended.told[-300:]
    if ended.status not in (0, 2) or len(ended.refusals) != (ended.status == 2) or "Traceback" in ended.told:
        faults.append(f"status {ended.status}: {ended.told.strip()[-400:]}")
    faults += broken(at)
    if ended.status:
        now = facts(at / scene.out) if scene.earlier else {}
        faults += [f"the earlier result: {line}" for line in differences(now, earlier)]
        faults += [f"{name} is left" for name in left_over(at) if name.endswith(".tmp")]
    free_some()
    if ended.status:
        again = scene.again if (at / scene.out).exists() else ()
        last = forks.run(at, (*scene.argv, *again))
        if last.status:
            faults.append(f"with room again: {last.told.strip()[-300:]}")
    faults += differences(facts(at / scene.out), expected)
    faults += [
        f"{name} has changed" for name, before in given.items() if name != scene.out and facts(at / name) != before
    ]
    return {"outcome": outcome, "faults": faults}
