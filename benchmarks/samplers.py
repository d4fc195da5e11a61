"""How many network evaluations does a sample need? Every sampler at every count, on one generator of ours.

    python benchmarks/samplers.py [--seconds 60] [--count 10000]

One diffusion model of the digits, then the same starting noise for every cell of the table. Frechet distance (ours, in
the reference encoder) of the samples to all real digits, as a ratio to Heun's with 35 evaluations.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from _common import claim, write_result
from swell.data.open import open_data
from swell.generators.diffusion import Diffusion
from swell.generators.metrics import frechet_distance
from swell.generators.quality import judge
from swell.generators.reference import Reference
from swell.generators.registry import split_held_out
from swell.generators.samplers import SAMPLERS
from swell.threads import bind_threads

EVALUATIONS = {
    "ipndm": (5, 8, 10, 15, 20, 35),
    "dpmpp": (5, 8, 10, 15, 20, 35),
    "heun": (5, 9, 11, 15, 21, 35, 79),
    "ancestral": (10, 35, 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=10_000)
    args = parser.parse_args()
    began = time.perf_counter()
    samples = open_data("builtin:digits", quiet=True).samples
    train, held_out = (samples[index] for index in split_held_out(len(samples), 0))
    reference = Reference.fit(train, 0)
    real = reference.features(samples)
    model = Diffusion().fit(train, held_out=held_out, seed=0, seconds=args.seconds, quiet=True)
    rows: list[dict[str, Any]] = []
    for sampler, counts in EVALUATIONS.items():
        for evaluations in counts:
            model.options["evaluations"], model._integrate = evaluations, SAMPLERS[sampler]
            start = time.perf_counter()
            generated = model.sample(args.count, seed=0)
            seconds = time.perf_counter() - start
            found = frechet_distance(real, reference.features(generated))
            quality = judge(generated, train, held_out, reference=reference)
            row = {"sampler": sampler, "evaluations": evaluations, "frechet": found, "seconds": seconds}
            rows.append({**row, "c2st": quality["c2st"], "coverage_ratio": quality["coverage_ratio"]})
    base = next(r["frechet"] for r in rows if (r["sampler"], r["evaluations"]) == ("heun", 35))
    floor = frechet_distance(*real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))].chunk(2))
    for row in rows:
        row["to_heun_35"] = row["frechet"] / base
        print(
            f"{row['sampler']:10s}{row['evaluations']:4d}  Frechet {row['frechet']:8.3f}  x Heun 35: "
            f"{row['to_heun_35']:6.3f}  C2ST {row['c2st']:.3f}  coverage {row['coverage_ratio']:.2f}  {row['seconds']:6.1f} s"
        )
    ten = {r["sampler"]: r["to_heun_35"] for r in rows if r["evaluations"] == 10}
    best = min(ten, key=lambda name: ten[name])
    spent = time.perf_counter() - began
    shown = ", ".join(f"{name} {value:.3f}" for name, value in ten.items())
    detail = (
        f"Frechet distance at 10 evaluations over Heun's at 35 ({shown}), {args.count:,} digits a cell, {best} best"
    )
    line = claim("samplers", ten[best], None, 1, spent, detail=detail)
    print(write_result("samplers", {"claim": line, "rows": rows, "real_halves": floor, "seconds": spent}))
    print(line)


if __name__ == "__main__":
    bind_threads()
    main()
