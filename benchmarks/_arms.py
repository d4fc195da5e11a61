"""What the comparisons of methods share: one arm trained and probed as a row, and rows that survive an interruption."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

import swell
from _common import ROOT, Load, cifar10, commit, write_result
from swell.data.source import Provenance, Source
from swell.evaluation.bag import bag_of_features
from swell.evaluation.evaluate import evaluate_encoder
from swell.evaluation.probe import probe
from swell.files import read_json
from swell.recipes import Recipe
from swell.threads import all_cores, free_cores, start_worker
from swell.training.watchdog import Diverged

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10_source(split: str) -> Source:
    images, labels = cifar10(split)
    return Source(np.asarray(images), Provenance("real", f"CIFAR-10 {split}"), labels, CLASSES)


Job = tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]  # key, function of a module, its arguments


class Rows:
    """Rows by key, written after each one; a second start with the same settings goes on where the first stopped."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.settings, self.rows, self.seconds = name, settings, {}, 0.0
        found = sorted((ROOT / "benchmarks" / "results").glob(f"20??-??-??-{name}/result.json"))
        if found and (earlier := read_json(found[-1])).get("settings") == settings:
            self.rows, self.seconds = earlier["rows"], earlier["seconds"]

    def make(self, jobs: Iterable[Job], more: Callable[[], dict[str, Any]] = dict, together: int = 1) -> None:
        """Make the rows that are not there, each in a process of its own, `together` at a time on one share of the cores.

        All rows are written after each, with what `more` says of them (a claim).
        """
        free_cores()  # a bound process would hand its one core on to the workers
        threads = max(1, len(all_cores()) // together)
        if together > 1:
            os.environ.update(OMP_NUM_THREADS=str(threads), OMP_PROC_BIND="false")
        context = multiprocessing.get_context("spawn")  # a process a row, so that its peak memory is its own
        with ProcessPoolExecutor(together, context, start_worker, (threads,), max_tasks_per_child=1) as pool:
            load = Load()
            running = {pool.submit(function, *given): key for key, function, given in jobs if key not in self.rows}
            for done in as_completed(running):
                try:
                    made = done.result()
                except Diverged as error:
                    made = {"diverged": str(error)}
                key = running[done]
                self.rows[key] = {**made, "load": load.read(), "commit": commit()}
                self.seconds += made.get("wall_seconds", 0.0)
                print(key, {k: round(v, 3) for k, v in made.items() if isinstance(v, (int, float))}, flush=True)
                write_result(
                    self.name, {"settings": self.settings, "rows": self.rows, "seconds": self.seconds, **more()}
                )

    def origin(self) -> dict[str, str]:
        """For `claim`: the threads and the commits of the rows, which need not be this process's."""
        threads = sorted({row["threads"] for row in self.rows.values() if "threads" in row})
        commits = dict.fromkeys(row["commit"] for row in self.rows.values() if "commit" in row)
        said = f"{' or '.join(map(str, threads))} thread{'' if threads == [1] else 's'} a run" if threads else ""
        return {"threads": said, "commits": " and ".join(commits)}

    def of(self, prefix: str) -> list[dict[str, Any]]:
        """The rows of an arm: those whose key is `prefix/...`."""
        return [row for key, row in self.rows.items() if key.rpartition("/")[0] == prefix]


def pretrained(
    recipe: Recipe,
    images: Source,
    train: Source,
    test: Source,
    seed: int,
    patches: int = 0,
    also: Callable[[swell.Run], dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Train an arm on `images` and probe it: scores in per cent and every cost column.

    With `patches`, the probe also sees bags of so many patches on a grid; `also` adds columns of its own.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = swell.pretrain(
            images.unlabelled(), Path(folder) / "run", recipe=recipe, seed=seed, quiet=True, report=False
        )
        recipe, ledger, metrics = run.recipe, run.ledger, run.metrics
        result = evaluate_encoder(run.encoder, train, test)
        bags = bag(run.encoder, train, test, patches) if patches else {}
        more = also(run) if also is not None else {}
    cost = ledger.pretraining
    return {
        "knn": 100 * result["knn"]["accuracy"],
        "linear": 100 * result["linear"]["accuracy"],
        "shot_10": 100 * result["few_shot"]["10"],
        "nmi": 100 * result["clusters"]["nmi"],
        "rankme": result["label_free"]["rankme"],
        **bags,
        **more,
        "steps": metrics[-1]["step"] + 1,
        "seconds": cost.seconds,
        "teraflops": cost.flops / 1e12,
        "samples": cost.samples_real,
        "views": cost.views,
        "forwards": cost.forwards,
        "teacher_forwards": cost.teacher_forwards,
        "megapixels": cost.pixels / 1e6,
        "peak_memory_bytes": ledger.peak_memory_bytes,
        "first_loss": metrics[0]["loss"],
        "last_loss": metrics[-1]["loss"],
        "z_std": metrics[-1]["z_std"],
        "recipe": {k: v for k, v in recipe.to_dict().items() if k != "views"},
        "threads": torch.get_num_threads(),
        "wall_seconds": time.perf_counter() - begun,
    }


def bag(encoder: Any, train: Source, test: Source, patches: int) -> dict[str, float]:
    """kNN and linear accuracy of bag-of-features on a grid, in per cent."""
    a, b = (bag_of_features(encoder, source.samples, patches, mode="grid") for source in (train, test))
    result = probe(a, train.labels, b, test.labels)
    return {"bag_knn": 100 * result["knn"]["accuracy"], "bag_linear": 100 * result["linear"]["accuracy"]}
