"""Tasks in processes of their own, several at a time: peak memory is a task's own, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from swell.errors import InputError
from swell.threads import start_worker, unbound

Task = TypeVar("Task")

ORPHANED = 0.2  # seconds between a process's looks whether its parent still lives
GRACE = 30.0  # seconds to write a checkpoint in, after Ctrl-C
LOOK = 0.5  # seconds between a parent's looks at the progress


def in_processes(
    work: Callable[[Task], Any], tasks: Sequence[Task], together: int, threads: int
) -> Iterator[tuple[Task, Any] | None]:
    """Yield (task, result) as tasks end, and None twice a second while none does.

    `work` and the tasks go to fresh processes of `threads` threads each, which start while `together` are not exceeded.

    Raises:
        InputError: what a task raised, or that its process was killed.
        RuntimeError: anything else that a task raised, with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(tasks))
    running: dict[Connection, tuple[Task, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < together:
                task = waiting.pop()
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_one, args=(work, task, threads, os.getpid(), theirs), daemon=True)
                with unbound():
                    process.start()
                theirs.close()
                running[mine] = task, process
            ended = wait([*running], timeout=LOOK)
            if not ended:
                yield None
            for connection in ended:
                assert isinstance(connection, Connection)
                task, process = running.pop(connection)
                yield task, _result(connection, process)
    except KeyboardInterrupt:  # which the terminal has told them too
        for _, process in running.values():
            process.join(GRACE)
        raise
    finally:
        for _, process in running.values():
            process.terminate()


def _result(connection: Connection, process: Any) -> Any:
    try:
        kind, value = connection.recv()
    except EOFError:  # it died without a word
        process.join()
        given = f"a run whose process was ended from outside (status {process.exitcode})"
        todo = "start the same command again, with fewer --workers if memory ran out"
        raise InputError(given, "processes that are left alone", todo) from None
    process.join()
    if kind == "done":
        return value
    if kind == "input":
        raise InputError(*value)
    if kind == "interrupted":
        raise KeyboardInterrupt
    raise RuntimeError(f"in a process of its own:\n{value}")


def _one(work: Callable[[Any], Any], task: Any, threads: int, parent: int, answer: Connection) -> None:
    def look() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHANED)
        os._exit(1)  # killed with its parent, so that the next start finds no run held by somebody else

    threading.Thread(target=look, daemon=True).start()
    start_worker(threads)
    try:
        told = ("done", work(task))
    except InputError as error:
        told = ("input", (error.given, error.expected, error.todo))
    except KeyboardInterrupt:
        told = ("interrupted", None)
    except Exception:  # our fault; the parent raises it
        told = ("failed", traceback.format_exc())
    answer.send(told)
