"""Files that are whole or absent: atomic writes, JSON, TOML, content hashes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from swell.errors import InputError

if os.name == "posix":
    import fcntl

_LONGEST_TOML, _PARTS = 1 << 22, 32
_PART = r"(?:\.[ \t]*+(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+)"
_DEEP = re.compile(f"{_PART}{{{_PARTS}}}")
_USER_SIDE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


@contextlib.contextmanager
def told_as_input_error(path: Path | str) -> Iterator[None]:
    """Turn a full disk, a read-only folder or a file in the way into one line for the user.

    Raises:
        InputError: for errors of the file system that only the user can mend.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno in _USER_SIDE:
            reason = os.strerror(error.errno or 0).lower()
        elif isinstance(error, SafetensorError) and "I/O error: " in str(error):  # how its writer tells of a full disk
            reason = str(error).split("I/O error: ")[1].lower()
        else:
            raise
        raise InputError(
            f"cannot write {path} ({reason})",
            "a writable place with free space",
            "choose another --out or free some space",
        ) from error


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; where the block fails, those that were not there before go again if empty."""
    with told_as_input_error(folder):
        new = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for part in new:
            with contextlib.suppress(OSError):
                part.rmdir()
        raise


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on any failure."""
    path = Path(path)
    with new_folders(path.parent), told_as_input_error(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; none where there is no file. What is no object, such as a line
    cut short by a kill, is left out."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def write_text(path: Path | str, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold any byte


def write_bytes(path: Path | str, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, value: Any) -> None:
    """Strict JSON: a NaN becomes null, so that every reader can open the file."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path | str) -> Any:
    """Raises InputError when the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "a file that exists", "is this a folder made by swell?") from None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} ({error})", "a readable JSON file", "make it again") from None


def read_toml(path: Path | str) -> dict[str, Any]:
    """Raises InputError when the file is missing or is not TOML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        if len(text) > _LONGEST_TOML or _DEEP.search(text):  # over a name of n parts the parser takes n cubed steps
            raise InputError(str(path), f"up to {_LONGEST_TOML >> 20} MiB and names of up to {_PARTS} parts")
        return tomllib.loads(text)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(str(path), "a recipe file that exists", "see `swell recipes`") from None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} ({error})", "a readable TOML file", "mend the line it names") from None


def sha256_of(path: Path | str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which takes its place, whole, when the block succeeds and vanishes when it
    fails. What `out` held before is removed only after the new folder is complete.
    """
    with new_folders(out.parent):
        with told_as_input_error(out):
            temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        made, old = temporary / "new", temporary / "old"
        try:
            with told_as_input_error(out):
                made.mkdir()
            yield made
            swap_in(made, out, old)
        except InputError as error:  # names the place the user knows, not the temporary one
            given = error.given.replace(str(made), str(out))
            raise InputError(given, error.expected, error.todo) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def locked(handle: int) -> bool:
    """Whether the open file `handle` is this process's alone; the kernel's lock, which ends with the process however
    that ends. True too where there are no locks: on Windows and on some file systems."""
    if os.name != "posix":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def sole(out: Path) -> Iterator[None]:
    """Make the folder `out` and be the only process that writes it, until the block ends or the process does.

    Raises:
        InputError: when another process is doing so.
    """
    with new_folders(out):
        with told_as_input_error(out):
            handle = os.open(out, os.O_RDONLY) if os.name == "posix" else -1
        try:
            if not locked(handle):
                given = f"--out {out} (another process is writing there)"
                raise InputError(given, "a folder of its own", "wait for it or choose another --out")
            yield
        finally:
            if handle >= 0:
                os.close(handle)


def swap_in(made: Path, out: Path, old: Path) -> None:
    """Rename the finished folder `made` to `out`; what `out` held before goes to `old`, and back where that fails.

    On Linux in one step, so that a kill finds one of the two at `out`; else there is a moment when it finds none.
    """
    with told_as_input_error(out):
        if out.exists() and _exchanged(made, out):
            made.replace(old)
            return
        if out.exists():
            out.replace(old)
        try:
            made.replace(out)
        except BaseException:  # a Ctrl-C here must not cost the earlier samples either
            if old.exists() and not out.exists():
                old.replace(out)
            raise


def _exchanged(a: Path, b: Path) -> bool:
    """Whether the names of two folders were exchanged; not every kernel and file system can."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:  # a C library that does not know the call
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)
