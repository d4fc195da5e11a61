"""200 malformed inputs against the real command line: each must end with exit status 2 and one line.

    python benchmarks/malformed.py [--out benchmarks/results/DATE-malformed] [--only NAME ...] [--workers 2]

Every case gets a folder of its own, is run there, and passes when

1. the exit status is 2 and stdout is empty;
2. stderr holds exactly one line, `swell: ...`. Lines that the work before the fault may print (a warning, `learning
   ...`, a progress line) do not count; how many cases print one is in the result;
3. that line holds what was given (the case says which words), and no traceback;
4. everything in the folder, hidden files included, is byte for byte what it was before: no result, no half of one,
   nothing temporary, and earlier results as they were.

Most cases run in a forked process that has torch loaded, the cases marked `command` as `python -m swell ...`. Full and
read-only disks are small tmpfs mounts in a mount namespace of the worker, which needs root; without it those cases are
left out and counted as such.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import errno
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TIMEOUT = 60.0  # seconds a case may take
NOTICE = re.compile(r"warning: |learning [\d,]+ samples|[ \d]+ %  ")
HEAVY = ("swell.verbs", "swell.evaluation.evaluate", "swell.generators.generate", "swell.report.run_page", "swell.demo")
CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 16384, 1 << 18

Build = Callable[[Path, Path], None]  # (folder of the case, folder with a ready RUN, GEN and half-finished RUN)


@dataclass(frozen=True)
class Outcome:
    name: str
    faults: tuple[str, ...]  # what is wrong; none is a pass
    line: str
    notices: int  # lines of work before the fault
    seconds: float
    command: bool


def prepare(at: Path) -> None:
    """The ready `run`, `begun` and `gen`, on the data every case finds beside it."""
    from swell.cli import main
    from swell.data.gen import write_gen
    from swell.data.source import Provenance
    from swell.files import write_json
    from swell.ledger import Ledger

    os.chdir(at)
    np.savez("data.npz", images=images(), labels=LABELS)
    np.savez("gen-data.npz", images=images(30))
    write_gen("gen", images(30, (1, 8, 8)), Provenance("generated", "gen", "diffusion"))
    write_json("gen/ledger.json", Ledger().to_dict())
    for argv in (pretrain("data.npz", "--out", "run"), ("evaluate", "run", "data.npz", "--no-baselines")):
        if main(list(argv)):
            raise RuntimeError(f"swell {' '.join(argv)} failed")
    shutil.copytree("run", "begun")
    for name in ("encoder.safetensors", "encoder.json", "ledger.json", "evaluation.json", "report.html"):
        (Path("begun") / name).unlink()


def snapshot(at: Path) -> dict[str, str]:
    """Every entry under `at`, hidden ones too, with its kind, mode and content."""
    found = {}
    for path in sorted(at.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(at))] = f"{oct(status.st_mode)} {content}"
    return found


def run_case(case: Case, at: Path, capture: Path) -> int:
    """Exit status of the case's command, which writes to `capture`.out and .err; 124 when it takes too long."""
    stdout = Path(case.stdout) if case.stdout else capture.with_suffix(".out")
    with stdout.open("wb") as out, capture.with_suffix(".err").open("wb") as err:
        if case.command:
            environment = {**os.environ, **case.environment}
            try:
                return subprocess.run([sys.executable, "-m", "swell", *case.argv], cwd=at, env=environment, timeout=TIMEOUT,
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                return 124
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _be_the_command(case, at, out.fileno(), err.fileno())
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return 124


def _be_the_command(case: Case, at: Path, out: int, err: int) -> None:
    """In the forked process: become `swell *argv`, and never return."""
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(at)
        os.environ.update(case.environment)
        for kind, most in case.limits.items():
            resource.setrlimit(kind, (most, most))
        from swell.cli import main

        status = main(list(case.argv))
    except BaseException:  # whatever it is, it belongs to the case's stderr
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def judge(case: Case, templates: Path) -> Outcome:
    at = Path(tempfile.mkdtemp(prefix="case-", dir=templates.parent))
    capture = templates.parent / f"{at.name}-said"
    begun = time.perf_counter()
    faults = []
    try:
        shutil.copy(templates / "data.npz", at)
        for build in case.builds:
            build(at, templates)
        before = snapshot(at)
        status = run_case(case, at, capture)
        after = snapshot(at)
    finally:
        if case.mounts:
            ctypes.CDLL(None).umount2(str(at / "disk").encode(), 2)
        shutil.rmtree(at)
    stdout = b"" if case.stdout else capture.with_suffix(".out").read_bytes()
    lines = capture.with_suffix(".err").read_text(errors="replace").splitlines()
    notices = [line for line in lines if NOTICE.match(line)]
    rest = [line for line in lines if not NOTICE.match(line)]
    if status != 2:
        faults.append(f"exit status {status}")
    if len(rest) != 1 or not rest[0].startswith("swell: ") or ": expected " not in rest[0]:
        faults.append(f"{len(rest)} lines, the last: {rest[-1] if rest else ''}")
    elif case.names not in rest[0] and case.names not in rest[0].replace("_", "-"):
        faults.append(f"{case.names!r} is not in: {rest[0]}")
    if stdout:
        faults.append(f"stdout: {stdout[:80]!r}")
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if different:
        faults.append(f"changed: {', '.join(different[:6])}")
    return Outcome(case.name, tuple(faults), rest[-1] if rest else "", len(notices), time.perf_counter() - begun, case.command)


def may_mount() -> bool:
    """Move this process, and those it forks, into a mount namespace of its own; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return os.geteuid() == 0 and not libc.unshare(CLONE_NEWNS) and not libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def run_all(cases: list[Case], workers: int, show: Callable[[Outcome], None]) -> list[Outcome]:
    """The outcomes of `cases`, in their order."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        importlib.import_module(name)
    fork = multiprocessing.get_context("fork")
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="swell-malformed-") as root:
        os.environ["SWELL_CACHE"] = str(Path(root) / "cache")
        templates = Path(root) / "ready"
        templates.mkdir()
        maker = fork.Process(target=prepare, args=(templates,))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise RuntimeError("the ready RUN and GEN could not be made")
        global _judge_one
        def _judge_one(i: int) -> tuple[int, Outcome]: return i, judge(cases[i], templates)
        with fork.Pool(workers) as pool:
            for i, outcome in pool.imap_unordered(_judge_one, range(len(cases))):
                outcomes[i] = outcome
                show(outcome)
    return [outcomes[i] for i in range(len(cases))]
