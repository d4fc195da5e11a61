"""The RUN folder: who may write in it, and the files that are not the checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from swell.console import warn
from swell.data.packed import PackedImages
from swell.data.source import Source
from swell.errors import InputError
from swell.files import locked, new_folders, read_json, read_json_lines, told_as_input_error, write_text
from swell.recipes import Recipe, differences, read_recipe

PREPARATION = "preparation.safetensors"  # of vectors
STABLE = "stable.pt"  # of a run that decays at its end: the checkpoint from before, to go on from to a larger budget
_REPLACED = "replaced by the next: "
SEARCHED = ("adapt", "generated")  # folders in RUN that `swell adapt` made before it: no part of the run itself


@contextmanager
def claimed(out: Path, fresh: bool = False) -> Iterator[None]:
    """Hold RUN for one process; the lock dies with the process, however it dies.

    A `fresh` run that fails on the user's input before its first checkpoint leaves nothing behind.

    Raises:
        InputError: when another process is at work there, or the folder cannot be written.
    """
    with new_folders(out):
        with told_as_input_error(out):
            lock = (out / ".lock").open("w")
        with lock:
            if not locked(lock.fileno()):
                given = f"{out} (another process is at work there)"
                raise InputError(given, "a folder of its own", "wait for it or choose another --out")
            for left in out.glob(".*.tmp"):  # of a process that was killed while it wrote; nobody else writes here now
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield
            except InputError:
                if fresh and not (out / "checkpoint.pt").exists():
                    for path in out.iterdir():
                        if path.name not in SEARCHED:
                            shutil.rmtree(path) if path.is_dir() else path.unlink()
                raise


def open_folder(out: Path, recipe: Recipe, fingerprints: dict[str, str], resume: bool) -> bool:
    """Decide what may happen in RUN before anything is written: True if an earlier run goes on.

    Raises:
        InputError: the folder holds something and --resume was not given; or recipe or data differ from what it holds.
    """
    if not os.path.exists(out):
        return False
    if not out.is_dir():
        raise InputError(f"--out {out} (a file)", "a folder to create", "choose another --out")
    own = (p.name for p in out.iterdir() if p.name not in (".lock", *SEARCHED) and not p.name.endswith(".tmp"))
    held = sorted(own)
    if not held:
        return False
    if not resume:
        raise InputError(
            f"--out {out} (holds {', '.join(held[:3])})",
            "a new or empty folder",
            "add --resume to go on with that run, or choose another --out",
        )
    if "recipe.toml" not in held:
        raise InputError(
            f"--out {out} --resume (no recipe.toml in it)", "a run made by swell pretrain", "choose another --out"
        )
    stored, data, _ = read_recipe(out / "recipe.toml")
    changed = differences(stored, recipe)
    changed += [
        f"{name}: {data.get(name, 'none')} -> {print_}"
        for name, print_ in fingerprints.items()
        if data.get(name) != print_
    ]
    changed += [f"{name}: {data[name]} -> none" for name in data if name not in fingerprints]
    if changed:
        raise InputError(
            f"--resume {out} with a changed run ({'; '.join(changed)})",
            "the recipe and data it began with",
            "undo the change, or start anew with another --out",
        )
    return True


def write_recipe(out: Path, recipe: Recipe, data: dict[str, str], sources: dict[str, Source]) -> None:
    """`recipe.toml`: the resolved recipe; fingerprints in [data], the origin of the sources in [provenance], where
    vectors also name their preparation, so that nobody does without it."""
    provenance = {name: source.provenance.to_dict() for name, source in sources.items()}
    if prepared := sources["real"].preparation:
        provenance["real"]["preparation"] = prepared.fingerprint
    write_text(out / "recipe.toml", tomli_w.dumps({**recipe.to_dict(), "data": data, "provenance": provenance}))


def has_provenance(out: Path, sources: dict[str, Source]) -> bool:
    """Whether `recipe.toml` tells all of where the sources come from; its end may have been cut off."""
    told = read_recipe(out / "recipe.toml")[2]
    return all(told.get(name, {}).keys() >= source.provenance.to_dict().keys() for name, source in sources.items())


def write_log(out: Path, real: Source) -> None:
    """`run.log`: what the samples are, and which files were left out; what `note_replaced` has added is kept."""
    path = out / "run.log"
    held = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    lines = [
        f"{len(real)} samples of shape {list(real.shape)} from {real.provenance.origin}",
        *([] if real.preparation is None else [f"prepared as {real.preparation.describe()}"]),
        *(f"skipped {name}" for name in real.skipped),
    ]
    if held[: len(lines)] != lines:  # new, or cut short
        write_text(path, "".join(f"{line}\n" for line in [*lines, *(x for x in held if x.startswith(_REPLACED))]))


def is_json(path: Path) -> bool:
    """Whether the file is there and was not cut short."""
    try:
        read_json(path)
    except InputError:
        return False
    return True


def note_replaced(out: Path, real: Source) -> None:
    """Add to `run.log` which images in shards could not be decoded so far, of this session and of those before."""
    known = real.samples.unreadable() if isinstance(real.samples, PackedImages) else []
    if known:
        log = out / "run.log"
        before = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        lines = [f"{_REPLACED}{line}" for line in known]
        if new := [line for line in lines if line not in before]:
            write_text(log, "".join(f"{line}\n" for line in [*before, *new]))


class Metrics:
    """`metrics.jsonl`: one line a logged step. A resumed run first drops the lines after its checkpoint, which knows
    how many there were before; where some of these are gone, it says so."""

    def __init__(self, path: Path, keep_before: int, expected: int = 0) -> None:
        kept = [record for record in read_metrics(path.parent) if record["step"] < keep_before]
        if len(kept) < expected:
            lost = f"{expected - len(kept)} of its {expected} lines before step {keep_before}"
            warn(f"{path} has lost {lost}; the weights do not depend on it")
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        with told_as_input_error(path):
            self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        with told_as_input_error(self._file.name):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        with told_as_input_error(self._file.name):
            self._file.close()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """All logged steps of a run; a line cut short by a kill is left out."""
    return [record for record in read_json_lines(out / "metrics.jsonl") if isinstance(record.get("step"), int)]
