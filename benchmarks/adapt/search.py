"""`swell adapt` as a user calls it, on the five sets of the grid: what it chose, what it cost, how it did beside `none`.

    python benchmarks/adapt/search.py [--seeds 1] [--sets digits,paul15] [--epochs 100]

Three encoders of as many steps on all samples of a set, 100 epochs as by default: what `swell adapt` returns with its
default budget (its generator gets a minute), plain training on real samples, and AdaInf's fixed recipe on the samples
that were generated. Labels judge all three afterwards. A row at a time, with all threads, as a user has them; goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from swell.threads import bind_threads

bind_threads()

from _panels import claim  # noqa: E402
from _sets import SETS, settings, task  # noqa: E402

import swell  # noqa: E402
from _arms import Job, Rows  # noqa: E402
from swell.adaptive.state import FILE, read_state  # noqa: E402
from swell.ledger import Ledger  # noqa: E402

GENERATOR_SECONDS = 60
ADAINF = {"weight": 10.0, "strength": 0.5}


def main(seeds: int, sets: str, epochs: float) -> None:
    told = {**settings(), "epochs": epochs, "generator_seconds": GENERATOR_SECONDS}
    rows = Rows("adapt-search", told)
    chosen = sets.split(",") if sets else list(SETS)
    jobs: list[Job] = [(f"{data}/{s}", searched, (data, s, epochs)) for s in range(seeds) for data in chosen]
    rows.make(jobs, lambda: {"claim": claimed(rows)})


def searched(data: str, seed: int, epochs: float) -> dict[str, Any]:
    begun, given = time.perf_counter(), task(data)
    recipe = given.recipe.with_budget(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "adapted"
        run = swell.adapt(
            given.real,
            out,
            recipe=recipe,
            seed=seed,
            generator_minutes=GENERATOR_SECONDS / 60,
            quiet=True,
            report=False,
        )
        found, _ = read_state(out / "adapt" / FILE)
        rows = {"adapted": {**given.judged(run.encoder, seed), **cost_of(run.ledger)}}
        made = out / "generated"
        for name, changes in {"none": {"weight": 1.0, "strength": 1.0}, "adainf": ADAINF}.items():
            one = swell.pretrain(
                given.real,
                Path(folder) / name,
                recipe=replace(recipe, **changes),
                inflate=made if name == "adainf" else None,
                seed=seed,
                quiet=True,
                report=False,
            )
            rows[name] = {**given.judged(one.encoder, seed), **cost_of(one.ledger)}
        shutil.rmtree(out)
    search, plain = rows["adapted"]["search_flops"], rows["none"]["flops"]
    return {
        "chosen": found["choice"]["name"],
        "reasons": found["choice"]["reasons"],
        "agreement": found["choice"]["agreement"],
        "rungs": {key: found[key] for key in found if key.startswith("rung")},
        "scores": {key: [one["scores"] for one in by.values()] for key, by in found["results"].items()},
        "learnability": [found[key]["scores"] for key in sorted(found) if key.startswith("learnability")],
        "candidates": found["plan"]["candidates"],
        **{f"{name}_{key}": value for name, row in rows.items() for key, value in row.items()},
        "search_runs": search / plain,
        "search_run_seconds": rows["adapted"]["search_seconds"] / rows["none"]["seconds"],
        "wall_seconds": time.perf_counter() - begun,
    }


def cost_of(ledger: Ledger) -> dict[str, float]:
    return {
        "seconds": ledger.pretraining.seconds,
        "flops": ledger.pretraining.flops,
        "search_seconds": ledger.search.seconds,
        "search_flops": ledger.search.flops,
        "generator_seconds": ledger.generator_training.seconds + ledger.sampling.seconds,
    }


def claimed(rows: Rows) -> str:
    """Over sets, each the mean of its seeds."""
    sets = sorted({key.partition("/")[0] for key in rows.rows})
    found = {name: rows.of(name) for name in sets}

    def ahead(of: str) -> list[float]:
        return [statistics.fmean(r["adapted_linear"] - r[f"{of}_linear"] for r in by) for by in found.values()]

    over, over_adainf = ahead("none"), ahead("adainf")
    every = list(rows.rows.values())
    names = ", ".join(f"{name} {'/'.join(r['chosen'] for r in by)}" for name, by in found.items())
    detail = (
        f"points of linear accuracy over none, worst set {min(over):+.2f}; over fixed AdaInf "
        f"{statistics.fmean(over_adainf):+.2f}; the search cost {statistics.fmean(r['search_runs'] for r in every):.2f} runs in FLOPs, "
        f"{statistics.fmean(r['search_run_seconds'] for r in every):.2f} in seconds (goal 2); chosen: {names}; "
        f"{min(len(by) for by in found.values())} seeds at least"
    )
    sd = statistics.stdev(over) if len(over) > 1 else None
    return claim("swell adapt on its defaults", statistics.fmean(over), sd, len(over), rows.seconds, "", detail)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", default="", help="sets, separated by commas")
    parser.add_argument("--epochs", type=float, default=100, help="of the final run")
    main(**vars(parser.parse_args()))
