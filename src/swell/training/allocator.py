"""The C library's memory: keep what a training step frees, because the next step asks for the same again.

glibc maps every large tensor afresh and unmaps it when it is freed, so that each step of a training on the CPU touches
all its memory for the first time, 4 KiB at a time. Kept instead, the same pages serve step after step.

What is kept has gaps: glibc finds an aligned block only in a hole larger than the block, so the hole that a tensor
leaves between two others is too small for the next tensor of its size. tcmalloc and jemalloc, preloaded, keep memory
without them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of <malloc.h>
_MIB = 2**20
# The highest thresholds glibc adapts to by itself; once anything is set it adapts no longer.
_ORDINARY = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 64 * _MIB))
_KEEPING = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))  # nothing mapped on its own, nothing given back
_PRELOADED = {"tc_malloc": "tcmalloc", "mallctl": "jemalloc"}  # by a function that only it has


def preloaded() -> str:
    """The allocator that LD_PRELOAD put in the place of glibc's; nothing where there is none that we know."""
    if os.name != "posix":
        return ""
    process = ctypes.CDLL(None)
    return next((name for function, name in _PRELOADED.items() if hasattr(process, function)), "")


def not_reused_because() -> str:
    """Why freed memory would not be kept here; nothing where it would."""
    if name := preloaded():
        return f"{name} is preloaded, so the allocator is left alone"
    chosen = [key for key in os.environ if key == "GLIBC_TUNABLES" or key.startswith("MALLOC_")]
    if chosen:
        return f"{chosen[0]} is set, so the allocator is left alone"
    known = os.name == "posix" and all(hasattr(ctypes.CDLL(None), name) for name in ("mallopt", "malloc_trim"))
    return "" if known else "the C library is not glibc"


@contextmanager
def memory_reused() -> Iterator[None]:
    """Inside, freed memory stays with the process; at the end what is free goes back to the system.

    Does nothing where the C library is not glibc, another allocator is preloaded, or the user set MALLOC_* or
    GLIBC_TUNABLES.
    """
    if not_reused_because():
        yield
        return
    library = ctypes.CDLL(None)
    for parameter, value in _KEEPING:
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _ORDINARY:
            library.mallopt(parameter, value)
        library.malloc_trim(ctypes.c_size_t(0))
