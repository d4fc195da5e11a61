"""Threads and cores: binding OpenMP's threads, and undoing it for workers.

Unbound, a neighbour's process can push both threads of a two-core machine onto one core, where oneDNN's barriers wait
whole scheduler slices. Bound, the main thread may use one core only,
and every thread and process it starts inherits that: workers must call `free_cores` first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CORES = "SWELL_CORES"  # the cores this process was started with; in the environment, so that spawned workers know
_OWN = ("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT")


def bind_threads() -> None:
    """Bind OpenMP's threads to their cores and bound their busy waiting; effective only before torch is imported.

    Not where the user has OMP_* settings of their own or SWELL_BIND=0.
    """
    if hasattr(os, "sched_getaffinity"):
        os.environ.setdefault(_CORES, ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    if not not_bound_because():
        os.environ["OMP_PROC_BIND"] = "true"
        os.environ["GOMP_SPINCOUNT"] = "10000"  # wait some 30 us actively, then give the core to who can use it


def not_bound_because() -> str:
    """Why `bind_threads` would leave the threads alone; nothing where it would bind them."""
    if os.environ.get("SWELL_BIND", "1") == "0":
        return "SWELL_BIND is 0"
    own = [key for key in _OWN if key in os.environ]
    return f"{own[0]} is set, so OpenMP's settings are left alone" if own else ""


def all_cores() -> set[int]:
    """The cores this process was started with, whatever its main thread is bound to now."""
    if known := os.environ.get(_CORES):
        return {int(core) for core in known.split(",")}
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def free_cores() -> None:
    """Let the calling thread, and what it starts, use all cores again. Call it first in every worker."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, all_cores())


def start_worker(threads: int) -> None:
    """Initialiser of a spawned worker process that computes with torch on `threads` threads."""
    free_cores()
    import torch

    torch.set_num_threads(threads)


@contextmanager
def unbound() -> Iterator[None]:
    """Processes started in the block do not inherit the binding of this one's threads, or all would share its first
    core."""
    old = os.environ.get("OMP_PROC_BIND")
    os.environ["OMP_PROC_BIND"] = "false"
    try:
        yield
    finally:
        if old is None:
            del os.environ["OMP_PROC_BIND"]
        else:
            os.environ["OMP_PROC_BIND"] = old
