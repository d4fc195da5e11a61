"""Processes of Swell's own that work for this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import swell


def helper(module: str, *, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """`python -m module`, told what to do through its standard input; this process's own Swell, whatever else there is.

    Unlike multiprocessing's, it does not import the user's script again, which would then need a guard.
    """
    where = str(Path(swell.__file__).parents[1])
    known = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],  # -P: nothing of the folder we are in
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": known},
        pass_fds=pass_fds,
        start_new_session=True,  # Ctrl-C is the parent's: it ends them when it is done
    )


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill processes that hold nothing that matters, and wait for them."""
    processes = list(processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # what was still to be told to a process that is gone
                    continue
