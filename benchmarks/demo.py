"""Run `swell demo` from an empty folder and keep its table.

python benchmarks/demo.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import Load, claim, device_line, write_result
from swell.evaluation.statistics import paired, summarise
from swell.report.demo_page import arm_scores, summary, verdict


def main(folder: Path | None) -> None:
    begun, load = time.perf_counter(), Load()
    with tempfile.TemporaryDirectory() as scratch:
        out = folder or Path(scratch) / "demo"
        if folder is None:
            subprocess.run([sys.executable, "-m", "swell", "demo", "--out", str(out)], check=True)
        result = json.loads((out / "demo.json").read_text())
        report_bytes = (out / "report.html").stat().st_size
    seconds = result["seconds"] if folder else time.perf_counter() - begun
    table = summary(result, Path("swell-demo"))
    print(table)
    arms = {}
    for arm in result["arms"]:
        scores = arm_scores(result, arm["name"])
        cost = [run["ledger"]["pretraining"] for run in arm["runs"]]
        arms[arm["name"]] = {key: {"mean": summarise(v)[0], "sd": summarise(v)[1], "seeds": v} for key, v in scores.items()} | {
            "seconds": summarise([c["seconds"] for c in cost])[0], "samples_real": cost[0]["samples_real"],
            "samples_generated": cost[0]["samples_generated"], "flops": cost[0]["flops"],
        }  # fmt: skip
    ten = arms["generated + weight + weak"]["shot_10"]
    against = paired(ten["seeds"], arms["none"]["shot_10"]["seeds"])
    path = write_result("demo", {
        "claim": claim("digits, 10-shot, generated + weight + weak", ten["mean"], ten["sd"], len(ten["seeds"]), seconds, unit="%",
                       detail=f"{against['mean']:+.1f} points [{against['low']:+.1f}, {against['high']:+.1f}] against none"),
        "verdict": verdict(result), "arms": arms, "settings": result["settings"], "quality": result["quality"],
        "table": table.splitlines(), "seconds": seconds, "report_bytes": report_bytes, "load": None if folder else load.read(),
        "device": device_line("one thread a run, as many runs at once as cores"),
    })  # fmt: skip
    print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    main(**vars(parser.parse_args()))
