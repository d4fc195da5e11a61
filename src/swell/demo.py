"""`swell demo`: the main job on real images that come with scikit-learn.

Trains a generator on 1,257 unlabelled digits, samples from it, pre-trains every arm of AdaInf's design for equal steps
and several seeds, probes all of them with the same frozen probe and says in words whether the generated data helped.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swell.console import Progress, duration, say
from swell.data.open import open_data
from swell.data.source import Source
from swell.errors import InputError
from swell.files import read_json, write_json
from swell.recipes import Recipe, load_recipe
from swell.threads import all_cores, start_worker, unbound

STEPS = 400  # of every arm
GENERATOR_STEPS = 1500
GENERATOR_SHARE = 0.15  # of the demo's time, for its progress bar
SAMPLES = 10_000
WEIGHT = 10.0  # AdaInf's: one real sample counts as ten generated ones
LEAST = {"seeds": 1, "steps": 2}


@dataclass(frozen=True)
class Arm:
    """One way to train: with or without generated samples, weighted or not, with strong or weak views."""

    name: str
    generated: bool
    weight: float
    strength: float


ARMS = (
    Arm("none", False, 1.0, 1.0),
    Arm("generated", True, 1.0, 1.0),
    Arm("generated + weight", True, WEIGHT, 1.0),
    Arm("weak", False, 1.0, 0.5),
    Arm("generated + weak", True, 1.0, 0.5),
    Arm("generated + weight + weak", True, WEIGHT, 0.5),
)


def demo(out: Path, seeds: int = 3, steps: int | None = None) -> tuple[dict[str, Any], str]:
    """Run the demo in the folder `out`; a second call goes on where the first was stopped.

    Returns the result (what `demo.json` holds) and the text for a person.

    Raises:
        InputError: for fewer than one seed or two steps, or a folder that holds something else.
    """
    from swell.report.demo_page import summary, write_demo_report
    from swell.run import Run

    steps = STEPS if steps is None else steps
    for name, value in (("seeds", seeds), ("steps", steps)):
        if value < LEAST[name]:
            raise InputError(f"--{name} {value}", f"at least {LEAST[name]}")
    settings = {"seeds": seeds, "steps": steps, "samples": SAMPLES, "generator_steps": GENERATOR_STEPS, "version": 1}
    finished = _claim(out, settings)
    if finished is not None:
        say(f"{out} holds this demo already; delete the folder to run it anew")
        return finished, summary(finished, out)
    started = time.perf_counter()
    train, test = (open_data(f"builtin:digits:{part}", labels=True) for part in ("train", "test"))
    jobs = [(arm, seed) for seed in range(seeds) for arm in ARMS]
    with Progress("demo", total=1.0) as bar:
        bar.part(0.0, GENERATOR_SHARE)
        made = _generate(out, train.unlabelled())
        bar.part(GENERATOR_SHARE, 1.0)
        evaluations = _pretrain_all(out, jobs, steps)
    result = _collect(out, settings, evaluations, train, test, time.perf_counter() - started)
    runs = {arm.name: Run(arm_folder(out, arm.name, 0)) for arm in ARMS}
    write_demo_report(out, result, runs, train, test, made)
    write_json(out / "demo.json", result)
    return result, summary(result, out)


def _claim(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The earlier result in `out`, if it is of this very demo; None where there is still work to do."""
    if (out / "demo.json").exists():
        earlier: dict[str, Any] = read_json(out / "demo.json")
        if earlier.get("settings") == settings:
            return earlier
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} (a file)", "a folder to create", "choose another --out")
    begun = out / "settings.json"
    if begun.exists() and read_json(begun) != settings:
        raise InputError(f"--out {out} (a demo with other settings)", "a new or empty folder", "choose another --out")
    if not begun.exists():
        if out.exists() and any(out.iterdir()):
            raise InputError(f"--out {out} (not empty)", "a new or empty folder", "choose another --out")
        write_json(begun, settings)
    return None


def _generate(out: Path, train: Source) -> Path:
    from swell.generators.generate import generate

    folder = out / "generated"
    if not (folder / "manifest.json").exists():
        generate(train, folder, count=SAMPLES, steps=GENERATOR_STEPS, seed=0)
    return folder


def arm_recipe(arm: Arm, seed: int, steps: int) -> Recipe:
    return replace(load_recipe("digits"), steps=steps, weight=arm.weight, strength=arm.strength, seed=seed)


def arm_folder(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / f"{arm.replace(' + ', '-')}-seed{seed}"


def run_arm(out: Path, arm: Arm, seed: int, steps: int) -> dict[str, Any]:
    """Train and probe one arm with one seed; in a process of its own."""
    from swell.evaluation.evaluate import evaluate_baselines, evaluate_encoder
    from swell.run import Run
    from swell.verbs import pretrain

    folder = arm_folder(out, arm.name, seed)
    pretrain(
        "builtin:digits:train",
        folder,
        inflate=out / "generated" if arm.generated else None,
        recipe=arm_recipe(arm, seed, steps),
        resume=True,
        quiet=True,
    )
    run = Run(folder)
    train, test = (open_data(f"builtin:digits:{part}", labels=True) for part in ("train", "test"))
    result = evaluate_encoder(run.encoder, train, test)
    if arm.name == ARMS[0].name:
        result["baselines"] = evaluate_baselines(run.encoder, train, test)
    ledger = run.ledger
    ledger.evaluation.seconds = result["cost"]["seconds"]
    result["ledger"] = ledger.to_dict()
    write_json(folder / "evaluation.json", result)
    return {"arm": arm.name, "seed": seed, **result}


def _pretrain_all(out: Path, jobs: list[tuple[Arm, int]], steps: int) -> list[dict[str, Any]]:
    """All arms and seeds, as many at once as there are cores (these nets are too small for more than one thread)."""
    workers = min(len(jobs), len(all_cores()), 8)
    progress = Progress("pre-train and probe", len(jobs) * steps, "steps")
    with (
        progress as bar,
        unbound(),
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker, (1,)) as pool,
    ):
        waiting: dict[Future[dict[str, Any]], tuple[Arm, int]] = {
            pool.submit(run_arm, out, arm, seed, steps): (arm, seed) for arm, seed in jobs
        }
        pending, results = set(waiting), {}
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                results[waiting[future]] = future.result()
            under_way = sum(_steps_logged(arm_folder(out, *_name(waiting[f]))) for f in pending)
            bar.update(
                min(len(results) * steps + under_way, len(jobs) * steps),
                note=f"{len(results)} of {len(jobs)} runs done",
            )
    return [results[job] for job in jobs]


def _name(job: tuple[Arm, int]) -> tuple[str, int]:
    return job[0].name, job[1]


def _steps_logged(folder: Path) -> int:
    from swell.training.folder import read_metrics

    lines = read_metrics(folder)
    return int(lines[-1]["step"]) + 1 if lines else 0


def _collect(
    out: Path, settings: dict[str, Any], evaluations: list[dict[str, Any]], train: Source, test: Source, seconds: float
) -> dict[str, Any]:
    return {
        "settings": settings,
        "data": {"train": len(train), "test": len(test), "origin": "builtin:digits"},
        "arms": [
            {
                "name": arm.name,
                "weight": arm.weight if arm.generated else None,
                "strength": arm.strength,
                "runs": [e for e in evaluations if e["arm"] == arm.name],
            }
            for arm in ARMS
        ],
        "quality": read_json(out / "generated" / "quality.json"),
        "seconds": seconds,
        "took": duration(seconds),
    }
