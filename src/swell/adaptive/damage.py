"""What happened to the files of a search between two calls: someone deleted one, or a disk lost its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swell.checkpoint import load_checkpoint
from swell.console import warn
from swell.errors import InputError
from swell.files import read_json, sha256_of, write_json
from swell.ledger import read_ledger
from swell.recipes import read_recipe
from swell.run import load_encoder
from swell.training.folder import read_metrics


def digests(gen: Path) -> dict[str, str]:
    """SHA-256 of every file of a GEN folder but the shards, which its manifest knows, and those made again at will."""
    files = (path for path in sorted(gen.iterdir()) if path.is_file() and path.suffix not in (".lock", ".html"))
    return {path.name: sha256_of(path) for path in files if not path.name.startswith("shard-")}


def refuse_changed(gen: Path, path: Path) -> None:
    """Raises InputError where a file of `gen` is missing, or is not what `digests` saw when `path` was written.

    The first call writes `path`, JSON. Of pictures, which nothing depends on, it is only said.
    """
    now = digests(gen)
    if not path.exists():
        write_json(path, now)
    known = read_json(path)
    if not isinstance(known, dict):
        raise InputError(str(path), "digests of files by their names", f"delete it, if {gen} is as the search left it")
    for name, digest in known.items():
        if now.get(name) != digest:
            how = "changed since the search began" if name in now else "missing"
            if name.endswith(".png"):
                warn(f"{gen / name} ({how}): nothing depends on it")
                continue
            todo = "put it back, or search anew with another --out"
            raise InputError(f"{gen / name} ({how})", "the file that this search made", todo)


def damages(run: Path, steps: int) -> list[str]:
    """What is missing or cannot be read in the folder of a run that ended after `steps`, a line each; nothing where the
    run has been told to go on since.
    """
    found = []
    for name, read in _READERS.items():
        try:
            if not (run / name).is_file():
                raise InputError(f"{run / name} (missing)", "")
            value = read(run)
            if isinstance(value, int) and value != steps:
                if name == "recipe.toml":
                    return []
                raise InputError(f"{run / name} (lost its end)", "")
        except InputError as error:
            found.append(error.given)
    return found


def _last_step(run: Path) -> int:
    records = read_metrics(run)
    return records[-1]["step"] + 1 if records else 0


def _log(run: Path) -> None:
    if not (run / "run.log").read_bytes().endswith(b"\n"):
        raise InputError(f"{run / 'run.log'} (lost its end)", "")


_READERS: dict[str, Callable[[Path], object]] = {  # an int is a number of steps
    "recipe.toml": lambda run: read_recipe(run / "recipe.toml")[0].steps,
    "environment.json": lambda run: read_json(run / "environment.json"),
    "ledger.json": lambda run: read_ledger(run / "ledger.json"),
    "metrics.jsonl": _last_step,
    "encoder.safetensors": load_encoder,
    "checkpoint.pt": lambda run: load_checkpoint(run / "checkpoint.pt"),
    "stable.pt": lambda run: load_checkpoint(run / "stable.pt"),
    "run.log": _log,
}
