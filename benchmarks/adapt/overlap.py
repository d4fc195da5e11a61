"""The strength that equal overlap asks for, with real samples in the place of a perfect generator's, three ways.

    python benchmarks/adapt/overlap.py

CIFAR-10 at 16 x 16, and cells. Overlap as the share of views with another sample's nearest (AdaInf's group has it so), as the
mean number of other samples' views between two of one sample, and as the mean logarithm of that number, which is what
`overlap_strength` keeps equal. The published optima on CIFAR-10 are the table's at 3 and 21 times the data. Writes
benchmarks/results/DATE-adapt-overlap/result.json.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _panels import claim, write_result
from estimated import eyes_of, plan_of, samples_of

from swell.adaptive.overlap import Overlap, overlap_strength, view_features
from swell.adaptive.priors import strength_prior

REAL = 150
GROWTHS = (1.0, 2.0, 3.0, 7.5, 21.0)
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
WAYS = ("share", "count", "log_count")


def measure(name: str) -> list[dict[str, Any]]:
    """One row a growth: the strength by each way, found between the strengths of the grid."""
    train, _ = samples_of(name)
    eyes = eyes_of(name, train)
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}  # [strength][growth]
    for s in STRENGTHS:
        views = view_features(train.samples[: round(REAL * GROWTHS[-1])], plan_of(name, s), eyes.features, 0)
        overlap, rows = Overlap.of(views[:, :REAL]), []
        for a, b in zip((1.0, *GROWTHS), GROWTHS, strict=False):
            overlap.add(views[:, round(REAL * a) : round(REAL * b)].flatten(0, 1))
            rows.append((overlap.value, float(overlap.nearer.mean()), overlap.crowding))
        for way, values in zip(WAYS, zip(*rows, strict=True), strict=True):
            found[way].append(list(values))
    out = []
    for i, growth in enumerate(GROWTHS):
        row: dict[str, Any] = {"set": name, "growth": growth}
        for way in WAYS:
            curve = np.array(found[way])
            row[way] = float(np.interp(curve[-1, 0], np.maximum.accumulate(curve[:, i]), STRENGTHS))
        row["table"] = strength_prior(REAL, round(REAL * (growth - 1)), 1.0).strength
        out.append(row)
        print(row, flush=True)
    return out


def main() -> None:
    begun = time.perf_counter()
    rows = [row for name in ("CIFAR-10", "pbmc4k") for row in measure(name)]
    train, _ = samples_of("CIFAR-10")
    more = train.samples[REAL : 3 * REAL]
    eyes = eyes_of("CIFAR-10", train)
    used = overlap_strength(train.samples[:REAL], more, eyes.features, plan_of("CIFAR-10", 1.0), 1.0)
    at = {row["growth"]: row for row in rows if row["set"] == "CIFAR-10"}
    detail = "; ".join(
        f"at {g:g} times the data {at[g]['log_count']:.2f} by the log of the number between, {at[g]['share']:.2f} by the share "
        f"that overlaps, {at[g]['count']:.2f} by the number, {at[g]['table']:.2f} published"
        for g in (3.0, 21.0)
    )
    text = claim(
        "Strength by equal overlap, CIFAR-10",
        used.strength,
        None,
        1,
        time.perf_counter() - begun,
        "",
        detail,
        "1 thread",
    )
    print(
        write_result("adapt-overlap", {"claim": text, "rows": rows, "used": used.strength, "reason": used.reason}), text
    )


if __name__ == "__main__":
    main()
