"""What RUN folders tell of runs, running or ended: read only, in constant time, without torch.

Nothing here fails because a file is missing, half written or replaced in this moment: what it would tell is left out
until the next look.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swell.errors import InputError
from swell.files import read_json, read_json_lines, read_toml

STATES = ("starting", "running", "finished", "stopped", "crashed")
ENDED = ("finished", "stopped", "crashed")
SILENT = 90.0  # seconds without a sign of life after which a run that nobody is seen to train is given up
WHOLE = 1 << 20  # bytes of a log that are read in full; of a longer one samples and the end
TAIL = 1 << 16
MOST = 1e300  # a number beyond it, which a file may hold, is none of a run's
SAMPLES = 128  # lines of a long log
DEPTH = 4  # folders deep that runs are looked for: a suite's are three deep
OF_A_RUN = ("snapshots", "tensorboard", "wandb", "mlflow", "generated")  # folders in RUN with no runs in them


@dataclass(frozen=True)
class Seen:
    """One run at one moment; None is what its folder does not tell (yet)."""

    run: str  # its folder
    state: str
    why: str = ""  # of a run that crashed
    share: float | None = None  # of the budget
    step: int | None = None  # steps done
    total_steps: int | None = None  # the budget, if that is in steps
    seconds: float | None = None  # of training
    total_seconds: float | None = None  # the budget, if that is in minutes
    seconds_left: float | None = None  # of a run that goes on, and has no generator to train any more
    loss: float | None = None
    losses: list[float] = field(default_factory=list)  # on the way, evenly spread
    learning_rate: float | None = None
    samples_per_second: float | None = None
    memory_bytes: int | None = None  # at most so far
    scores: dict[str, list[float]] = field(default_factory=dict)  # label-free, on the way; see --scores-every
    phase: int | None = None  # of alternating training: which one, of how many, and what trains in it
    phases: int | None = None
    trains: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_runs(places: Sequence[Path | str]) -> list[Path]:
    """The runs that `places` are, or hold: folders with a recipe.toml, in the order of their names.

    Raises:
        InputError: a place that is no folder.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not Path(place).is_dir():
            raise InputError(str(place), "a RUN folder, or one that holds runs", "give what --out was")
        found |= dict.fromkeys(_runs_in(Path(place), DEPTH))
    return list(found)


def _runs_in(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "recipe.toml").is_file():
        yield folder
    if depth == 0:
        return
    try:
        with os.scandir(folder) as entries:
            below = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:  # gone since, or not ours to read
        return
    for name in below:
        if name not in OF_A_RUN and not name.startswith("phase-"):
            yield from _runs_in(folder / name, depth - 1)


def look(run: Path) -> Seen:
    """The run in the folder `run`, as it is now."""
    recipe, live, ledger = (_read(run / name) for name in ("recipe.toml", "live.json", "ledger.json"))
    lines = sampled_lines(run / "metrics.jsonl")
    last = lines[-1] if lines else {}
    ended = (run / "encoder.safetensors").is_file()
    state, why = ("finished", "") if ended else _unfinished(run, live, bool(lines))
    done, logged = _number(live, "step"), last.get("step", -1) + 1  # live.json counts steps, the log names them
    newest = {**last, **live} if done is not None and done >= logged else {**live, **last}
    step = max(done or 0, logged) if done is not None or last else None
    seconds = _number(newest, "seconds")
    total_steps = _number(live, "total_steps") or _number(recipe, "steps")
    total_seconds = _number(live, "total_seconds") or 60 * (_number(recipe, "minutes") or 0) or None
    share = _share(step, total_steps, seconds, total_seconds) if state != "finished" else 1.0
    cost = ledger.get("pretraining") if ended else None
    cost = cost if isinstance(cost, dict) else {}
    rate = _number(live, "samples_per_second") or _rate(lines)
    if cost:
        shown = (_number(cost, "samples_real") or 0) + (_number(cost, "samples_generated") or 0)
        rate = shown / cost["seconds"] if _number(cost, "seconds") else None
    phases = recipe.get("phases")
    told = _phase(run, phases) if isinstance(phases, list) and phases and not ended else {}
    known = not told.pop("generators_ahead", False) and state == "running"
    memory = _number(ledger if ended else live, "peak_memory_bytes" if ended else "memory_bytes")
    return Seen(
        run=str(run),
        state=state,
        why=why,
        share=share,
        step=None if step is None else int(step),
        total_steps=None if total_steps is None else int(total_steps),
        seconds=seconds,
        total_seconds=total_seconds,
        seconds_left=seconds * (1 - share) / share if known and seconds and share else None,
        loss=_number(newest, "loss"),
        losses=_course(lines, "loss"),
        learning_rate=_number(newest, "learning_rate"),
        samples_per_second=rate,
        memory_bytes=None if memory is None else int(memory),
        scores=_scores(lines),
        **told,
    )


def _read(path: Path) -> dict[str, Any]:
    """A TOML or JSON file as a dict; empty where it is missing, damaged or something else."""
    try:
        told = read_toml(path) if path.suffix == ".toml" else read_json(path)
    except InputError:
        return {}
    return told if isinstance(told, dict) else {}


def _number(told: dict[str, Any], name: str) -> float | None:
    value = told.get(name)
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MOST
    return value if known else None


# ---- is it alive? ----------------------------------------------------------------------------------------


def _unfinished(run: Path, live: dict[str, Any], begun: bool) -> tuple[str, str]:
    """The state of a run without an encoder, and why. Held by a process of this machine, or heard of lately, it runs;
    a process that ended in order has said how; else it is silent."""
    at_work = "running" if begun or "step" in live else "starting"
    if _held(run / ".lock"):
        return at_work, ""
    if live.get("state") in ("stopped", "crashed"):
        return str(live["state"]), str(live.get("why", ""))
    heard = _last_written(run)
    silence = abs(time.time() - heard)  # a file of the future, written before the clock was set back, is no sign either
    if silence < SILENT:
        return at_work, ""
    if live:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(heard))
        return "crashed", f"no sign of life since {when}; killed? --resume goes on from its checkpoint"
    return "stopped", ""


def _held(lock: Path) -> bool:
    """Whether a process of this machine holds RUN. By looking at the kernel's list, where there is one: to try the lock
    would be to hold it for a moment, and might turn away a run that starts in just that moment."""
    try:
        number = lock.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any("FLOCK" in line and f":{number} " in line and "->" not in line for line in held)


def _last_written(run: Path) -> float:
    """When a file of the run, or of its phases, was last written; seconds of the clock."""
    latest = 0.0
    for folder in (run, *sorted(run.glob("phase-*"))[-1:]):
        try:
            with os.scandir(folder) as entries:
                latest = max([latest, *(entry.stat().st_mtime for entry in entries)])
        except OSError:
            continue
    return latest


# ---- how far, how fast -----------------------------------------------------------------------------------


def _share(
    step: float | None, total_steps: float | None, seconds: float | None, total_seconds: float | None
) -> float | None:
    done, total = (step, total_steps) if total_steps else (seconds, total_seconds)
    return None if done is None or not total else min(done / total, 1.0)


def _rate(lines: list[dict[str, Any]]) -> float | None:
    """Samples a second between the last lines of the log."""
    told = [[_number(line, name) for name in ("samples_real", "samples_generated", "seconds")] for line in lines[-10:]]
    full = [[value for value in row if value is not None] for row in told if None not in row]
    if len(full) < 2 or full[-1][2] <= full[0][2]:
        return None
    return (full[-1][0] + full[-1][1] - full[0][0] - full[0][1]) / (full[-1][2] - full[0][2])


def _phase(run: Path, tables: list[Any]) -> dict[str, Any]:
    """Which phase is under way, the first that has not ended in order; and whether a generator has yet to be trained,
    for which nobody knows the time."""
    try:
        told = read_json_lines(run / "phases.jsonl")
    except OSError:
        told = []
    done = {line["phase"] for line in told if isinstance(line.get("phase"), int) and not line.get("rolled_back")}
    now = min(max({0, *done}) + 1, len(tables))
    trains = [table.get("trains") if isinstance(table, dict) else None for table in tables]
    ahead = "generator" in trains[now - 1 :]
    return {"phase": now, "phases": len(tables), "trains": trains[now - 1], "generators_ahead": ahead}


# ---- its log ---------------------------------------------------------------------------------------------


def sampled_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl, the last ones among them: all of a short log, of a long one samples of equal distance,
    so that a look costs the same however long it is. Lines cut short, or of something else, are left out."""
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length <= WHOLE:
                return _parsed(file.read())
            found = []
            for i in range(SAMPLES):
                start = (length - TAIL) * i // SAMPLES
                file.seek(start)
                if start:
                    file.readline(TAIL)  # the rest of a line
                found += _parsed(file.readline(TAIL))
            file.seek(length - TAIL)
            file.readline(TAIL)
            ending = _parsed(file.read())
    except OSError:
        return []
    return [line for line in found if not ending or line["step"] < ending[0]["step"]] + ending[-SAMPLES:]


def _parsed(text: bytes) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and isinstance(told.get("step"), int):
            found.append(told)
    return found


def _course(lines: list[dict[str, Any]], name: str) -> list[float]:
    """The values of `name`, at most `SAMPLES` of them: one for each equal stretch of steps, the mean in it."""
    points = [(line["step"], value) for line in lines if (value := _number(line, name)) is not None]
    if len(points) <= SAMPLES:
        return [value for _, value in points]
    first, last = points[0][0], points[-1][0]
    stretches: dict[int, list[float]] = {}
    for step, value in points:
        stretches.setdefault((step - first) * SAMPLES // (last - first + 1), []).append(value)
    return [sum(values) / len(values) for values in stretches.values()]


def _scores(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    names = dict.fromkeys(key for line in lines for key in line if key.startswith("score_"))
    return {name.removeprefix("score_"): course for name in names if (course := _course(lines, name))}
