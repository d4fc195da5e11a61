"""kNN accuracy after equal minutes of training: Swell, lightly and solo-learn on CIFAR-10, one probe for all.

    python benchmarks/peers/minutes.py [--method simclr] [--minutes 10] [--seeds 1] [--arms ...] [--quick]

Each arm trains a ResNet-18 for so many minutes from its first step on, with a schedule that ends with the minutes, and
leaves the features of all images, which `swell.evaluation.probe` judges. The peers have their published settings for
CIFAR-10; `swell` its preset for short budgets; `swell-as-lightly` what lightly has, so that only the tool differs.
Arms of a seed run one after the other; rows are written as they come and made once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from contests import CONTESTS  # noqa: E402
from environments import default_folder, python_of  # noqa: E402
from runner import Runner  # noqa: E402
from setting import METHODS  # noqa: E402

from _common import ROOT, Load, cifar10, claim, write_result  # noqa: E402
from swell.evaluation.probe import probe  # noqa: E402
from swell.files import read_json, write_json  # noqa: E402

NAME = "peers-minutes"
ARMS = ("swell", "swell-as-lightly", "lightly-on", "solo-learn-on", "lightly", "solo-learn")


def trained(name: str, seed: int, files: dict[str, Path], labels: dict[str, np.ndarray], args: Any) -> dict[str, Any]:
    """Train an arm and probe what it left."""
    arm, load, begun = CONTESTS[args.method][name], Load(), time.perf_counter()
    out = files["train"].parent / "features.npz"
    given = [str(files["train"]), f"--test={files['test']}", f"--out={out}", f"--batch={args.batch}"]
    given += [f"--minutes={args.minutes}", f"--seed={seed}"]
    runner = Runner.start(name, arm, python_of(arm.peer, args.envs), given)
    runner.process.communicate()
    with np.load(out) as features:
        scores = probe(features["train"], labels["train"], features["test"], labels["test"])
    out.unlink()
    return {
        "knn": 100 * scores["knn"]["accuracy"],
        "linear": 100 * scores["linear"]["accuracy"],
        "images": runner.said["all_images"] or runner.said["samples"],
        "peak_bytes": runner.peak_bytes + runner.workers_bytes,
        "load": load.read(),
        "seconds": time.perf_counter() - begun,
    }


def table(rows: dict[str, Any]) -> dict[str, Any]:
    """Mean, sd and n of each column, by arm."""
    out: dict[str, Any] = {}
    for name in dict.fromkeys(key.rpartition("/")[0] for key in rows):
        found = [row for key, row in rows.items() if key.rpartition("/")[0] == name]
        out[name] = {}
        for column in ("knn", "linear", "images"):
            values = [row[column] for row in found]
            sd = statistics.stdev(values) if len(values) > 1 else None
            out[name][column] = {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}
    return out


def written(rows: dict[str, Any], settings: dict[str, Any], path: Path | None) -> str:
    """Write what there is; the claim line."""
    found, seconds = table(rows), sum(row["seconds"] for row in rows.values())
    result: dict[str, Any] = {"settings": settings, "rows": rows, "table": found, "seconds": seconds, "claim": ""}
    if "swell" in found:
        ours = found["swell"]["knn"]
        others = ", ".join(f"{name} {row['knn']['mean']:.1f}" for name, row in found.items() if name != "swell")
        what = f"kNN after {settings['minutes']:g} minutes of {settings['method']}"
        result["claim"] = claim(what, ours["mean"], ours["sd"], ours["n"], seconds, "%", others, "2 threads an arm")
    if path is None:
        write_result(NAME, result)
    else:
        write_json(path, result)
    return str(result["claim"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default="simclr")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128, help="of the peers; Swell takes its preset's (default 128)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="NAME")
    parser.add_argument("--envs", type=Path, default=default_folder(), help="folder of the peers' environments")
    parser.add_argument("--quick", action="store_true", help="rehearse: 0.1 minutes on 1,000 images, batches of 32")
    args = parser.parse_args()
    path, most = None, None
    if args.quick:
        args.minutes, args.batch, most = 0.1, 32, 1000
        path = Path(tempfile.gettempdir()) / "swell-peers-minutes-quick.json"
    settings = {"method": args.method, "minutes": args.minutes, "batch": args.batch,
                "data": "CIFAR-10, all 50,000 training images without labels"}  # fmt: skip
    found = sorted((ROOT / "benchmarks" / "results").glob(f"20??-??-??-{NAME}/result.json"))
    rows: dict[str, Any] = {}
    if path is None and found and (earlier := read_json(found[-1]))["settings"] == settings:
        rows = earlier["rows"]
    with tempfile.TemporaryDirectory() as folder:
        files, labels = {}, {}
        for part in ("train", "test"):
            images, y = cifar10(part)
            files[part], labels[part] = Path(folder) / f"{part}.npy", y[:most]
            np.save(files[part], images[:most])
        for seed in range(args.seeds):
            for name in args.arms:
                if f"{name}/{seed}" in rows:
                    continue
                rows[f"{name}/{seed}"] = trained(name, seed, files, labels, args)
                print(name, seed, rows[f"{name}/{seed}"], flush=True)
                line = written(rows, settings, path)
    print(line if rows else "nothing to do")


if __name__ == "__main__":
    main()
