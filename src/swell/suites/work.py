"""A suite carried out: generators first, then every run in a process of its own, then the comparison.

Killed at any moment, the same command goes on: generated samples from OUT/generated/*.unfinished, a run from its
checkpoint, and what is finished stays. Labels are opened to see that they fit, and read again only by the probe of a
run that has ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from swell.console import Progress, warn
from swell.data.gen import open_gen
from swell.data.open import open_data
from swell.data.source import Source
from swell.devices import pick_device
from swell.errors import InputError, suggest
from swell.evaluation.arms import SCORES
from swell.evaluation.compare import BY, compare_runs
from swell.evaluation.curves import probe_snapshots
from swell.evaluation.evaluate import same_classes, split, test_part
from swell.evaluation.probe import PROBE
from swell.files import read_json, write_json
from swell.generators.outside import refuse_label_leak
from swell.ledger import read_ledger
from swell.run import Run, labels_fingerprint
from swell.suites.plan import BUDGETS, FORMAT, SUITE_FILE, Job, Plan, make_plan, rows_of
from swell.suites.processes import in_processes
from swell.suites.registry import SuiteFunction
from swell.threads import all_cores
from swell.training.folder import claimed, read_metrics
from swell.training.loggers import named_loggers
from swell.training.loop import Operation, pretrain
from swell.training.snapshots import check_shares
from swell.training.watchdog import Diverged

SNAPSHOTS = (0.1, 0.25, 0.5, 0.75)  # shares of the budget at which the curves have points
MOST_SAMPLES = 10**12
KEPT = ("flops", "views", "samples", "steps")  # what arms are ranked at where nobody set a budget: the same every time


@dataclass(frozen=True)
class Judged:
    """What runs are trained on and judged by; sources travel to the processes as they are, names are opened there."""

    data: Any
    labelled: Any
    test: Any
    labels: bool | str
    opening: Mapping[str, Any]  # size, layer, batch_key, prepare

    def source(self) -> Source:
        return open_data(self.data, quiet=True, **self.opening)

    def splits(self, opened: Any) -> tuple[Source, Source]:
        """Train and test samples with labels, by `opened`: a run's `open`, or `open_data`."""
        test = self.test
        if test is None and test_part(self.labelled) is not self.labelled:
            test = test_part(self.labelled)
        train = opened(self.labelled, labels=self.labels, quiet=True)
        if test is None:
            return split(train)
        found = train, opened(test, labels=self.labels, quiet=True)
        same_classes(*found)
        return found


def run_suite(
    place: str | Path | SuiteFunction,
    data: Any,
    out: Path,
    *,
    labelled: Any = None,
    test: Any = None,
    labels: bool | str = True,
    seeds: int | None = None,
    steps: int | None = None,
    samples: int | None = None,
    patches: int | None = None,
    flops: float | None = None,
    minutes: float | None = None,
    options: Mapping[str, Any] | None = None,
    snapshots: Sequence[float] | None = None,
    by: str = "linear",
    workers: int | None = None,
    device: str = "auto",
    log_to: str | Sequence[str] | None = None,
    allow_label_leak: bool = False,
    **opening: Any,
) -> dict[str, Any]:
    """Train, probe and compare all runs of the suite `place` in the folder `out`; returns what compare.json holds.

    Args:
        data: what to pre-train on. labelled: what to probe with, its labels under `labels`; `data` itself unless given.
        test: labelled test samples; of built-in sets their own, else a fixed 30 % of `labelled`.
        steps, samples, patches, flops, minutes: one of them, the budget of every arm in place of its own.
        snapshots: shares of the budget at which encoders are kept and probed afterwards, for the curves; `SNAPSHOTS`
            unless given, of an earlier suite what it had.
        workers: runs at a time, each in a process of its own; 0: one after another in this one. By default as many as
            there are cores, 8 at most, and one where the budget is in minutes or on a GPU.
        log_to: "tensorboard", "wandb", "mlflow" or several, of every run.
        opening: size, max_bad, layer, batch_key and prepare of `swell.open`.

    Raises:
        InputError: for data, suites and folders that do not fit, before anything is trained.
        KeyboardInterrupt: after Ctrl-C, with every run at a checkpoint.
    """
    judged = Judged(data, data if labelled is None else labelled, test, labels, {k: v for k, v in opening.items() if v})
    given = {"steps": steps, "samples": samples, "patches": patches, "flops": flops, "minutes": minutes}
    budget = {name: value for name, value in given.items() if value is not None}
    loggers = named_loggers(log_to)
    if by not in SCORES or by not in BY:
        known = [name for name in BY if name in SCORES]
        raise InputError(f"--by {by} of a suite", f"one of {', '.join(known)}", suggest(by, known))
    if len(budget) > 1:
        raise InputError(f"budgets {' and '.join(budget)}", "one of them", "keep one")
    if samples is not None and not 0 < samples <= MOST_SAMPLES:
        raise InputError(f"--samples {samples}", f"a number above 0, {MOST_SAMPLES:,} at most")
    earlier = _earlier(place)
    shares = check_shares(earlier.get("snapshots", SNAPSHOTS) if snapshots is None else snapshots)
    target = pick_device(device)
    if workers is not None and not 0 <= workers <= 1024:
        raise InputError(f"--workers {workers}", "a whole number from 0 to 1024")
    source = judged.source()
    refuse_label_leak(source.provenance, allow_label_leak)
    source = source.unlabelled()
    plan = make_plan(place, source, seeds, options or {}, budget, target)
    train, tested = judged.splits(partial(open_data, **judged.opening))  # now, to see that there are labels
    clock = any(job.recipe.minutes is not None for job in plan.jobs)
    together = _together(workers, plan, clock or target.type != "cpu")
    settings: dict[str, Any] = {
        "format": FORMAT,
        **plan.settings(),
        "data": {"fingerprint": source.fingerprint},
        "judged_by": labels_fingerprint(train, tested),
        "snapshots": list(shares),
        "device": target.type,
    }
    threads = int(earlier.get("threads", max(1, len(all_cores()) // max(together, 1))))  # numbers depend on them
    settings = json.loads(json.dumps(settings))  # as it is read back
    _check_out(out, settings)  # before a lock is left in a folder of something else
    with claimed(out), Progress("suite", total=1.0) as bar:
        threads = _claim(out, settings, max(job.seed for job in plan.jobs) + 1, threads)
        bar.part(0.0, 0.1 if plan.generated else 0.0)
        _generate(plan, source, out, device)
        bar.part(0.1 if plan.generated else 0.0, 1.0)
        work = Work(out, judged, shares, device, plan.jobs[0].folder, loggers)
        failed = _all(plan.jobs, work, together, threads)
    done = [job for job in plan.jobs if job.folder not in failed]
    if len(done) < 2:
        raise Diverged("; ".join(f"{folder}: {why}" for folder, why in failed.items()))
    chosen = [BUDGETS[name] for name in budget] or (["seconds"] if clock else KEPT)
    result = compare_runs(
        [out / job.folder for job in done], by=by, across_data=True, named=[job.arm for job in done], chosen_from=chosen
    )
    lost = [f"{folder} broke off: {why}" for folder, why in failed.items()]
    return {**result, "suite": plan.suite, "notices": [*result["notices"], *lost]}


def _together(workers: int | None, plan: Plan, alone: bool) -> int:
    if workers is not None:
        return min(workers, len(plan.jobs))
    return 1 if alone else min(len(plan.jobs), len(all_cores()), 8)


def _earlier(place: str | Path | SuiteFunction) -> dict[str, Any]:
    """What the suite.json of `place` says, where that is the folder of an earlier suite."""
    if not isinstance(place, str | Path) or not (Path(place) / SUITE_FILE).is_file():
        return {}
    told = read_json(Path(place) / SUITE_FILE)
    return told if isinstance(told, dict) else {}


def _check_out(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What OUT/suite.json says, None where OUT is new. Raises InputError where OUT is something else's."""
    path = out / SUITE_FILE
    if not path.is_file():
        if os.path.exists(out) and (not out.is_dir() or any(name.name != ".lock" for name in out.iterdir())):
            raise InputError(f"--out {out} (holds something else)", "a new or empty folder", "choose another --out")
        return None
    told = read_json(path)
    if not isinstance(told, dict):
        told = {}
    changed = [key for key in settings if told.get(key) != settings[key]]
    if changed:
        raise InputError(
            f"--out {out} (a suite with other {', '.join(changed)})",
            "the suite, data and options it began with",
            "undo the change, or choose another --out",
        )
    return told


def _claim(out: Path, settings: dict[str, Any], seeds: int, threads: int) -> int:
    """Write or check OUT/suite.json, which nobody else may hold; returns the threads of a run, `threads` or those of
    the first start.
    """
    told = _check_out(out, settings)
    if told is None:
        told = {**settings, "seeds": 0, "threads": threads}
    if seeds > told["seeds"]:
        write_json(out / SUITE_FILE, {**told, "seeds": seeds})
    return int(told["threads"])


def _generate(plan: Plan, source: Source, out: Path, device: str) -> None:
    from swell.verbs import generate

    for place, (made, rows) in plan.generated.items():
        if not (out / place / "manifest.json").is_file():
            generate(
                rows_of(source, rows),
                out / place,
                generator=made.generator,
                count=made.count,
                seed=made.seed,
                steps=made.steps,
                options=dict(made.options),
                device=device,
            )


@dataclass(frozen=True)
class Work:
    """What all runs of a suite share, as it travels to their processes."""

    out: Path
    judged: Judged
    snapshots: tuple[float, ...]
    device: str
    first: str  # folder of the run that is judged beside the baselines, which are the same for all
    log_to: tuple[str, ...] = ()

    def __call__(self, job: Job) -> str:
        """Train, evaluate and probe one run, as far as that is not done; why it diverged, if it did.

        Raises:
            InputError: what went wrong, with the name of the arm.
        """
        try:
            self._carry_out(job)
        except InputError as error:
            raise InputError(f"{job.arm}, seed {job.seed}: {error.given}", error.expected, error.todo) from error
        except Diverged as error:
            return str(error)
        return ""

    def _carry_out(self, job: Job) -> None:
        folder = self.out / job.folder
        real = rows_of(self.judged.source(), job.rows).unlabelled()
        made = self.out / job.inflate if job.inflate else None
        operation = Operation(
            resume=True,
            device=self.device,
            quiet=True,
            snapshots=self.snapshots,
            log_to=self.log_to,
            log_group=self.out,
        )
        generated = None if made is None else open_gen(made).unlabelled()
        ledger = None if made is None else read_ledger(made / "ledger.json")
        if not (folder / "encoder.safetensors").is_file():
            pretrain(job.recipe, real, folder, generated, operation, ledger)
        run = Run(folder, self.device)
        train, test = self.judged.splits(run.open)
        if not _evaluated(folder, train, test):
            run.evaluate(train, test=test, baselines=job.folder == self.first)
        probe_snapshots(run, train, test)


def _evaluated(folder: Path, train: Source, test: Source) -> bool:
    if not (folder / "evaluation.json").is_file():
        return False
    told = read_json(folder / "evaluation.json")
    judged_on = {"train": train.fingerprint, "test": test.fingerprint, "labels": labels_fingerprint(train, test)}
    return bool(told["probe"] == PROBE and judged_on.items() <= told["data"].items())


def _all(jobs: Sequence[Job], work: Work, together: int, threads: int) -> dict[str, str]:
    """Carry out all jobs, `together` at a time; returns by folder why those that broke off did."""
    failed: dict[str, str] = {}
    under_way = {job.folder: job for job in jobs}
    with Progress("pre-train and probe", len(jobs), "runs", rate_unit="") as bar:
        ended: Iterator[tuple[Job, str] | None] = (
            in_processes(work, jobs, together, threads) if together else _in_turn(work, jobs, threads)
        )
        for pair in ended:
            if pair is not None:
                job, wrong = pair
                del under_way[job.folder]
                if wrong:
                    warn(f"{job.arm}, seed {job.seed}, broke off: {wrong}")
                    failed[job.folder] = wrong
            done = len(jobs) - len(under_way)
            share = sum(_share(work.out / folder, one) for folder, one in under_way.items())
            bar.update(done + share, note=f"{done} of {len(jobs)} done")
    return failed


def _in_turn(work: Work, jobs: Sequence[Job], threads: int) -> Iterator[tuple[Job, str]]:
    """In this process, with as many threads as in one of their own: numbers depend on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for job in jobs:
            yield job, work(job)
    finally:
        torch.set_num_threads(before)


def _share(folder: Path, job: Job) -> float:
    """How far a run is, 0 to 1, as far as its log tells."""
    lines = read_metrics(folder)
    if not lines:
        return 0.0
    last, total = lines[-1], job.recipe.steps
    if job.recipe.minutes is not None:
        return float(min(last["seconds"] / (60 * job.recipe.minutes), 1.0))
    return min((last["step"] + 1) / total, 1.0) if total else 0.0
