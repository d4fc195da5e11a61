"""One reader in a process of its own, fed by libFuzzer through atheris; see run.py.

    python benchmarks/fuzz/harness.py NAME --state DIR [--seconds S] [--executions N]

Every input that raises anything but InputError, takes more than SLOW seconds or GROWS bytes of memory, or touches what
no reader may, is kept in DIR/NAME/findings with what happened, and the work goes on. What ends the process (a crash,
HANG seconds) is kept by libFuzzer. Counts lie in a mapped file, so that no end of a process loses them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import mmap
import os
import random
import resource
import shutil
import sys
import time
import traceback
import zipfile
import zlib
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
sys.path[:0] = [str(SOURCE), str(HERE)]
ROOM = 4 << 30  # bytes of addresses beyond those of the start: an allocation that fails is one of a claim, not of data
GROWS = 1 << 30
SLOW, HANG = 5.0, 60
FIELDS = ("executions", "read", "refused", "slowest_us", "peak_kib", "covered")

with atheris.instrument_imports(include=["swell", "PIL"]):
    from swell.errors import InputError
from guard import Guard  # noqa: E402
from targets import TARGETS  # noqa: E402


class Counts:
    """The numbers FIELDS, int64, in a file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * len(FIELDS))
        self.values = memoryview(self._map).cast("q")

    def add(self, name: str, value: int = 1) -> None:
        self.values[FIELDS.index(name)] += value

    def raise_to(self, name: str, value: int) -> None:
        at = FIELDS.index(name)
        self.values[at] = max(self.values[at], value)


def chain(error: BaseException) -> list[BaseException]:
    """The error and those it came of."""
    found: list[BaseException] = []
    part: BaseException | None = error
    while part is not None and part not in found:
        found.append(part)
        part = part.__cause__ or part.__context__
    return found


def place_of(error: BaseException) -> str:
    """Where in the package it happened: equal places are one finding."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(SOURCE) in frame.filename] or frames
    return f"{type(error).__name__}-{Path(own[-1].filename).stem}-{own[-1].lineno}" if own else type(error).__name__


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Harness:
    def __init__(self, name: str, state: Path) -> None:
        self.target = TARGETS[name]
        self.findings = state / name / "findings"
        self.findings.mkdir(parents=True, exist_ok=True)
        self.counts = Counts(state / name / "counts")
        memory = Path("/dev/shm")
        self.box = (memory if memory.is_dir() else state) / f"swell-fuzz-{name}-{os.getpid()}"
        self.box.mkdir()
        own = state / "own"
        if own.is_dir():
            shutil.copytree(own, f"{self.box}-own")
        os.chdir(self.box)  # names without a folder are the harness's own, of what it removes
        self.guard = Guard(self.box, SOURCE)
        self.highest = 0

    def once(self, content: bytes) -> None:
        problem = self.judged(content)
        self.counts.add("executions")
        if problem is not None:
            self.keep(content, *problem)

    def judged(self, content: bytes) -> tuple[str, str] | None:
        """What is wrong, in short and at length; None of an input that was read or refused as it should be."""
        begun, problem, before = time.process_time(), None, peak()
        try:
            with self.guard:
                self.target.read(content, self.box)
            self.counts.add("read")
        except InputError as error:
            self.counts.add("refused")
            text = str(error)
            if "\n" in text or len(text) > 5000:
                problem = ("words-" + place_of(error), text[:2000])
            if any(isinstance(part, MemoryError) for part in chain(error)):
                problem = ("memory-" + place_of(error), traceback.format_exc())
        except (Exception, RecursionError) as error:  # whatever it is, it is what we look for
            problem = (place_of(error), traceback.format_exc())
        taken = time.process_time() - begun  # of the processor: others may be at work
        if self.guard.found:
            problem = ("escape-" + self.guard.found[0][:40].replace("/", "_"), "\n".join(self.guard.found))
        if peak() - max(before, self.highest) > GROWS >> 10:
            problem = problem or ("grows", f"{before} KiB before, {peak()} KiB after, {len(content)} bytes of input")
        if taken > SLOW:
            problem = problem or ("slow", f"{taken:.1f} s")
        self.highest = max(self.highest, peak())
        self.counts.raise_to("slowest_us", int(taken * 1e6))
        self.counts.raise_to("peak_kib", self.highest - self.base)
        return problem

    def keep(self, content: bytes, what: str, told: str) -> None:
        path = self.findings / "".join(c if c.isalnum() or c in "-_." else "_" for c in what)
        if not path.with_suffix(".txt").exists():
            path.with_suffix(".txt").write_text(told, encoding="utf-8", errors="backslashreplace")
            path.with_suffix(".bin").write_bytes(content)

    def start(self) -> None:
        """Whatever is imported or made on the way at first is not the reader's doing."""
        for path in sorted((self.findings.parents[1] / "seeds" / self.target.name).iterdir()):
            with contextlib.suppress(InputError):  # such as labels that are asked for and are not there
                self.target.read(path.read_bytes(), self.box)
        self.highest = self.base = peak()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def changed(self, content: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)

        def plain(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(len(part) + 64, 64)))

        change = self.target.change
        if change is None or not content or rng.random() < 0.1:
            return plain(content)[:longest]
        try:
            return change(content, rng, plain)[:longest]
        except (
            LookupError,
            TypeError,
            ValueError,
            OverflowError,
            RuntimeError,
            OSError,
            EOFError,
            zlib.error,
            zipfile.BadZipFile,
        ):  # of a file that is too far gone to be taken apart
            return plain(content)[:longest]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--executions", type=int, default=0)
    parser.add_argument("--input", type=Path, help="one input, read once, with everything it raises")
    given = parser.parse_args()
    given.state = given.state.resolve()
    with atheris.instrument_imports(include=["swell", "PIL"]):
        for module in TARGETS[given.name].modules:
            importlib.import_module(module)
    harness = Harness(given.name, given.state.resolve())
    harness.start()
    if given.input:
        problem = harness.judged(given.input.read_bytes())
        raise SystemExit(0 if problem is None else "\n".join(problem))
    corpus = given.state / given.name / "corpus"
    corpus.mkdir(exist_ok=True)
    seeds = given.state / "seeds" / given.name
    seed = int.from_bytes(hashlib.sha256(f"{given.name} {harness.counts.values[0]}".encode()).digest()[:4], "big")
    options = [
        f"-max_total_time={given.seconds}", f"-runs={given.executions or -1}", f"-timeout={HANG}", "-rss_limit_mb=0", "-malloc_limit_mb=0",
        f"-max_len={harness.target.longest}", f"-artifact_prefix={harness.findings}/", f"-seed={seed or 1}", "-len_control=0",
        "-print_final_stats=1", str(corpus), str(seeds),
    ]  # fmt: skip
    custom = harness.changed
    atheris.Setup([sys.argv[0], *options], harness.once, custom_mutator=custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
