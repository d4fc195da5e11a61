"""Checkpoints: atomic, and read with `weights_only=True`, so that opening one never runs code."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from swell.errors import InputError
from swell.files import atomic_path

FORMAT = "swell-checkpoint-1"
_UNREADABLE = (  # what torch and pickle are known to raise on damaged files
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    ArithmeticError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values). A kill at any moment leaves the old file or the new one, whole."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # torch reports a full disk as a RuntimeError of its zip writer
            if not any(word in str(error) for word in ("PytorchStreamWriter", "inline_container", "write")):
                raise
            raise InputError(
                f"cannot write {path} (no space left or file too large)",
                "room for a checkpoint",
                "free some space and run again with --resume",
            ) from error


def load_checkpoint(path: Path | IO[bytes]) -> dict[str, Any]:
    """Raises InputError when the file is damaged or is no checkpoint of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign file's oddities end up in the one line below
            _refuse_packed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(
            f"{path} ({reason})", "a checkpoint written by swell", "delete it to start this run from the beginning"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path}", f"a checkpoint of format {FORMAT}", "delete it to start from the beginning")
    return state


def _refuse_packed(path: Path | IO[bytes]) -> None:
    """Raises BadZipFile for anything but an archive whose members lie in it as they are, and together are no larger.

    torch writes no other, but reads them, and older formats: it makes room for whatever size a file claims.
    """
    with zipfile.ZipFile(path) as archive:
        held = archive.fp.seek(0, 2) if archive.fp else 0
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise zipfile.BadZipFile("compressed")
        if sum(max(member.file_size, member.compress_size) for member in members) > held:
            raise zipfile.BadZipFile("it claims more than it holds")
    if not isinstance(path, Path):
        path.seek(0)
