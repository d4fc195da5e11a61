"""Batches of images in shards, decoded by processes of their own before the training asks for them.

    ahead = Ahead(images, rows_of, batch)     # rows_of(t): which samples batch t holds, a pure function
    samples = ahead(t)                        # uint8 [n, C, S, S]

A fixed number of batches is under way, in memory that all processes share; a batch's place is given away only when it
has been taken. What comes out depends on t alone, whatever the number of processes and whoever is faster. A process
holds nothing that matters: it ends when its parent does, however that ends.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from swell.data.decoding_worker import FAILED, PLACE, Slots
from swell.data.packed import PackedImages
from swell.errors import InputError
from swell.processes import end, helper
from swell.threads import all_cores

__all__ = ["Ahead"]

MEMORY = 1 << 29  # bytes of all batches under way, where that is at least LEAST of them
LEAST, MOST = 2, 8  # batches under way


class Ahead:
    """Batches of `images` in the order they are asked for; see the module's text.

    Args:
        images: where the samples are.
        rows_of: the samples of batch t, int64 [n] with n no more than `batch`.
        batch: the most samples that a batch holds.
        workers: processes; None: a core each, of those that this rank has for itself. 0: decode in this process.
    """

    def __init__(
        self, images: PackedImages, rows_of: Callable[[int], Tensor], batch: int, workers: int | None = None
    ) -> None:
        if workers is None:
            workers = len(all_cores()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            workers = max(1, workers) if os.name == "posix" else 0
        self.images, self.rows_of, self.batch, self.workers = images, rows_of, batch, min(workers, batch)
        each = Slots.bytes_of(1, batch, images.shape[1:])
        self.depth = max(LEAST, min(MOST, MEMORY // each))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._coming: deque[tuple[int, int, np.ndarray]] = deque()  # t, slot, rows: in the order they were asked for
        self._slots: Slots | None = None

    def __call__(self, t: int) -> Tensor:
        """Samples of batch t, uint8 [n, C, S, S] on the CPU; pinned where there is a GPU.

        Raises:
            InputError: too many images that cannot be decoded, a file that has changed, a process that was killed.
        """
        if self.workers == 0:
            return torch.from_numpy(self.images[self.rows_of(t).numpy()])
        slots = self._started()
        if not self._coming or self._coming[0][0] != t:  # the first, or the run went back
            while self._coming:
                self._finish(*self._coming.popleft()[1:])
            for k in range(self.depth):
                self._begin(t + k, k)
        _, slot, rows = self._coming.popleft()
        self._finish(slot, rows)
        taken = torch.from_numpy(slots.pixels[slot, : len(rows)])
        batch = taken.pin_memory() if torch.cuda.is_available() else taken.clone()
        failed = slots.places[slot, : len(rows), PLACE - 1][slots.status[slot, : len(rows)] == FAILED]
        for row in sorted(failed.tolist()):
            batch[row] = torch.from_numpy(np.ascontiguousarray(self.images.one(int(rows[row]))))
        self._begin(t + self.depth, slot)
        return batch

    def _begin(self, t: int, slot: int) -> None:
        """Give batch t to the processes: each reads its share in the order in which it lies in the files."""
        slots = self._started()
        rows = self.rows_of(t).numpy()
        places = self.images.places(rows)
        order = np.lexsort((places[:, 1], places[:, 0]))
        slots.places[slot, : len(rows)] = np.column_stack([places[order], order])
        slots.status[slot] = 0
        for process, (first, last) in zip(self._processes, self._shares(len(rows)), strict=True):
            self._tell(process, b"%d %d %d\n" % (slot, first, last))
        self._coming.append((t, slot, rows))

    def _shares(self, n: int) -> list[tuple[int, int]]:
        cuts = [n * k // self.workers for k in range(self.workers + 1)]
        return list(pairwise(cuts))

    def _finish(self, slot: int, rows: np.ndarray) -> None:
        """Wait until a batch is complete. Every process answers in the order in which it was asked."""
        for process, (first, last) in zip(self._processes, self._shares(len(rows)), strict=True):
            assert process.stdout is not None
            if process.stdout.readline() != b"%d %d %d\n" % (slot, first, last):
                raise self._ended(process)

    def _tell(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            raise self._ended(process) from None

    def _ended(self, process: subprocess.Popen[bytes]) -> InputError:
        process.kill()  # which changes nothing of one that has ended
        status = process.wait()
        self.close()
        given = f"a process that decodes images was ended from outside (status {status})"
        return InputError(given, "processes that are left alone", "--resume; with fewer --workers if memory ran out")

    def _started(self) -> Slots:
        if self._slots is not None:
            return self._slots
        shape = self.images.shape[1:]
        total = Slots.bytes_of(self.depth, self.batch, shape)
        with _unnamed() as number:
            os.ftruncate(number, total)
            self._slots = Slots.over(mmap.mmap(number, total), self.depth, self.batch, shape)
            index = self.images.index
            told = {
                "memory": number,
                "slots": self.depth,
                "rows": self.batch,
                "shape": shape,
                "paths": [str(path) for path in index.files],
                "stats": index.stats.tolist(),
            }
            for _ in range(self.workers):
                process = helper("swell.data.decoding_worker", pass_fds=(number,))
                self._processes.append(process)
                self._tell(process, json.dumps(told).encode() + b"\n")
        return self._slots

    def close(self) -> None:
        """End the processes."""
        end(self._processes)
        self._processes, self._slots = [], None
        self._coming.clear()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _unnamed() -> Iterator[int]:
    """A file without a name in memory, or where there is no such thing on the disk; gone when nobody has it open.

    Not /dev/shm, which containers keep small.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("swell-batches")
        try:
            yield number
        finally:
            os.close(number)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
