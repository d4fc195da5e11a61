"""What the cases of `malformed.py` are made of: one case, and the things that lie in its folder."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MS_RDONLY, MS_REMOUNT = 1, 32

Build = Callable[[Path, Path], object]  # (folder of the case, folder with a ready RUN, GEN and half-finished RUN)


@dataclass(frozen=True)
class Case:
    """`swell *argv` in a folder where `builds` have been; its one line must hold `names`."""

    name: str
    argv: tuple[str, ...]
    names: str
    builds: tuple[Build, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)  # of the process, by resource.RLIMIT_*
    command: bool = False  # as a process of its own
    stdout: str = ""  # a file of the machine that takes stdout
    mounts: bool = False


def images(count: int = 40, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


LABELS = np.arange(40) % 4


def pretrain(data: str = "data.npz", *more: str) -> tuple[str, ...]:
    """A run of a second on `data`."""
    budget = () if {"--steps", "--epochs", "--minutes"} & set(more) else ("--steps", "2")
    recipe = () if "--recipe" in more else ("--recipe", "digits")
    return ("pretrain", data, "--out", "out", *recipe, "--width", "0.25", "--batch-size", "16", *budget, *more)


def generate(data: str = "data.npz", *more: str) -> tuple[str, ...]:
    budget = () if {"--steps", "--minutes"} & set(more) else ("--steps", "2")
    return ("generate", data, "--out", "out", *(() if "--count" in more else ("--count", "20")), *budget, *more)


def saved(name: str, array: Any = None, **arrays: Any) -> Build:
    """`array` as the .npy file `name`, or `arrays` as an .npz; pickled where NumPy must."""

    def build(at: Path, _: Path) -> None:
        if arrays:
            np.savez(at / name, **arrays)
        else:
            np.save(at / name, array, allow_pickle=True)

    return build


def written(name: str, content: bytes | str) -> Build:
    def build(at: Path, _: Path) -> None:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return build


def photos(kind: str, bad: int = 6, of: int = 6, keep: float = 0.5, side: int = 32) -> Build:
    """A folder of images `photos`, the first `bad` of them cut after a share `keep` of their bytes."""

    def build(at: Path, _: Path) -> None:
        (at / "photos").mkdir()
        for i in range(of):
            buffer = io.BytesIO()
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, kind)
            content = buffer.getvalue()
            content = content[: int(len(content) * keep)] if i < bad else content
            (at / "photos" / f"{i:03d}.{kind.lower()}").write_bytes(content)

    return build


def ready(what: str, to: str = "") -> Build:
    """A copy of the ready `run`, `gen` or `begun` (a run stopped before its end)."""
    return lambda at, templates: shutil.copytree(templates / what, at / (to or what)) and None


def cut(name: str, keep: float = 0.5) -> Build:
    def build(at: Path, _: Path) -> None:
        content = (at / name).read_bytes()
        (at / name).write_bytes(content[: int(len(content) * keep)])

    return build


def replaced(name: str, old: str, new: str) -> Build:
    def build(at: Path, _: Path) -> None:
        text = (at / name).read_text()
        if not re.search(old, text, re.M):
            raise ValueError(f"{old!r} is not in {name}")
        (at / name).write_text(re.sub(old, new, text, count=1, flags=re.M))

    return build


def changed(name: str, change: Callable[[dict[str, Any]], Any]) -> Build:
    """The JSON file `name` after `change`."""

    def build(at: Path, _: Path) -> None:
        value = json.loads((at / name).read_text())
        change(value)
        (at / name).write_text(json.dumps(value))

    return build


def changed_bytes(name: str, at_byte: int) -> Build:
    def build(at: Path, _: Path) -> None:
        content = bytearray((at / name).read_bytes())
        content[at_byte] ^= 255
        (at / name).write_bytes(content)

    return build


def shard(content: Any, **rows: Any) -> Build:
    """The GEN's shard with other `content` and a checksum that fits it: only its inside is wrong."""

    def build(at: Path, _: Path) -> None:
        path = at / "gen" / "shard-00000.npz"
        buffer = io.BytesIO()
        np.savez(buffer, **content) if isinstance(content, dict) else buffer.write(content)
        path.write_bytes(buffer.getvalue())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        changed("gen/manifest.json", lambda m: m["shards"][0].update(sha256=digest, **rows))(at, Path())

    return build


def weights(change: Callable[[dict[str, np.ndarray]], Any]) -> Build:
    def build(at: Path, _: Path) -> None:
        from safetensors.numpy import load_file, save_file

        tensors = load_file(at / "run" / "encoder.safetensors")
        change(tensors)
        save_file(tensors, at / "run" / "encoder.safetensors")

    return build


def checkpoint(change: Callable[[dict[str, Any]], Any]) -> Build:
    def build(at: Path, _: Path) -> None:
        import torch

        state = torch.load(at / "begun" / "checkpoint.pt", weights_only=True)
        change(state)
        torch.save(state, at / "begun" / "checkpoint.pt")

    return build


class Trap:
    """Unpickling this leaves a file behind: proof that somebody's code was run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("code-from-the-file-was-run",)


PICKLE = pickle.dumps([Trap()])


def disk(kilobytes: int, *builds: Build, full: bool = False, read_only: bool = False) -> Build:
    """`disk`, a file system of its own; what `builds` make is moved there."""

    def build(at: Path, templates: Path) -> None:
        libc, point = ctypes.CDLL(None, use_errno=True), str(at / "disk").encode()
        (at / "disk").mkdir()
        if libc.mount(b"tmpfs", point, b"tmpfs", 0, f"size={kilobytes}k".encode()):
            raise OSError(ctypes.get_errno(), "mount")
        for make in builds:
            make(at / "disk", templates)
        if full:
            try:
                with (at / "disk" / "filler").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        if read_only and libc.mount(b"tmpfs", point, b"tmpfs", MS_REMOUNT | MS_RDONLY, b""):
            raise OSError(ctypes.get_errno(), "remount")

    return build


def folder(name: str) -> Build:
    return lambda at, _: (at / name).mkdir()


def link(name: str, to: str) -> Build:
    return lambda at, _: (at / name).symlink_to(to)


def pipe(name: str) -> Build:
    return lambda at, _: os.mkfifo(at / name)
