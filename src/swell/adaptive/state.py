"""Where a search stands: `adapt/state.json`, replaced as a whole after every step that took long.

Everything else follows from it, so that a search which was killed at any moment goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swell.errors import InputError
from swell.files import read_json, write_json

FORMAT = "swell-adapt-1"
FILE = "state.json"


class State:
    """The settings a search began with, and what it has found, by name. Plain JSON values."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
        """Begin in `folder`, or go on with what is there.

        Raises:
            InputError: a search is there and `resume` is not given, or it began with other settings.
        """
        self.path = folder / FILE
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.found: dict[str, Any] = {}
        if not self.path.exists():
            return
        if not resume:
            todo = "add --resume to go on with it, or choose another --out"
            raise InputError(f"--out {folder.parent} (holds a search)", "a new or empty folder", todo)
        self.found, before = read_state(self.path)
        if before != self.settings:
            keys = sorted({*before, *self.settings})
            changed = "; ".join(
                f"{key}: {before.get(key)!r} -> {self.settings.get(key)!r}"
                for key in keys
                if before.get(key) != self.settings.get(key)
            )
            todo = "undo the change, or start anew with another --out"
            raise InputError(f"--resume {folder.parent} with other settings ({changed[:400]})", "those it had", todo)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What is known as `name`; where it is not known yet, `make` it and keep it."""
        if name not in self.found:
            self.keep(name, make())
        return self.found[name]

    def keep(self, name: str, value: Any) -> None:
        write_json(self.path, {"format": FORMAT, "settings": self.settings, **self.found, name: value})
        self.found = read_state(self.path)[0]  # what a resumed search would read


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(found, settings) of a state file. Raises InputError when it is damaged or none of ours."""
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or not isinstance(stored.get("settings"), dict):
        raise InputError(str(path), f"a search of format {FORMAT}", "start anew with another --out")
    found = {key: value for key, value in stored.items() if key not in ("format", "settings")}
    return found, stored["settings"]
