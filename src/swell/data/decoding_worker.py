"""A process that decodes images into memory it shares with its parent, until the parent closes the pipe or dies.

It knows no batches and no seed: it fills the rows it is told of from the places that stand beside them.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swell.data.images import DAMAGED, decode
from swell.errors import InputError
from swell.threads import free_cores

DONE, FAILED = 1, 2
PLACE = 4  # numbers of a row: file, offset, size, and which row of the slot the image goes to
MOST_BYTES = 1 << 28  # of one encoded image; more is no photograph, and is not even read
_OPEN = 16  # files that a thread keeps open


class _Handle:
    """An open file, closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.close = os.close  # for as long as this lives, which may be longer than modules do
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            self.close(self.number)


class Files:
    """Reads from several large files, by any number of threads.

    Args:
        paths: of the files.
        stats: (bytes, mtime in ns, ...) of each, which they must still have.
    """

    def __init__(self, paths: Sequence[str], stats: Sequence[Sequence[int]]) -> None:
        self.paths, self.stats, self._own = paths, stats, threading.local()

    def read(self, file: int, offset: int, size: int) -> bytes:
        """The bytes of one image.

        Raises:
            InputError: the file cannot be read, or is not what it was.
            ValueError: far too many bytes for an image.
        """
        if size > MOST_BYTES:
            raise ValueError(f"{size / 1e6:,.0f} MB of encoded image")
        try:
            number = self._handle(file).number
            found = os.fstat(number)
            content = os.pread(number, size, offset)
        except OSError as error:
            given = f"{self.paths[file]} ({os.strerror(error.errno or 0).lower()})"
            raise InputError(
                given, "files that can be read as long as the work lasts", "put it back, --resume"
            ) from None
        if (found.st_size, found.st_mtime_ns) != tuple(self.stats[file][:2]) or len(content) != size:
            given = f"{self.paths[file]} (changed since it was looked at)"
            raise InputError(given, "files that stay as they are", "start anew with another --out")
        return content

    def _handle(self, file: int) -> _Handle:
        held: OrderedDict[int, _Handle] = self._own.__dict__.setdefault("held", OrderedDict())
        if file not in held:
            held[file] = _Handle(self.paths[file])
            if len(held) > _OPEN:
                held.popitem(last=False)
        held.move_to_end(file)
        return held[file]


@dataclass(frozen=True)
class Slots:
    """Shared memory: in each slot the places of up to `rows` images, what became of them, and their pixels."""

    places: np.ndarray  # int64 [slots, rows, PLACE]
    status: np.ndarray  # uint8 [slots, rows]
    pixels: np.ndarray  # uint8 [slots, rows, C, S, S]

    @staticmethod
    def bytes_of(slots: int, rows: int, shape: tuple[int, int, int]) -> int:
        return slots * rows * (8 * PLACE + 1 + int(np.prod(shape)))

    @classmethod
    def over(cls, area: mmap.mmap, slots: int, rows: int, shape: tuple[int, int, int]) -> Slots:
        n = slots * rows
        places = np.frombuffer(area, np.int64, n * PLACE).reshape(slots, rows, PLACE)
        status = np.frombuffer(area, np.uint8, n, 8 * PLACE * n).reshape(slots, rows)
        pixels = np.frombuffer(area, np.uint8, n * int(np.prod(shape)), (8 * PLACE + 1) * n)
        return cls(places, status, pixels.reshape(slots, rows, *shape))


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which may want to end a step and save it
        signal.signal(number, signal.SIG_IGN)
    free_cores()
    warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
    told = json.loads(sys.stdin.buffer.readline())
    shape = tuple(told["shape"])
    area = mmap.mmap(told["memory"], Slots.bytes_of(told["slots"], told["rows"], shape))
    slots = Slots.over(area, told["slots"], told["rows"], shape)
    files = Files(told["paths"], told["stats"])
    for line in sys.stdin.buffer:
        slot, first, last = map(int, line.split())
        for row in range(first, last):
            file, offset, size, to = slots.places[slot, row].tolist()
            try:
                slots.pixels[slot, to] = decode(files.read(file, offset, size), shape[1], shape[0])
                slots.status[slot, row] = DONE
            except (InputError, *DAMAGED):  # the parent tries again, and knows what to do then
                slots.status[slot, row] = FAILED
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
