"""Looking at and decoding a folder of very many files, or of very small ones, on all cores.

Of a small file most of the work is Python's own, which threads do one after the other. Processes do it side by side.

A question to one is a line of JSON: {"root": .., "files": [[path, bytes, mtime, ctime], ..], "square": [size, channels]
or null}. The answer is one, too: without a square a list of headers, [width, height, grey] or the reason why there is
none; with one what a `Chunk` holds but the pixels of its rows, which follow.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import numpy as np

from swell.data.folder_listing import ImageFile
from swell.data.images import DIGEST, Chunk, Header, decode_part, in_order, read_header, shifted
from swell.errors import InputError
from swell.processes import end, helper
from swell.threads import all_cores

MANY = 20_000  # files; for fewer, processes take longer to start than they save
_EACH = 256  # files a process is asked for at a time


class Helpers:
    """`count` processes, started when they are first asked, and ended by `close`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []

    def look(self, root: Path, files: Sequence[ImageFile]) -> Generator[list[Header | str], None, None]:
        """The headers of all files in order, or why there is none, some at a time."""

        def work(part: range) -> list[Header | str]:
            with self._asked(question(root, files[part.start : part.stop], None)) as pipe:
                return headers_in(pipe)

        return in_order(work, len(files), self.count, _EACH)

    def decode(self, root: Path, files: Sequence[ImageFile], size: int, channels: int) -> Generator[Chunk, None, None]:
        """What `decode_files` makes of them."""

        def work(part: range) -> Chunk:
            with self._asked(question(root, files[part.start : part.stop], (size, channels))) as pipe:
                return shifted(chunk_in(pipe, (size, channels)), part.start)

        return in_order(work, len(files), self.count, _EACH)

    @contextmanager
    def _asked(self, line: bytes) -> Iterator[IO[bytes]]:
        """Where a process answers. One that is gone is told as InputError."""
        process = self._free()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            yield process.stdout
        except (BrokenPipeError, EOFError):
            process.kill()
            given = f"a process that decodes images was ended from outside (status {process.wait()})"
            raise InputError(given, "processes that are left alone", "try again") from None
        self._idle.put(process)

    def _free(self) -> subprocess.Popen[bytes]:
        """As many ask at a time as there are processes, so one is idle, or still to be started."""
        try:
            return self._idle.get_nowait()
        except Empty:
            process = helper("swell.data.folder_worker")
            self._all.append(process)
            return process

    def close(self) -> None:
        end(self._all)


@contextmanager
def helping(n: int, workers: int | None) -> Iterator[Helpers | None]:
    """Helpers for a folder of n files, a core each unless `workers` says how many, where they are worth their start."""
    if workers is None:
        workers = len(all_cores()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if n < MANY or workers < 2 or os.name != "posix":
        yield None
        return
    helpers = Helpers(workers)
    try:
        yield helpers
    finally:
        helpers.close()


def look_at(
    root: Path, files: Sequence[ImageFile], helpers: Helpers | None
) -> Generator[list[Header | str], None, None]:
    """The headers of all files in order, or why there is none, some at a time."""
    if helpers is not None:
        return helpers.look(root, files)
    parts = (files[i : i + _EACH] for i in range(0, len(files), _EACH))
    return ([read_header(root, file) for file in part] for part in parts)


# ---- what is said ---------------------------------------------------------------------------------------------


def question(root: Path, files: Sequence[ImageFile], square: tuple[int, int] | None) -> bytes:
    return json.dumps({"root": str(root), "files": list(files), "square": square}).encode() + b"\n"


def answer(line: bytes) -> bytes:
    told = json.loads(line)
    root, files = Path(told["root"]), [ImageFile(*file) for file in told["files"]]
    if told["square"] is None:
        return json.dumps([read_header(root, file) for file in files]).encode() + b"\n"
    chunk = decode_part(root, files, *told["square"])
    digests = b"".join(chunk.digests).hex()
    head = {"rows": len(chunk.rows), "digests": digests, "bad": chunk.bad, "lasting": chunk.lasting}
    head["headers"] = list(chunk.headers.items())
    return b"".join([json.dumps(head).encode() + b"\n", *(row.tobytes() for row in chunk.rows)])


def headers_in(pipe: IO[bytes]) -> list[Header | str]:
    """Raises EOFError where the pipe ends before the answer does, as `chunk_in`."""
    return [found if isinstance(found, str) else Header(*found) for found in json.loads(_line(pipe))]


def chunk_in(pipe: IO[bytes], square: tuple[int, int]) -> Chunk:
    head, (size, channels) = json.loads(_line(pipe)), square
    shape = (head["rows"], channels, size, size)
    pixels = pipe.read(int(np.prod(shape)))
    if len(pixels) < np.prod(shape):
        raise EOFError
    digests = bytes.fromhex(head["digests"])
    each = [digests[i : i + DIGEST] for i in range(0, len(digests), DIGEST)]
    bad = [(i, reason) for i, reason in head["bad"]]
    headers = Counter({Header(*header): count for header, count in head["headers"]})
    return Chunk(np.frombuffer(pixels, np.uint8).reshape(shape), each, bad, head["lasting"], headers)


def _line(pipe: IO[bytes]) -> bytes:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line
