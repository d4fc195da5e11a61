"""Things the user wrote: `path/to/file.py:Name`."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from swell.errors import InputError, suggest


class _Loader(SourceFileLoader):
    """Leaves no `__pycache__` beside the user's file."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Called with compiled code, to be kept for the next time."""


def from_file(flag: str, place: str) -> Any:
    """The object `Name` of the Python file in `place`, "file.py:Name"; the file is run.

    Raises:
        InputError: not such a place, no such file or name, or a file that fails.
    """
    path, colon, name = place.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise InputError(f"{flag} {place}", "a Python file and a name in it, file.py:name")
    if not Path(path).is_file():
        raise InputError(f"{flag} {path}", "a file that exists")
    name_of_module = f"swell_user_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name_of_module, path, loader=_Loader(name_of_module, path))
    if spec is None or spec.loader is None:
        raise InputError(f"{flag} {path}", "a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations that are strings
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"{flag} {path} ({type(error).__name__}: {error})", "a file that runs", "mend it") from error
    if not hasattr(module, name):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise InputError(f"{flag} {place}", f"a name of {path}", suggest(name, names))
    return getattr(module, name)
