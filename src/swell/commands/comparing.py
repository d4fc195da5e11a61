"""`swell compare` and `swell suites`: runs against each other at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swell.commands import Result
from swell.errors import InputError
from swell.options import argument, assignments, option


@dataclass(frozen=True)
class Compare:
    """Compare evaluated RUN folders at equal budget; or train, probe and compare all arms of a SUITE on DATA."""

    runs: Sequence[str] = argument(
        "RUN folders, those that differ in their seed only being one arm; or one SUITE: see `swell suites`, a Python "
        "file.py:function, or the folder of an earlier suite to make again",
        nargs="+",
    )
    out: str = option("folder for compare.json, table.md, table.csv and report.html; of a suite for its runs too")
    by: str = option("score to rank by: linear, knn, few_shot_1, few_shot_10, dense or finetune", "linear")
    budget: str | None = option(
        "of runs: what must be equal: seconds, flops, patches (views), samples, steps, forwards, teacher_forwards or "
        "pixels",
        None,
        "what is",
    )
    across_data: bool = option("of runs: accept some that were pre-trained on different data", False)
    force: bool = option("of runs: replace an earlier comparison in --out", False)
    data: str | None = option("SUITE: what to pre-train on", None, "required for a suite")
    labelled: str | None = option("SUITE: labelled data to probe with", None, "DATA")
    test: str | None = option("SUITE: labelled test data", None, "a fixed part of the labelled")
    labels: str | None = option("SUITE: key of the labels: an array of an .npz, a column of a table or of obs", None)
    seeds: int | None = option("SUITE: runs of every arm", None, "3")
    steps: int | None = option("SUITE: equal budget of all arms in steps", None, "the arms' own")
    samples: int | None = option("... in samples processed", None, "the arms' own")
    patches: int | None = option("... in views (patches) processed", None, "the arms' own")
    flops: float | None = option("... in FLOPs", None, "the arms' own")
    minutes: float | None = option("... in minutes, one run at a time", None, "the arms' own")
    options: str | None = option("SUITE: its options: recipe=digits,generator_steps=500", None)
    snapshots: str | None = option(
        "SUITE: shares of the budget at which the curves have points", None, "0.1,0.25,0.5,0.75"
    )
    workers: int | None = option("SUITE: runs at a time; 0: all in this process", None, "one a core, 8 at most")
    size: int | None = option("SUITE: side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("SUITE: largest share of unreadable files to accept", 0.01)
    layer: str | None = option("of an .h5ad: the layer that holds the counts, or raw", None, "X")
    batch_key: str | None = option("of an .h5ad: the column of obs that tells the batch", None)
    prepare: str | None = option("of vectors: counts, logged, table or none", None, "by their values")
    device: str = option("SUITE: auto, cpu or cuda", "auto")
    log_to: str | None = option("SUITE: log to tensorboard, wandb, mlflow too, every run of it", None)
    allow_label_leak: bool = option("SUITE: accept DATA that were made with labels", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.report.compare_text import summary
        from swell.suites.plan import is_suite
        from swell.verbs import compare

        first = self.runs[0]
        suite = len(self.runs) == 1 and (is_suite(first) or (self.data is not None and not Path(first).exists()))
        _refuse(self, _OF_RUNS if suite else _OF_SUITES, "RUN folders" if suite else "a suite")
        if not suite:
            named = {name: getattr(self, name) for name in ("by", "budget", "across_data", "force")}
            result = compare(self.runs, self.out, **named)
            return result, summary(result, Path(self.out))
        if self.data is None:
            given = f"the suite {first} without --data"
            raise InputError(given, "what to pre-train its arms on", "give --data photos/ or --data builtin:digits")
        result = compare(
            first,
            self.out,
            data=self.data,
            labelled=self.labelled,
            test=self.test,
            labels=self.labels or True,
            seeds=self.seeds,
            **{name: getattr(self, name) for name in ("steps", "samples", "patches", "flops", "minutes")},
            options=assignments("--options", self.options),
            snapshots=_shares(self.snapshots),
            by=self.by,
            workers=self.workers,
            size=self.size,
            max_bad=self.max_bad,
            layer=self.layer,
            batch_key=self.batch_key,
            prepare=self.prepare,
            device=self.device,
            log_to=self.log_to,
            allow_label_leak=self.allow_label_leak,
        )
        return result, summary(result, Path(self.out))


@dataclass(frozen=True)
class Suites:
    """The suites there are for swell compare."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.suites import SUITES

        rows = [entry.describe() for entry in SUITES]
        return rows, "\n".join(
            f"{r['name']:12s} {r['summary']}" + (f"  ({r['paper']})" if r["paper"] else "") for r in rows
        )


_OF_RUNS = ("budget", "across_data", "force")
_OF_SUITES = (
    "data", "labelled", "test", "labels", "seeds", "steps", "samples", "patches", "flops", "minutes", "options",
    "snapshots", "workers", "size", "max_bad", "layer", "batch_key", "prepare", "device", "log_to", "allow_label_leak",
)  # fmt: skip


def _refuse(command: Compare, names: Sequence[str], whose: str) -> None:
    """Raises InputError where one of the options `names` was given, which are for something else."""
    for name in names:
        if getattr(command, name) != getattr(Compare, name, None):
            flag, given = f"--{name.replace('_', '-')}", " ".join(command.runs)
            todo = (
                "see `swell suites`" if whose == "a suite" else "a suite's budget is --steps, --samples, --patches, ..."
            )
            raise InputError(f"{flag} with {given}", f"{whose} for it", todo)


def _shares(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(f"--snapshots {text}", "shares separated by commas", "0.1,0.25,0.5,0.75 is usual") from None
