"""Write the README's numbers from the newest results, so that none is typed by hand.

python benchmarks/quote.py [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUOTED = (
    "demo",
    "generators-digits",
    "generators-fashion",
    "samplers",
    "million",
    "cifar10-15min",
    "loop-overhead",
    "race-lightly",
    "step",
    "kill9",
    "malformed",
    "second-start",
    "views",
    "probe",
)


def newest(name: str) -> tuple[str, dict[str, Any]] | None:
    """Folder and content of the newest result of that name."""
    found = sorted((ROOT / "benchmarks" / "results").glob(f"20??-??-??-{name}/result.json"))
    return (found[-1].parent.name, json.loads(found[-1].read_text())) if found else None


def demo_block() -> str:
    entry = newest("demo")
    if entry is None:
        return "Not measured yet."
    _, result = entry
    rows = [
        "| arm | 1-shot | 10-shot | kNN | linear | training s | real | generated |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, arm in result["arms"].items():
        cells = " | ".join(f"{arm[k]['mean']:.1f} ± {arm[k]['sd']:.1f}" for k in ("shot_1", "shot_10", "knn", "linear"))
        rows.append(
            f"| {name} | {cells} | {arm['seconds']:.0f} | {arm['samples_real']:,} | {arm['samples_generated']:,} |"
        )
    seeds = result["settings"]["seeds"]
    told = f"Per cent of 540 test digits right, mean ± sd over {seeds} seeds; equal steps in every arm. {result['verdict']}"
    return "\n".join(
        [*rows, "", told, f"The whole demo took {result['seconds'] / 60:.1f} minutes ({result['device']})."]
    )


GENERATOR_COLUMNS = (("c2st", "told apart"), ("frechet_ratio", "Frechet"), ("coverage_ratio", "coverage"))
GENERATOR_COLUMNS += (
    ("copy_excess", "copy excess"),
    ("train_seconds", "training s"),
    ("seconds_per_1000", "s per 1,000"),
)


def generator_block(name: str) -> str:
    entry = newest(name)
    if entry is None:
        return "Not measured yet."
    _, result = entry
    columns = [("generator", "generator"), *GENERATOR_COLUMNS, ("verdict", "verdict")]
    rows = [f"| {' | '.join(title for _, title in columns)} |", f"|---|{'---:|' * len(GENERATOR_COLUMNS)}---|"]
    for generator, runs in result["rows"].items():
        cells = [spread_cell([run[key] for run in runs]) for key, _ in GENERATOR_COLUMNS]
        verdict = ", ".join(sorted({run["verdict"] for run in runs}))
        rows.append(f"| {generator} | {' | '.join(cells)} | {verdict} |")
    s = result["settings"]
    told = f"{s['data']}: at most {s['seconds']:.0f} s of training each, {s['count']:,} samples, {s['seeds']} seeds of what is trained."
    return "\n".join([*rows, "", f"{told} `real` is the test set in place of generated samples. {result['device']}."])


def spread_cell(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def measured_block() -> str:
    entries = [(name, newest(name)) for name in QUOTED]
    return "\n".join(f"- {entry[1]['claim']} (`{entry[0]}`)" for _, entry in entries if entry)


def quoted(readme: str) -> str:
    blocks = {
        "demo table": demo_block(),
        "generators digits": generator_block("generators-digits"),
        "generators fashion": generator_block("generators-fashion"),
        "measured": measured_block(),
    }
    for name, text in blocks.items():
        pattern = rf"<!-- {name} -->.*?<!-- end of {name} -->"
        block = f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"
        readme, count = re.subn(pattern, lambda _, block=block: block, readme, flags=re.S)
        if count != 1:
            raise SystemExit(f"README.md: {count} blocks for {name!r}, expected 1")
    return readme


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    path = ROOT / "README.md"
    old = path.read_text()
    new = quoted(old)
    if parser.parse_args().check:
        sys.exit(old != new)
    path.write_text(new)
