"""Unfinished generated sets: a folder that any number of processes fill together, and that survives all of them.

`OUT.unfinished/` lies beside OUT. Its pieces (the trained generator, shards) are written whole, once, by whoever holds
the piece's lock, and are the same whoever writes them. So a kill costs the piece in hand, and the same command goes
on. Locks are the kernel's (flock): they end with their process. Where a file system has none, processes do the same
work twice and still agree. When everything is there, the folder is renamed to OUT.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from swell.console import say
from swell.data.gen import is_gen, read_manifest
from swell.errors import InputError
from swell.files import atomic_path, locked, read_json, sha256_of, swap_in, told_as_input_error, write_json

LOOK_AGAIN = 0.5  # seconds between looks at what another process is making


class Work:
    """The folder `OUT.unfinished` for samples with `settings`."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.settings = out, settings
        self.folder = out.with_name(f"{out.name}.unfinished")

    def open(self, force: bool) -> None:
        """Begin, or go on with what is there. Raises InputError where that has other settings, unless `force` clears
        it away.
        """
        file = self.folder / SETTINGS
        with told_as_input_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and not _alike(read_json(file), self.settings):
            if not force:
                raise InputError(
                    f"{self.folder} (unfinished samples with other settings)",
                    "the settings they were begun with",
                    "finish those, choose another --out, or --force to throw them away",
                )
            self._throw_away()
        if self._is_earlier():
            self._throw_away()
        if not file.exists():
            write_json(file, self.settings)

    def _is_earlier(self) -> bool:
        """Whether the folder is what OUT held before, and a kill came between the exchange of the two and the end."""
        return not (self.folder / SETTINGS).exists() and (self.folder / "manifest.json").exists()

    def _throw_away(self) -> None:
        """Clear the folder, by renaming it first: a kill must not leave pieces without the settings they are of."""
        if self._shared():
            todo = "wait for it, or choose another --out"
            raise InputError(f"{self.folder} (another process is at work there)", "a folder of its own", todo)
        away = self.folder.with_name(f".{self.folder.name}.old.tmp")
        shutil.rmtree(away, ignore_errors=True)  # of a kill in just this place
        with told_as_input_error(self.folder):
            self.folder.replace(away)
            self.folder.mkdir()
        shutil.rmtree(away, ignore_errors=True)

    def _shared(self) -> bool:
        """Whether another process makes one of the pieces."""
        for lock in self.folder.glob("*.lock"):
            with self.claim(lock.name.removesuffix(".lock")) as mine:
                if not mine:
                    return True
        return False

    @property
    def is_done(self) -> bool:
        """Whether OUT holds the samples already, perhaps because another process has finished them."""
        return (
            (not os.path.exists(self.folder) or self._is_earlier())
            and is_gen(self.out)
            and read_manifest(self.out)["settings"] == self.settings
        )

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file `name`, made by `make(temporary path)` unless it is there; while another process makes it, wait."""
        path, told = self.folder / name, False
        while not path.exists():
            with self.claim(name) as mine:
                if mine and not path.exists():
                    with atomic_path(self.folder / f"{_MADE}{name}") as temporary:
                        make(temporary)
                    publish(self.folder / f"{_MADE}{name}", path)
                    break
            if not mine:
                if not told:
                    say(f"another process makes {name}; waiting for it")
                    told = True
                time.sleep(LOOK_AGAIN)
        return path

    def note(self, piece: str) -> dict[str, Any] | None:
        """What was noted of a finished shard, beside it; None where nothing was, or where the note or the shard was
        damaged since: then it is made again, which costs time and gives the same. Reads the whole shard.
        """
        path = self.folder / piece
        try:
            row = read_json(path.with_name(f"{piece}.row.json"))
            fits = isinstance(row, dict) and row.keys() >= _NOTED and sha256_of(path) == row["sha256"]
        except (InputError, FileNotFoundError):
            return None
        return row if fits else None

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process may make the piece `name`; it alone may, until the block ends."""
        try:
            with told_as_input_error(self.folder):
                handle = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        except InputError:
            if not self.is_done:
                raise
            yield False  # another process has just finished everything
            return
        try:
            yield locked(handle)
        finally:
            os.close(handle)  # and with it the lock

    def finish(self) -> None:
        """Turn the folder into OUT, in place of what OUT held before; what only the making needed goes afterwards, so
        that a kill meets all of it or a finished OUT."""
        if os.path.exists(self.out):
            self.tidy()
        swap_in(self.folder, self.out, self._old)
        self.tidy()

    @property
    def _old(self) -> Path:
        return self.out.with_name(f".{self.out.name}.old.tmp")

    def tidy(self) -> None:
        """Remove what making OUT, which is done, has left in it and, after a kill in the last moment, beside it."""
        if self._is_earlier():
            shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)
        with suppress(OSError):  # a folder that is read-only by now
            for path in self.out.iterdir():
                ours = path.suffix in (".lock", ".tmp") or path.name in _SCAFFOLD or path.name.startswith(_MADE)
                if ours or path.name.endswith(".row.json"):
                    path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """After a failure: take the folder away again where it holds nothing that took long to make and nobody else
        works in it.
        """
        if not os.path.exists(self.folder):
            return
        if self._shared():
            return
        valuable = any((self.folder / name).exists() for name in ("generator.safetensors", "training.pt"))
        if not valuable and not any(self.folder.glob("shard-*.npz")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def seed_from_finished(self) -> bool:
        """Where OUT holds fewer samples with the same settings, begin with those; whether that was so."""
        if not is_gen(self.out):
            return False
        manifest = read_manifest(self.out)
        fewer = manifest["settings"].get("count", 0) < self.settings["count"]
        if not fewer or not _alike(manifest["settings"], self.settings):
            return False
        self.open(force=False)
        names = [*(row["file"] for row in manifest["shards"]), *KEPT]
        for name in names:
            if (self.out / name).exists() and not (self.folder / name).exists():
                with atomic_path(self.folder / name) as temporary:
                    shutil.copyfile(self.out / name, temporary)
        for row in manifest["shards"]:
            write_json(self.folder / f"{row['file']}.row.json", row)
        return True


KEPT = ("generator.safetensors", "generator.json", "reference.safetensors", "filter.safetensors", "quality.json")
SETTINGS = "settings.json"
_SCAFFOLD = (SETTINGS, "training.pt")
_NOTED = {"file", "first", "count", "sha256", "cost"}
_MADE = ".made."  # before the name of a piece that is whole but has not got its name yet


def write_piece(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_piece(path: Path) -> dict[str, Tensor]:
    """The tensors of a piece. Raises InputError when it is missing or was cut short since it was made."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        todo = "delete it and give the same command again"
        raise InputError(f"{path} ({error})", "the file as it was written", todo) from None


def publish(made: Path, path: Path) -> None:
    """Give the finished file `made` its name, unless another process was first: then theirs counts."""
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        made.replace(path)
    made.unlink(missing_ok=True)


def _alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal but for the number of samples: the same generator, seed and shards."""
    return {k: v for k, v in a.items() if k != "count"} == {k: v for k, v in b.items() if k != "count"}


def share_of_work() -> tuple[int, int]:
    """(rank, number of processes) of torchrun or a Slurm job array; (0, 1) for a lone process."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")):
        with suppress(KeyError, ValueError):
            return int(os.environ[rank]), max(int(os.environ[world]), 1)
    return 0, 1
