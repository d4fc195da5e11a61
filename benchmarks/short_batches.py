"""Which batch, and which projector, suits a short preset in runs shorter and longer than those it was chosen by.

    python benchmarks/short_batches.py [--images 25600 102400] [--seeds 2] [--only simclr/,/norm/]

The same data, net and score as short_presets.py: kNN on held-out training images at half their size; the test split is
not read. Every arm of a method sees as many images, in more steps of fewer. Two run at a time, one thread each. Goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from _arms import Rows
from short_presets import WIDTH, trial

BATCHES = (256, 128, 64, 32)
RATES = {"simclr": 0.2, "dcl": 0.06, "vicreg": 0.06}  # of the short presets, SGD, for batches of 256
OTHERS: dict[str, dict[str, dict[str, Any]]] = {  # by method: name, settings
    "simclr": {"norm": {"norm": True}, "temperature 0.5": {"temperature": 0.5}},
    "dcl": {"norm": {"norm": True}},
}


def table(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and sd of kNN, by arm; the mean is None where none came to an end without diverging."""
    found: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(key.rpartition("/")[0] for key in rows):
        runs = [row for name, row in rows.items() if name.rpartition("/")[0] == key]
        scores = [row["knn"] for row in runs if "knn" in row]
        mean, sd = statistics.fmean(scores) if scores else None, statistics.stdev(scores) if len(scores) > 1 else None
        found[key] = {"mean": mean, "sd": sd, "n": len(scores), "diverged": len(runs) - len(scores)}
    return found


def main(images: list[int], seeds: int, only: str) -> None:
    rows = Rows("short-batches", {"side": 16, "width": WIDTH})
    jobs = []
    for seed in range(seeds):
        for count in images:
            for method in RATES:
                for name, settings in {"": {}, **OTHERS.get(method, {})}.items():
                    for batch in BATCHES:
                        given = ("sgd", RATES[method], count // batch, "vicreg", settings, batch, seed)
                        key = f"{method}/{count}/{name or 'as preset'}/{batch}/{seed}"
                        if any(part in key for part in only.split(",")):
                            jobs.append((key, trial, (method, *given)))
    rows.make(jobs, lambda: {"table": table(rows.rows)}, together=2)
    for arm, score in table(rows.rows).items():
        print(f"{arm:44s} {score}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[25_600, 102_400])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--only", default="", help="arms whose key METHOD/IMAGES/NAME/BATCH/SEED has one of these in it"
    )
    main(**vars(parser.parse_args()))
