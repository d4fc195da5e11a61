"""A file deleted or cut short behind a command's back: it comes to the same result, or says in one line why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _forks import Forks
from _kills import differences
from _scenes import SCENES, SMALL, Scene, stage
from _whole import broken, facts, results
from PIL import Image

BY_NAME = {scene.name: scene for scene in SCENES}
FOLDER = Scene("pretrain on a folder", ("pretrain", "images", "--out", "run", *SMALL, "--steps", "40"), "run",
               given=("images",), again=("--resume",))  # fmt: skip
WARNED = ("has lost", "epochs are unknown", "nothing depends on it", "goes on without it")  # and nothing else suffers


@dataclass(frozen=True)
class Case:
    """The files below `of` change in turn: after a kill at share `at` of the command's changes, or before it begins."""

    scene: Scene
    of: str
    at: float | None = None


def cases() -> list[Case]:
    """Files of RUN, GEN and data between start and resume, and of finished ones that a command reads."""
    adapt, pretrain, inflated = BY_NAME["adapt"], BY_NAME["pretrain"], BY_NAME["pretrain --inflate"]
    return [
        Case(_short(pretrain), "run", 0.6),
        Case(BY_NAME["generate"], "gen.unfinished", 0.9),
        Case(_short(inflated), "gen", 0.6),
        Case(FOLDER, "images", 0.6),
        Case(adapt, "run", 0.7),
        Case(replace(BY_NAME["embed .npz over an earlier one"], earlier=""), "one"),
        Case(replace(BY_NAME["compare, an earlier one replaced"], earlier=""), "one"),
    ]


def _short(scene: Scene) -> Scene:
    return replace(scene, argv=tuple("40" if word == "150" else word for word in scene.argv))


def changed(ready: Path, work: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """A row for each file deleted, and each cut short."""
    with Forks(work) as forks:
        if not (ready / "images").exists():
            _write_images(ready)
        for case in cases():
            yield from _of_case(case, ready, work, forks, done)


def _write_images(ready: Path) -> None:
    with np.load(ready / "digits.npz") as data:
        pictures = data["images"][:64, 0]
    (ready / "images").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(ready / "images" / f"{number:03d}.png")


def _of_case(case: Case, ready: Path, work: Path, forks: Forks, done: set[str]) -> Iterator[dict[str, Any]]:
    scene = case.scene
    whole, begun = (stage(scene, ready, work / name) for name in ("undisturbed", "begun"))
    ended = forks.run(whole, scene.argv)
    expected = facts(whole / scene.out)
    if case.at is not None:
        share = case.at
        forks.run(begun, scene.argv, change=int(share * ended.changes), signal=signal.SIGKILL)
        while not (begun / case.of).exists() and share > 0.1:  # how often it tells its progress depends on the machine
            share -= 0.1
            stage(scene, ready, begun)
            forks.run(begun, scene.argv, change=int(share * ended.changes), signal=signal.SIGKILL)
    again = (*scene.argv, *(scene.again if (begun / scene.out).exists() else ()))
    files = sorted(path.relative_to(begun) for path in results_or_hidden(begun / case.of))
    for file in _thinned(files):
        for what in ("deleted", "cut short"):
            name = f"{scene.name}: {file} {what}" + ("" if case.at is None else " before it goes on")
            if name in done:
                continue
            at = work / "changed"
            shutil.rmtree(at, ignore_errors=True)
            shutil.copytree(begun, at)
            if what == "deleted":
                (at / file).unlink()
            else:
                os.truncate(at / file, (at / file).stat().st_size * 2 // 3)
            yield {"case": name, **_judged(scene, at, file, again, forks, expected)}
    for folder in (whole, begun):
        shutil.rmtree(folder)


def results_or_hidden(place: Path) -> list[Path]:
    """The files of a folder that may be an unfinished one, whose name says that it is temporary."""
    return [path for part in sorted(place.iterdir()) for path in results(part) if not part.name.endswith(".lock")]


def _thinned(files: list[Path]) -> list[Path]:
    """Of images in a folder the first and the last; of the candidates of a search, those of one."""
    pictures = [file for file in files if file.suffix == ".png" and file.parts[0] == "images"]
    runs = sorted({file.parent for file in files if file.name == "recipe.toml" and len(file.parts) > 2})
    out = set(pictures[1:-1]) | {file for file in files if any(run in file.parents for run in runs[1:])}
    return [file for file in files if file not in out]


def _judged(
    scene: Scene, at: Path, file: Path, again: tuple[str, ...], forks: Forks, expected: dict[str, str]
) -> dict[str, Any]:
    ended = forks.run(at, again)
    if ended.status == 2 and len(ended.refusals) == 1:
        return {"outcome": ended.refusals[0], "faults": [] if "Traceback" not in ended.told else [ended.told[-300:]]}
    if ended.status:
        return {"outcome": "", "faults": [f"status {ended.status}: {ended.told.strip()[-400:]}"]}
    different = differences(facts(at / scene.out), expected)
    if any(words in ended.told for words in WARNED):
        less = "compare.json" if scene.argv[0] == "compare" else file.name  # the file that then says less
        return {
            "outcome": f"the same but for {less}, and says so",
            "faults": [line for line in different if less not in line],
        }
    return {"outcome": "the same result", "faults": [*different, *broken(at / scene.out)]}
