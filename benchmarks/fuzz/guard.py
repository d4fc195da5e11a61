"""What a reader may touch while it reads: its own folder, and what Python and the package are made of.

An audit hook sees every file that Python opens, changes or removes, every connection, process and piece of code that is
run. (What HDF5 opens by itself it does not see: links out of an .h5ad file have a test of their own.)
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import Any

NEVER = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec",
         "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pickle.find_class", "urllib.Request")  # fmt: skip
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
)
READABLE = ("/proc/", "/sys/", "/dev/", "/usr/", "/lib", "/etc/localtime", "/etc/mime.types")
CODE = ("<", "swell-fuzz")  # of names of code that comes from no file of a user's


class Escape(Exception):
    """A reader did what no reader may."""


class Guard:
    """`with guard: read()`; raises `Escape` from within."""

    def __init__(self, box: Path, source: Path) -> None:
        own = {sys.prefix, sys.base_prefix, *site.getsitepackages(), *(p for p in sys.path if p), str(source)}
        self.box, self.own, self.active = str(box), tuple(str(Path(place).resolve()) for place in own), False
        self.found: list[str] = []
        sys.addaudithook(self._see)

    def __enter__(self) -> Guard:
        self.found.clear()
        self.active = True
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False

    def _see(self, event: str, told: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, _, flags = told
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if isinstance(path, int) or self._inside(path) or (not writes and self._readable(path)):
                return
        elif event == "exec":
            name = getattr(told[0], "co_filename", "<")
            if name.startswith(CODE) or self._readable(name):
                return
        elif event in CHANGES:
            if told[-1:] != (-1,) and isinstance(told[-1], int):  # a name in a folder that is open, which was looked at
                return
            if all(self._inside(part) for part in told if isinstance(part, (str, bytes, os.PathLike))):
                return
        elif event not in NEVER:
            return
        what = f"{event} {told!r}"[:300]
        self.found.append(what)
        raise Escape(what)

    def _inside(self, path: Any) -> bool:
        return os.path.realpath(os.fsdecode(path)).startswith(self.box)

    def _readable(self, path: Any) -> bool:
        full = os.path.realpath(os.fsdecode(path))
        return full.startswith(self.own) or full.startswith(READABLE)
