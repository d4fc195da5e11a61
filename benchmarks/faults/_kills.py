"""SIGKILL at random moments of real commands, the same command again until it is done, and what came of it."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _scenes import SCENES, Scene, begin, finish, kill_all, stage
from _whole import broken, facts, left_over

from swell.files import read_json_lines

STARTING = 0.1  # share of the kills that hit the imports; the others come after the first file is written
MOST_KILLS = 3  # of one result, before it is let finish


@dataclass(frozen=True)
class Known:
    """Of a scene: how long it takes undisturbed, and what its result and what lay there before say."""

    seconds: float
    starting: float  # of these, until it has said or written something
    result: dict[str, str]
    earlier: dict[str, str]


def references(ready: Path, work: Path) -> dict[str, Known]:
    """Every scene undisturbed, in its turn; kept in `work` for the next start."""
    kept = work / "references.jsonl"
    known = {row["scene"]: Known(**{key: row[key] for key in row if key != "scene"}) for row in read_json_lines(kept)}
    for number, scene in enumerate(SCENES):
        if scene.name in known:
            continue
        at = stage(scene, ready, work / f"reference-{number}")
        earlier = facts(at / scene.out) if scene.earlier else {}
        before = _names(at)
        begun = time.perf_counter()
        process = begin(work, at, scene.argv)
        starting = 0.0
        while process.poll() is None:
            if not starting and _names(at) != before:
                starting = time.perf_counter() - begun
            time.sleep(0.05)
        seconds = time.perf_counter() - begun
        status, told = finish(process)
        if status or broken(at):
            raise RuntimeError(f"{scene.name}: {told} {broken(at)}")
        known[scene.name] = Known(seconds, starting or 0.5 * seconds, facts(at / scene.out), earlier)
        with kept.open("a") as file:
            file.write(json.dumps({"scene": scene.name, **asdict(known[scene.name])}) + "\n")
        print(f"{scene.name}: {seconds:.1f} s undisturbed, {starting:.1f} s until its first file", flush=True)
    return known


def _state(at: Path) -> set[tuple[str, int]]:
    """Names and times of all that lies below a folder: another one as soon as a command has written anything."""
    found = set()
    for path in at.rglob("*"):
        try:
            found.add((str(path), path.lstat().st_mtime_ns))
        except FileNotFoundError:  # gone since
            continue
    return found


def _names(at: Path) -> set[str]:
    return {str(path) for path in at.rglob("*")}


def trial(scene: Scene, number: int, known: Known, ready: Path, work: Path) -> dict[str, Any]:
    """Kill one command up to three times, go on each time, and compare. `faults` is empty where all is as it must be."""
    rng = random.Random(f"{scene.name} {number}")
    at = stage(scene, ready, work / "trials" / f"{SCENES.index(scene)}-{number}")
    given = {name: facts(at / name) for name in scene.given if name != scene.out}
    faults: list[str] = []
    moments: list[dict[str, Any]] = []
    begun = time.perf_counter()
    out = at / scene.out
    for _ in range(rng.randint(1, MOST_KILLS)):
        starting = rng.random() < STARTING
        after = rng.uniform(0, known.starting if starting else known.seconds - known.starting)
        before = _state(at)
        process = begin(work, at, _again(scene, out))
        while not starting and process.poll() is None and _state(at) == before:
            time.sleep(0.01)  # however long the imports take in this moment
        time.sleep(after)
        if not kill_all(process):
            break  # done before its moment came: no kill
        told = {"after_seconds": round(after, 2), "starting": starting, "left": left_over(at), "there": out.exists()}
        moments.append({**told, "wrote": _state(at) != before})
        faults += [f"after kill {len(moments)}: {fault}" for fault in broken(at)]
        if scene.earlier:
            faults += _neither(out, known, len(moments))
    status, told = finish(begin(work, at, _again(scene, out)))  # the command may have been done before it was killed
    if status:
        faults.append(f"the same command again ended with {status}: {told.strip()[-300:]}")
    else:
        faults += differences(facts(at / scene.out), known.result)
    faults += [f"at the end: {fault}" for fault in broken(at)]
    faults += [f"{name} has changed" for name, before in given.items() if facts(at / name) != before]
    row = {"scene": scene.name, "number": number, "kills": moments, "left": left_over(at), "faults": faults}
    if not faults:
        shutil.rmtree(at)
    return {**row, "seconds": round(time.perf_counter() - begun, 1)}


def _again(scene: Scene, out: Path) -> tuple[str, ...]:
    """The command that goes on with what is there."""
    return (*scene.argv, *scene.again) if out.exists() else scene.argv


def _neither(out: Path, known: Known, kill: int) -> list[str]:
    """What is wrong with a result that lay there before: it must be the earlier one or the new one, whole."""
    if not out.exists():
        return [f"after kill {kill}: the earlier {out.name} is gone"]
    held = facts(out)
    as_before = all(held.get(name) == fact for name, fact in known.earlier.items())
    return [] if as_before or held == known.result else [f"after kill {kill}: {out.name} is neither old nor new"]


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Files that are missing, that nobody expects, or that say something else."""
    lines = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name} is left over" for name in sorted(found.keys() - expected.keys())]
    return lines + [
        f"{name} says something else"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]


def trials(
    kills: int, known: dict[str, Known], rows: list[dict[str, Any]], ready: Path, work: Path, together: int
) -> Iterator[dict[str, Any]]:
    """Rows of further trials, `together` at a time, until `kills` kills are in `rows` and those; scenes in turn by share."""
    order = [scene for scene in SCENES for _ in range(scene.share)]
    random.Random(0).shuffle(order)
    done = {(row["scene"], row["number"]) for row in rows}
    plan = [(order[number % len(order)], number) for number in range(10 * kills)]
    waiting = iter([pair for pair in plan if (pair[0].name, pair[1]) not in done])
    count = sum(len(row["kills"]) for row in rows)
    with ThreadPoolExecutor(together) as pool:
        running: set[Any] = set()
        while count < kills or running:
            while count < kills and len(running) < together:
                scene, number = next(waiting)
                running.add(pool.submit(trial, scene, number, known[scene.name], ready, work))
            ended = next(as_completed(running))
            running.discard(ended)
            row = ended.result()
            count += len(row["kills"])
            yield row


def table(rows: list[dict[str, Any]]) -> list[str]:
    """By scene: kills, results that were finished after them, and faults."""
    lines = [f"{'':34s} kills  results  faults"]
    for scene in SCENES:
        mine = [row for row in rows if row["scene"] == scene.name]
        counts = (sum(len(row["kills"]) for row in mine), len(mine), sum(bool(row["faults"]) for row in mine))
        lines.append(f"{scene.name:34s} {counts[0]:5d}  {counts[1]:7d}  {counts[2]:6d}")
    return lines
