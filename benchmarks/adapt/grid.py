"""Every configuration of a grid trained and probed: what a chooser without labels could have chosen from.

    python benchmarks/adapt/grid.py [--seeds 3] [--sets digits,paul15] [--only none,adainf] [--held-out]

Weight x strength x amount of generated samples, plain inflation, and real samples alone at four strengths, on five sets.
A row is one encoder: all label-free scores on a held-out reference that neither it nor the generator saw, and, to judge
by, the probe with labels. Two rows at a time, a thread each; goes on where it stopped. `regret.py` reads the result.
--held-out: half of the grid on five further sets, on which nothing of the chooser was settled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _sets import HELD_OUT, SETS, scratch, settings, task  # noqa: E402

import swell  # noqa: E402
from _arms import Job, Rows  # noqa: E402
from swell.adaptive.amount import Amount  # noqa: E402
from swell.adaptive.candidates import Candidate  # noqa: E402
from swell.adaptive.inflation import copies_veto, first_of, priors_of  # noqa: E402
from swell.data.gen import is_gen, open_gen  # noqa: E402
from swell.evaluation.reference import clean_features  # noqa: E402
from swell.evaluation.scores import learnability, scores  # noqa: E402
from swell.files import atomic_path  # noqa: E402
from swell.views.plan import VIEWS, ViewPlan  # noqa: E402

STRONG, WEAK = 1.0, 0.5
WEIGHTS, STRENGTHS, AMOUNTS = (3.0, 10.0, 30.0), (STRONG, WEAK, 0.25), (2, 8)  # amounts for each real sample
REAL_STRENGTHS = (STRONG, 0.75, WEAK, 0.25)
GENERATOR_SECONDS = 60


def name_of(weight: float, strength: float, amount: int) -> str:
    """How a configuration is called here; those that have a name in the field keep it."""
    if not amount:
        return {STRONG: "none", WEAK: "weak_only"}.get(strength, f"real-s{strength:g}")
    known = {(1.0, STRONG): "vanilla", (1.0, WEAK): "vanilla_weak", (10.0, STRONG): "weighted", (10.0, WEAK): "adainf"}
    most = amount == max(AMOUNTS)
    return (
        known.get((weight, strength), "")
        if most and (weight, strength) in known
        else f"w{weight:g}-s{strength:g}-x{amount}"
    )


GRID: dict[str, tuple[float, float, int]] = {
    name_of(*config): config
    for config in (
        *((1.0, s, 0) for s in REAL_STRENGTHS),
        *((1.0, s, max(AMOUNTS)) for s in (STRONG, WEAK)),
        *((w, s, a) for w in WEIGHTS for s in STRENGTHS for a in AMOUNTS),
    )
}


SMALL_GRID = tuple(
    name
    for name, (weight, strength, amount) in GRID.items()
    if amount in (0, max(AMOUNTS)) and (not amount or strength > min(STRENGTHS))
)


def main(seeds: int, sets: str, only: str, held_out: bool) -> None:
    known, grid = (HELD_OUT, SMALL_GRID) if held_out else (SETS, tuple(GRID))
    told = {name: list(GRID[name]) for name in grid}  # as JSON holds it
    name = "adapt-grid-held-out" if held_out else "adapt-grid"
    rows = Rows(name, {**settings(known), "grid": told, "generator_seconds": GENERATOR_SECONDS})
    chosen, configs = (given.split(",") if given else list(every) for given, every in ((sets, known), (only, grid)))
    pairs = [(data, seed) for seed in range(seeds) for data in chosen]
    rows.make([(f"{data}/generator/{seed}", generator, (data, seed)) for data, seed in pairs], together=2)
    jobs: list[Job] = [(f"{d}/{c}/{s}", made, (d, c, s)) for d, s in pairs for c in configs]
    rows.make(jobs, together=2)
    whole = [(d, s) for d, s in pairs if all(f"{d}/{c}/{s}" in rows.rows for c in grid)]
    rows.make([(f"{d}/learnability/{s}", learnable, (d, s, grid)) for d, s in whole], together=2)


def gen_folder(data: str, seed: int) -> Path:
    return scratch() / f"{data}-{seed}"


def generator(data: str, seed: int) -> dict[str, Any]:
    """Samples of a diffusion model that learnt the set without its reference; what the priors say of them."""
    begun, given = time.perf_counter(), task(data)
    out, count = gen_folder(data, seed), max(AMOUNTS) * len(given.rest)
    swell.generate(
        given.rest,
        out,
        count=count,
        seed=seed,
        minutes=GENERATOR_SECONDS / 60,
        quiet=True,
        report=False,
        force=is_gen(out),
    )
    views = given.recipe.views
    plan = views if isinstance(views, ViewPlan) else VIEWS[views]()
    amount = Amount(count, False, (), "all of them")
    priors, _ = priors_of(given.rest, given.reference, out, amount, plan, seed)
    return {
        "priors": {name: asdict(getattr(priors, name)) for name in ("divergence", "weight", "table", "overlap")},
        "copies": copies_veto(given.rest, given.reference, out),
        "real": len(given.rest),
        "wall_seconds": time.perf_counter() - begun,
    }


def made(data: str, config: str, seed: int) -> dict[str, Any]:
    """One encoder: trained, scored without labels, judged with them."""
    begun, given = time.perf_counter(), task(data)
    weight, strength, amount = GRID[config]
    one = Candidate(config, weight, strength, amount * len(given.rest))
    inflate = first_of(open_gen(gen_folder(data, seed)).unlabelled(), one.amount) if one.generated else None
    recipe = replace(given.recipe, weight=weight, strength=strength)
    with tempfile.TemporaryDirectory() as folder:
        run = swell.pretrain(
            given.rest, Path(folder) / "run", recipe=recipe, inflate=inflate, seed=seed, quiet=True, report=False
        )
        encoder, cost = run.encoder, run.ledger.pretraining
    trained = time.perf_counter()
    found = scores(encoder, given.reference)
    scored = time.perf_counter()
    keep(data, config, seed, clean_features(encoder, given.reference.samples))
    return {
        **{f"score_{name}": value for name, value in found.items()},
        **given.judged(encoder, seed),
        "seconds": cost.seconds,
        "score_seconds": scored - trained,
        "teraflops": cost.flops / 1e12,
        "wall_seconds": time.perf_counter() - begun,
    }


def kept(data: str, config: str, seed: int) -> Path:
    return scratch() / "features" / f"{data}-{config}-{seed}.npy"


def keep(data: str, config: str, seed: int, features: torch.Tensor) -> None:
    with atomic_path(kept(data, config, seed)) as temporary, temporary.open("wb") as file:
        np.save(file, features.numpy().astype(np.float32))


def learnable(data: str, seed: int, grid: tuple[str, ...]) -> dict[str, Any]:
    """What the encoders of one set and seed say of one another."""
    begun = time.perf_counter()
    features = {config: torch.from_numpy(np.load(kept(data, config, seed))) for config in grid}
    return {"learnability": learnability(features), "wall_seconds": time.perf_counter() - begun}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default="", help="sets, separated by commas")
    parser.add_argument("--only", default="", help="configurations, separated by commas")
    parser.add_argument("--held-out", action="store_true", help="half of the grid on further sets")
    main(**vars(parser.parse_args()))
