"""200 malformed inputs against the real command line: each must end with exit status 2 and one line.

    python benchmarks/malformed.py [--out benchmarks/results/DATE-malformed] [--only NAME ...] [--workers 2]

Every case (`malformed_cases.py`) gets a folder of its own, is run there, and passes when

1. the exit status is 2 and stdout is empty;
2. stderr holds exactly one line, `swell: given: expected ...; what to do`. Lines that work before the fault may print
   (a warning, `learning N samples`, a progress line) do not count; the result says how many cases print one;
3. that line holds what was given: each case says which words;
4. everything in the folder, hidden files included, is byte for byte what it was before: no result, no half of one,
   nothing temporary, and earlier results as they were.

Nine in ten run in a forked process that has torch loaded, the others as `python -m swell ...`. Full and read-only disks
are small tmpfs mounts in a mount namespace of this process, which needs root on Linux; without it those cases are left
out and counted as such.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import hashlib
import importlib
import io
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from malformed_cases import every_case
from malformed_inputs import LABELS, Case, images, pretrain
from malformed_vectors import ready_vectors

TIMEOUT = 60.0  # seconds a case may take
NOTICE = re.compile(r"warning: |learning [\d,]+ samples|[ \d]+ %  ")
HEAVY = ("swell.verbs", "swell.evaluation.evaluate", "swell.generators.generate", "swell.report.run_page", "swell.demo")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18


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
    write_gen("gen", images(30, (1, 8, 8)), Provenance("generated", "gen", "diffusion"))
    write_json("gen/ledger.json", Ledger().to_dict())
    own = pretrain("data.npz", "--out", "run"), ("evaluate", "run", "data.npz", "--no-baselines")
    for argv in (*own, *ready_vectors()):
        with contextlib.redirect_stdout(io.StringIO()):
            status = main(list(argv))
        if status:
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
            command = [sys.executable, "-m", "swell", *case.argv]
            pipes = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            try:
                return subprocess.run(
                    command, cwd=at, env=environment, timeout=TIMEOUT, check=False, **pipes
                ).returncode
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
    seconds = time.perf_counter() - begun
    return Outcome(case.name, tuple(faults), rest[-1] if rest else "", len(notices), seconds, case.command)


def _judge_named(name: str, templates: Path) -> Outcome:
    return judge(next(case for case in every_case() if case.name == name), templates)  # cases do not pickle, names do


def may_mount() -> bool:
    """Move this process, and those it forks, into a mount namespace of its own; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS):
        return False
    return libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0


def run_all(cases: list[Case], workers: int, show: Callable[[Outcome], None]) -> list[Outcome]:
    """The outcomes of `cases`, in their order; calls `show` with each as it comes."""
    os.environ["OMP_NUM_THREADS"] = "1"  # GNU's OpenMP does not survive a fork with more
    for name in HEAVY:
        importlib.import_module(name)
    fork = multiprocessing.get_context("fork")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="swell-malformed-") as root:
        os.environ["SWELL_CACHE"] = str(Path(root) / "cache")
        templates = Path(root) / "ready"
        templates.mkdir()
        maker = fork.Process(target=prepare, args=(templates,))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise RuntimeError("the ready RUN and GEN could not be made")
        with fork.Pool(workers) as pool:
            for outcome in pool.imap(partial(_judge_named, templates=templates), [case.name for case in cases]):
                outcomes.append(outcome)
                show(outcome)
    return outcomes


def device() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        named = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {named[0] if named else 'an unnamed processor'}"


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + ("+changes" if changed.stdout.strip() else "")


def summary(outcomes: list[Outcome], left_out: int, seconds: float) -> dict[str, Any]:
    passed = sum(not outcome.faults for outcome in outcomes)
    claim = (
        f"{passed} of {len(outcomes)} malformed inputs end with exit 2 and one line that names what was given, and leave "
        f"every file as it was; {left_out} left out, n={len(outcomes)}, {seconds:.0f} s, {device()}, commit {commit()}"
    )
    return {
        "claim": claim,
        "cases": len(outcomes),
        "passed": passed,
        "left_out": left_out,
        "as_commands": sum(outcome.command for outcome in outcomes),
        "with_notices": sum(outcome.notices > 0 for outcome in outcomes),
        "slowest_seconds": max((outcome.seconds for outcome in outcomes), default=0.0),
        "seconds": seconds,
        "date": str(datetime.date.today()),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out = Path(__file__).parent / "results" / f"{datetime.date.today()}-malformed"
    parser.add_argument("--out", type=Path, default=out, help="folder of result.json")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="the names of some cases")
    parser.add_argument("--workers", type=int, default=2, help="cases at a time (default 2)")
    args = parser.parse_args()
    chosen = [case for case in every_case() if not args.only or case.name in args.only]
    mounts = may_mount()
    cases = [case for case in chosen if mounts or not case.mounts]

    def show(outcome: Outcome) -> None:
        for fault in outcome.faults:
            print(f"{outcome.name:45s} {fault}", flush=True)

    begun = time.perf_counter()
    outcomes = run_all(cases, args.workers, show)
    result = summary(outcomes, len(chosen) - len(cases), time.perf_counter() - begun)

    from swell.files import write_json

    write_json(args.out / "result.json", result)
    print(result["claim"])
    return int(result["passed"] < result["cases"])


if __name__ == "__main__":
    raise SystemExit(main())
