"""Every reader of files that strangers may have made, fuzzed with coverage: a result or one line, whatever the bytes.

    pip install atheris
    python benchmarks/fuzz/run.py [--executions 1000000] [--minutes M] [--only NAME ...] [--state DIR]

Each reader (targets.py) is a process of its own (harness.py) that is started again and again for `--turn` seconds until
it has had its part of all executions, or the minutes are over. Counts, inputs that reached something new and findings
stay in DIR, and a later call goes on from there. A finding is anything but a result or InputError: another exception, a
crash, more than 5 s of the processor or 1 GiB of memory for an input of less than 1 MB, an allocation that fails, a file
touched outside of the reader's folder, a connection, a process, code that is run. At the end all findings are read once
more: those that still are some are open. The exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from targets import TARGETS  # noqa: E402

from _common import claim, write_result  # noqa: E402

FIELDS = ("executions", "read", "refused", "slowest_us", "peak_kib", "covered")


def counts(state: Path, name: str) -> dict[str, int]:
    path = state / name / "counts"
    values = np.fromfile(path, np.int64) if path.exists() else np.zeros(len(FIELDS), np.int64)
    return dict(zip(FIELDS, values.tolist(), strict=True))


def spent(state: Path) -> float:
    """Seconds of all turns so far."""
    path = state / "seconds"
    return float(path.read_text()) if path.exists() else 0.0


def harness(name: str, state: Path, *more: str, limit: float) -> tuple[int, str]:
    """Exit status and what was said; 124 where it took too long."""
    command = [sys.executable, str(HERE / "harness.py"), name, "--state", str(state), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stderr


def turn(name: str, state: Path, seconds: int, executions: int) -> None:
    before = counts(state, name)["executions"]
    status, said = harness(
        name, state, "--seconds", str(seconds), "--executions", str(executions), limit=4 * seconds + 300
    )
    covered = [int(number) for number in re.findall(r"cov: (\d+)", said)]
    (state / name / "log").write_text(said, encoding="utf-8")
    if covered:
        values = np.fromfile(state / name / "counts", np.int64)
        values[FIELDS.index("covered")] = max(values[FIELDS.index("covered")], covered[-1])
        values.tofile(state / name / "counts")
    done = counts(state, name)["executions"] - before
    print(f"{name:12s} {done:9,} executions, cov {covered[-1] if covered else 0}, exit {status}", flush=True)
    if done == 0:
        raise SystemExit(f"{name} does not start: {said[-2000:]}")


def findings(state: Path, name: str) -> list[Path]:
    """Inputs that were findings when they were found."""
    folder = state / name / "findings"
    kept = [path for path in sorted(folder.iterdir()) if path.suffix != ".txt"] if folder.is_dir() else []
    return [path for path in kept if path.is_file()]


def still(name: str, state: Path, path: Path) -> bool:
    status, said = harness(name, state, "--input", str(path), limit=300)
    if status:
        print(f"open: {name} {path.name}: {said.strip().splitlines()[-1] if said.strip() else status}", flush=True)
    return status != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000, help="of all readers together (default 1,000,000)")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after that long, reached or not")
    parser.add_argument("--turn", type=int, default=60, help="seconds a process lasts (default 60)")
    parser.add_argument("--only", nargs="+", default=sorted(TARGETS), choices=sorted(TARGETS), metavar="NAME")
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "swell-fuzz")
    given = parser.parse_args()
    state: Path = given.state.resolve()
    begun = time.monotonic()
    if not (state / "seeds").is_dir():
        subprocess.run([sys.executable, str(HERE / "seeds.py"), str(state)], check=True)
    wanted = {name: int(given.executions * TARGETS[name].share) + 1 for name in given.only}
    behind = list(given.only)
    while behind and time.monotonic() - begun < 60 * given.minutes:
        behind.sort(key=lambda name: counts(state, name)["executions"] / wanted[name])
        left = wanted[behind[0]] - counts(state, behind[0])["executions"]
        if left <= 0:
            break
        start = time.monotonic()
        turn(behind[0], state, given.turn, left)
        (state / "seconds").write_text(str(spent(state) + time.monotonic() - start))
    seconds = spent(state)
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted(TARGETS):
        seen = findings(state, name)
        open_ = [path.name for path in seen if still(name, state, path)]
        rows[name] = {**counts(state, name), "findings": len(seen), "open": open_,
                      "inputs_kept": len(list((state / name / "corpus").glob("*")))}  # fmt: skip
    total = sum(row["executions"] for row in rows.values())
    found, left_open = sum(row["findings"] for row in rows.values()), sum(len(row["open"]) for row in rows.values())
    peak = max(row["peak_kib"] for row in rows.values()) / 1024
    detail = (
        f"{len(rows)} readers, {left_open} findings open of {found} kept, slowest input {max(row['slowest_us'] for row in rows.values()) / 1e6:.1f} s, "
        f"{peak:.0f} MiB at most above the start"
    )
    line = claim("coverage-guided fuzzing", total / 1e6, None, len(rows), seconds, "million executions", detail)
    path = write_result(
        "fuzz", {"claim": line, "executions": total, "open": left_open, "seconds": seconds, "readers": rows}
    )
    print(line, path, sep="\n")
    return int(left_open > 0)


if __name__ == "__main__":
    raise SystemExit(main())
