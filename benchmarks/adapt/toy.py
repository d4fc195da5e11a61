"""AdaInf's two-Gaussian toy, computed: what inflation and augmentation do to the two quantities of its bound.

    python benchmarks/adapt/toy.py [--seeds 6]

Writes benchmarks/results/DATE-adapt-toy/result.json and docs/adapt-toy.svg; what was measured with the same settings before
is only told and drawn again.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _panels import ROOT, Line, Panel, claim, draw, write_result

from swell.adaptive.toy import (
    bound,
    eigenvalues,
    flip_probability,
    labelling_error,
    population_connectivity,
    probe_error,
    samples,
)
from swell.evaluation.statistics import summarise
from swell.files import read_json

SIZES = (32, 64, 128, 256, 512)
RADII = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.1, 2.5)
K = 4  # features of the encoder: twice as many as classes, for which the bound is stated
OTHER_K = (2, 8)
MEASURED = ("labelling_error", "population", "graphs")
SHOWN_RADII = (0.4, 0.6, 0.8)
SHOWN_SIZES = (32, 128, 512)


def measure(seeds: int) -> dict[str, object]:
    """All quantities by radius, size and seed."""
    alpha = [labelling_error(r) for r in RADII]
    graphs: dict[str, dict[str, list[list[float]]]] = {}
    for n in SIZES:
        points = [samples(n, seed) for seed in range(seeds)]
        spectra = [[eigenvalues(x, r, max(OTHER_K) + 1) for r in RADII] for x in points]
        graphs[str(n)] = {
            "labelling_error": [[float(flip_probability(x[:, 0], r).mean()) for r in RADII] for x in points],
            **{f"lambda_{k + 1}": [[float(s[k]) for s in row] for row in spectra] for k in (K, *OTHER_K)},
        }
        if n in SHOWN_SIZES:
            graphs[str(n)]["probe_error"] = [[probe_error(x, r, K) for r in RADII] for x in points]
        print(n, "samples done", flush=True)
    population = {f"lambda_{k + 1}": [population_connectivity(r, k) for r in RADII] for k in (K, *OTHER_K)}
    return {"labelling_error": alpha, "population": population, "graphs": graphs}


def best_radius(alpha: list[float], connected: list[float]) -> float:
    return RADII[int(np.argmin([bound(a, c) for a, c in zip(alpha, connected, strict=True)]))]


def summary(found: dict) -> dict[str, object]:
    """The best radius by the bound and by the probe, by size: mean and sd over seeds."""
    alpha, out = found["labelling_error"], {}
    for k in (K, *OTHER_K):
        name = f"lambda_{k + 1}"
        out[f"best_radius_k{k}"] = {
            n: summarise([best_radius(alpha, row) for row in graph[name]]) for n, graph in found["graphs"].items()
        } | {"population": (best_radius(alpha, found["population"][name]), None)}
    probes = {n: np.array(graph["probe_error"]) for n, graph in found["graphs"].items() if "probe_error" in graph}
    out["best_radius_probe"] = {n: summarise([RADII[i] for i in rows.argmin(1)]) for n, rows in probes.items()}
    means = {n: rows.mean(0) for n, rows in probes.items()}
    out["least_radius_error_10"] = {
        n: next(r for r, e in zip(RADII, rows, strict=True) if e <= 0.1) for n, rows in means.items()
    }
    out["least_bound"] = min(bound(a, c) for a, c in zip(alpha, found["population"][f"lambda_{K + 1}"], strict=True))
    return out


def over_seeds(rows: list[list[float]]) -> list[tuple[float, float]]:
    """Mean and sd of each column."""
    return [(m, sd or 0.0) for m, sd in map(summarise, map(list, zip(*rows, strict=True)))]


def figure(found: dict, best: dict, seeds: int) -> None:
    graphs, alpha, name = found["graphs"], found["labelling_error"], f"lambda_{K + 1}"
    population = found["population"][name]

    def by_size(r: float, what: str, key: int) -> Line:
        at = RADII.index(r)
        points = [(n, *over_seeds(graphs[str(n)][what])[at]) for n in SIZES]
        return Line(f"r = {r:g}", tuple(points), key)

    def by_radius(n: int, values: list[tuple[float, float]], key: int, mark: bool = False) -> Line:
        return Line(f"{n} samples", tuple((r, m, 0.0) for r, (m, _) in zip(RADII, values, strict=True)), key, mark)

    def bounds(rows: list[list[float]]) -> list[tuple[float, float]]:
        means = [m for m, _ in over_seeds(rows)]
        return [(bound(a, c), 0.0) for a, c in zip(alpha, means, strict=True)]

    radii, many = "radius r of the views (strength)", "number of samples"
    legends = {
        "Panels 1 and 2:": {i: f"r = {r:g}" for i, r in enumerate(SHOWN_RADII)},
        "Panels 3 to 6:": {3 + i: f"{n} samples" for i, n in enumerate(SHOWN_SIZES)} | {6: "infinitely many"},
    }
    panels = [
        Panel("1  More data connect the graph ...", many, "connectivity",
              tuple(by_size(r, name, i) for i, r in enumerate(SHOWN_RADII)), log_x=True),
        Panel("2  ... and leave the labelling error alone", many, "labelling error",
              tuple(by_size(r, "labelling_error", i) for i, r in enumerate(SHOWN_RADII)), log_x=True),
        Panel("3  Stronger views connect the graph ...", radii, "connectivity",
              (*(by_radius(n, over_seeds(graphs[str(n)][name]), 3 + i) for i, n in enumerate(SHOWN_SIZES)),
               Line("all", tuple((r, c, 0.0) for r, c in zip(RADII, population, strict=True)), 6))),
        Panel("4  ... and raise the labelling error", radii, "labelling error",
              (Line("all", tuple((r, a, 0.0) for r, a in zip(RADII, alpha, strict=True)), 6),)),
        Panel("5  So the bound's best strength falls", radii, "bound on the error",
              (*(by_radius(n, bounds(graphs[str(n)][name]), 3 + i, True) for i, n in enumerate(SHOWN_SIZES)),
               by_radius(0, bounds([population]), 6, True)), high=5.0),
        Panel("6  The error itself tells another story", radii, "error of the best linear head",
              tuple(by_radius(n, over_seeds(graphs[str(n)]["probe_error"]), 3 + i, True)
                    for i, n in enumerate(SHOWN_SIZES))),
    ]  # fmt: skip
    note = (
        f"Two Gaussians in the plane; the views of a sample are uniform in a disc of radius r around it. Connectivity: "
        f"lambda_{K + 1} of the graph of views, 0 where it falls apart. Bound on the error: 4 (labelling error) / "
        f"connectivity + 8 (labelling error); it says something only where it is below 1. Means over {seeds} draws of the samples, "
        "whiskers one standard deviation; rings mark the lowest points."
    )
    draw(ROOT / "docs" / "adapt-toy.svg", panels, legends, note)


def main(seeds: int) -> None:
    settings = {"sizes": [*SIZES], "radii": [*RADII], "k": K, "other_k": [*OTHER_K], "seeds": seeds}
    begun = time.perf_counter()
    earlier = sorted((ROOT / "benchmarks" / "results").glob("20??-??-??-adapt-toy/result.json"))
    kept = read_json(earlier[-1]) if earlier else {}
    known = kept.get("settings") == settings
    found = {key: kept[key] for key in MEASURED} if known else measure(seeds)
    seconds = kept["seconds"] if known else time.perf_counter() - begun
    best = summary(found)
    falls = best[f"best_radius_k{K}"]
    (few, sd), (many, sd_many), (limit, _) = (falls[str(SIZES[0])], falls[str(SIZES[-1])], falls["population"])
    told = (
        f"from {few:.2f} +- {sd:.2f} at {SIZES[0]} samples to {many:.2f} +- {sd_many:.2f} at {SIZES[-1]} and {limit:g} in "
        f"the limit; the bound is {best['least_bound']:.2f} at its lowest there"
    )
    text = claim("Toy, best radius by the bound", many, sd_many, seeds, seconds, "", told, "1 thread")
    print(write_result("adapt-toy", {"claim": text, "settings": settings, "seconds": seconds, "best": best, **found}))
    print(text)
    figure(found, best, seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    main(**vars(parser.parse_args()))
