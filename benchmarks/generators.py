"""Which generator makes the best samples in equal seconds of training? One table, the simple baselines in it.

    python benchmarks/generators.py [--data builtin:digits] [--seconds 60] [--seeds 3] [--count 10000] [--name NAME]
                                    [--only diffusion,diffusion:pca_mlp,kde,...]

Every generator learns from the same training samples and is judged against the same held-out ones, in the same
reference encoder; seeds change everything but the data. `real` is the test set in place of generated samples: what the
metrics say of honest real data. Labels are never read.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import ROOT, cifar10, claim, write_result
from swell.console import say
from swell.data.open import open_data
from swell.generators import GENERATORS
from swell.generators.pictures import write_samples
from swell.generators.quality import judge
from swell.generators.reference import Reference
from swell.generators.registry import split_held_out
from swell.threads import bind_threads

SCORES = ("c2st", "frechet_ratio", "kernel_distance_ratio", "coverage_ratio", "density_ratio", "copy_excess")
TRAINED = ("diffusion", "gan", "vae")


def samples_of(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images; `cifar10-grey` is CIFAR-10's luminance, its middle 28 x 28."""
    if data != "cifar10-grey":
        return tuple(builtin_split(data, split) for split in ("train", "test"))  # type: ignore[return-value]
    parts = []
    for split in ("train", "test"):
        images = cifar10(split)[0][:, :, 2:30, 2:30].astype(np.float32)
        grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), images, axes=(0, 1))  # [N, H, W]
        parts.append(grey.round().astype(np.uint8)[:, None])
    return parts[0], parts[1]


def builtin_split(data: str, split: str) -> np.ndarray:
    return open_data(f"{data}:{split}" if split == "test" else data, quiet=True).samples


def measure(
    name: str, samples: np.ndarray, reference: Reference, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    train, held_out = (samples[index] for index in split_held_out(len(samples), 0))
    kind, _, network = name.partition(":")
    model = GENERATORS[kind](**({"network": network} if network else {}))
    model.fit(train, held_out=held_out, seed=seed, seconds=args.seconds, quiet=True)
    generated = model.sample(args.count, seed)
    quality = judge(generated, train, held_out, reference=reference)
    if seed == 0:
        write_samples(
            Path(args.pictures) / f"{args.name}-{name.replace(':', '-')}.png", generated[:100], held_out[:100]
        )
    return {
        **{score: quality[score] for score in SCORES},
        "verdict": quality["verdict"],
        "c2st_random_network": quality["spaces"]["random_network"]["c2st"],
        "c2st_pca": quality["spaces"]["pca"]["c2st"],
        "train_seconds": model.cost.seconds,
        "train_tflop": model.cost.flops / 1e12,
        "seconds_per_1000": 1000 * model.sampling_cost.seconds / args.count,
        "steps": model.history[-1]["step"] if model.history else 0,
    }


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    head = f"{'generator':18s}" + "".join(f"{score.removesuffix('_ratio'):>17s}" for score in SCORES)
    lines = [f"{head}{'train s':>9s}{'s per 1,000':>13s}  verdict"]
    for name, runs in rows.items():
        cells = "".join(f"{mean(runs, score):10.2f} ± {spread(runs, score):4.2f}" for score in SCORES)
        cost = f"{mean(runs, 'train_seconds'):9.1f}{mean(runs, 'seconds_per_1000'):13.3f}"
        lines.append(f"{name:18s}{cells}{cost}  {', '.join(sorted({run['verdict'] for run in runs}))}")
    return "\n".join(lines)


def mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(run[key] for run in runs)


def spread(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.stdev(run[key] for run in runs) if len(runs) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="builtin:digits")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--name", default="generators-digits")
    parser.add_argument("--only", default="")
    parser.add_argument("--pictures", default=str(ROOT / "build"))
    args = parser.parse_args()
    began = time.perf_counter()
    samples, test = samples_of(args.data)
    train, held_out = (samples[index] for index in split_held_out(len(samples), 0))
    reference = Reference.fit(train, 0)
    rows: dict[str, list[dict[str, Any]]] = {}
    real = judge(test, train, held_out, reference=reference)
    extra = {"verdict": real["verdict"], "train_seconds": 0.0, "seconds_per_1000": 0.0}
    rows["real"] = [{**{score: real[score] for score in SCORES}, **extra}]
    names = args.only.split(",") if args.only else [entry.name for entry in GENERATORS]
    for name in names:
        rows[name] = []
        for seed in range(args.seeds if name.partition(":")[0] in TRAINED else 1):
            rows[name].append(measure(name, samples, reference, seed, args))
            gc.collect()
        say(table({name: rows[name]}))
    print(table(rows))
    best = rows.get("diffusion", rows[names[0]])
    detail = (
        f"C2ST accuracy of diffusion on {args.data} after {args.seconds:.0f} s of training, coverage "
        f"{mean(best, 'coverage_ratio'):.2f} of real, copy excess {mean(best, 'copy_excess'):.2f}, Frechet ratio "
        f"{mean(best, 'frechet_ratio'):.1f}, 10,000 samples in {10 * mean(best, 'seconds_per_1000'):.1f} s; best simple "
        "baseline by C2ST that does not copy: " + best_simple(rows)
    )
    spent = time.perf_counter() - began
    line = claim(args.name, mean(best, "c2st"), spread(best, "c2st"), len(best), spent, detail=detail)
    settings = {"data": args.data, "seconds": args.seconds, "seeds": args.seeds, "count": args.count}
    print(write_result(args.name, {"claim": line, "settings": settings, "rows": rows, "seconds": spent}))
    print(line)


def best_simple(rows: dict[str, list[dict[str, Any]]]) -> str:
    simple = {n: r for n, r in rows.items() if n in ("neighbours", "kde", "mixup") and mean(r, "copy_excess") < 2}
    if not simple:
        return "none"
    name = min(simple, key=lambda n: mean(simple[n], "c2st"))
    return f"{name} {mean(simple[name], 'c2st'):.2f}"


if __name__ == "__main__":
    bind_threads()
    main()
