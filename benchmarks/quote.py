"""Write the numbers of README, docs and the methods' docstrings from the newest results: none is typed by hand.

python benchmarks/quote.py [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _method_tables import batches_block, emp_ssl_sweep_block, methods_block, patches_block, presets_block
from _tables import MISSING, by_arm, mean_sd, spread_cell
from adapt.tables import inflation_block, regret_block, search_block, summary_block, tau_block
from peers.table import peers_block

ROOT = Path(__file__).resolve().parents[1]
QUOTED = {
    "Generated data and encoders": ("demo", "methods", "patches", "emp-ssl-sweep", "masked", "cells", "cifar10-15min"),
    "Adaptive inflation": (
        "adapt-regret",
        "adapt-regret-held-out",
        "adapt-search",
        "adapt-toy",
        "adapt-overlap",
        "adapt-estimated",
    ),
    "Generators": ("generators-digits", "generators-fashion", "samplers", "million"),
    "Speed": (
        "peers",
        "peers-minutes",
        "step",
        "loop-overhead",
        "losses",
        "view-chunk",
        "mixed-ae-overhead",
        "vit-step",
        "cells-time",
        "rectified",
        "allocator",
        "views",
        "probe",
        "scaling",
        "second-start",
        "page",
        "embed",
        "export",
    ),
    "Nothing lost": ("faults", "malformed", "fuzz"),
}


def newest(name: str) -> tuple[str, dict[str, Any]] | None:
    """Folder and content of the newest result of that name."""
    found = sorted((ROOT / "benchmarks" / "results").glob(f"20??-??-??-{name}/result.json"))
    return (found[-1].parent.name, json.loads(found[-1].read_text())) if found else None


def demo_block() -> str:
    entry = newest("demo")
    if entry is None:
        return MISSING
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
        return MISSING
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


def measured_block() -> str:
    """Of each part, the claims: what comes before the first colon is what was measured."""
    parts = []
    for title, names in QUOTED.items():
        entries = [entry for name in names if (entry := newest(name)) and "claim" in entry[1]]
        found = [(at, claim) for at, result in entries for claim in result.get("claims", [result["claim"]])]
        if found:
            parts.append("\n".join([f"## {title}", "", *(f"- {emphasised(claim)} (`{at}`)" for at, claim in found)]))
    return "\n\n".join(parts)


def emphasised(claim: str) -> str:
    what, colon, rest = claim.partition(": ")
    return f"**{what}**: {rest}" if colon else claim


VARIED = ("simclr_mask", "simclr_mask75", "diffaug_0", "diffaug_half")  # the arms that those of the sweep vary
CELLS_SCORES = {"linear": "logistic regression", "knn": "kNN", "ari": "ARI", "nmi": "NMI"}


MASKED = {  # arms of masked.py in words
    "mae": "MAE",
    "mixed_ae": "MixedAE",
    "no_segments": "MixedAE without segment embeddings",
    "naive": "naive mixing",
    "simclr": "SimCLR",
    "from_scratch": "labels alone, from scratch",
}


def masked_block() -> str:
    entry = newest("masked")
    if entry is None:
        return MISSING
    folder, result = entry
    scores = ("linear", "knn", "finetune", "dense_miou", "dense_accuracy")
    rows = [
        "| arm | linear | kNN | fine-tuned | mIoU on mosaics | accuracy on mosaics | steps | TFLOP | images | peak GiB |",
        f"|---|{'---:|' * 9}",
    ]

    def mean(runs: list[dict[str, Any]], key: str) -> float:
        return statistics.fmean(run[key] for run in runs)

    arms = {name: runs for name, runs in by_arm(result["rows"]).items() if name in MASKED}
    for name, runs in sorted(arms.items(), key=lambda item: list(MASKED).index(item[0])):
        cells = [spread_cell([r[key] for r in runs], 1) if key in runs[0] else "" for key in scores]
        costs = [""] * 4
        if "views" in runs[0]:
            memory = mean(runs, "peak_memory_bytes") / 2**30
            costs = [f"{mean(runs, key):,.0f}" for key in ("steps", "teraflops", "samples")] + [f"{memory:.1f}"]
        rows.append(f"| {MASKED[name]} | {' | '.join([*cells, *costs])} |")
    found = result["rows"].get("baselines", {"baselines": {}, "dense": {}})
    for name in dict.fromkeys([*found["baselines"], *found["dense"]]):
        probed, dense = found["baselines"].get(name, {}), found["dense"].get(name, {})
        cells = [probed.get("linear"), probed.get("knn"), None, dense.get("miou"), dense.get("accuracy")]
        rows.append(
            f"| {name.replace('_', ' ')} | {' | '.join('' if c is None else f'{c:.1f}' for c in cells)} |{' |' * 4}"
        )
    s, most = result["settings"], max(map(len, arms.values()), default=0)
    told = (
        f"{s['data']}, {s['backbone']} of width {s['width']:g} with {s['options']['depth']} layers and patches of "
        f"{s['options']['patch']}, batches of {s['batch']}: as many steps as fit into {s['minutes']:g} minutes of "
        f"{result['device']}. Fine-tuned on {s['fraction']:.0%} of the labels. Per cent, mean ± sd over at most {most} seeds."
    )
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def cells_block() -> str:
    """A table a score and one of costs: arms down, sets across."""
    entry = newest("cells")
    if entry is None:
        return MISSING
    folder, result = entry
    table, rows = result["table"], []
    arms = [arm for arm in next(iter(table.values())) if all(arm in found for found in table.values())]
    head = f"{' | '.join(table)} |\n|---|{'---:|' * len(table)}"

    def row(arm: str, cell: Callable[[dict[str, Any]], str]) -> str:
        return f"| {arm} | {' | '.join(cell(found[arm]) for found in table.values())} |"

    for score, title in CELLS_SCORES.items():
        rows.append(f"| {title} | {head}")
        rows += [row(arm, lambda one, score=score: mean_sd(one[score])) for arm in arms]
        rows.append("")
    rows.append(f"| seconds; TFLOP | {head}")
    rows += [row(arm, lambda one: f"{one['seconds']:.0f}; {one['teraflops']:.2g}") for arm in arms]
    seeds = max(one["seeds"] for found in table.values() for one in found.values())
    told = f"Per cent, mean ± sd over at most {seeds} seeds, five folds each, all arms for equal steps. {result['device']}."
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def sweep_block() -> str:
    """Of the sets that have arms the others lack: these arms, below those they vary."""
    entry = newest("cells")
    table = {} if entry is None else entry[1]["table"]
    more = [arm for found in table.values() for arm in found if not all(arm in others for others in table.values())]
    if entry is None or not more:
        return MISSING
    sets = [name for name, found in table.items() if more[0] in found]
    rows = [f"| | {' | '.join(f'{name}, linear | kNN' for name in sets)} |", f"|---|{'---:|' * 2 * len(sets)}"]
    for arm in dict.fromkeys([*VARIED, *more]):
        cells = [mean_sd(table[name][arm][score]) for name in sets for score in ("linear", "knn")]
        rows.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"Per cent, mean ± sd over seeds. {entry[1]['device']}. From `{entry[0]}`."])


def ours_line(method: str) -> str:
    """What a method's docstring says of our own measurement."""
    for result in ("methods", "masked"):
        entry = newest(result)
        runs = by_arm(entry[1]["rows"]).get(method, []) if entry else []
        if entry is None or not runs or "views" not in runs[0]:
            continue
        s = entry[1]["settings"]
        knn, linear = (spread_cell([r[key] for r in runs], 1) for key in ("knn", "linear"))
        net = f"{'ResNet-18' if s['backbone'] == 'resnet18' else s['backbone']} at width {s['width']:g}"
        return f"Ours, {s['data']}, {net}, {s['minutes']:g} minutes on two cores: kNN {knn}, linear {linear}."
    return "Ours: not measured yet."


def with_ours(text: str, method: str) -> str:
    return re.sub(r"^Ours[:,].*$", lambda _: ours_line(method), text, count=1, flags=re.M)


def quoted(path: Path, text: str) -> str:
    """The text of a file with all numbers as the newest results have them."""
    if path.suffix == ".py":
        found = re.search(r'@METHODS\.register\(\s*"(\w+)"', text)
        return with_ours(text, found[1]) if found else text
    blocks = {
        "README.md": {
            "demo table": demo_block,
            "generators digits": lambda: generator_block("generators-digits"),
            "generators fashion": lambda: generator_block("generators-fashion"),
            "adapt summary": lambda: summary_block(newest),
            "peers": lambda: peers_block(newest),
        },
        "methods.md": {
            "short presets": lambda: presets_block(newest),
            "short batches": lambda: batches_block(newest),
            "methods table": lambda: methods_block(newest),
            "patches": lambda: patches_block(newest),
            "emp-ssl sweep": lambda: emp_ssl_sweep_block(newest),
        },
        "measured.md": {"measured": measured_block},
        "masked.md": {"masked table": masked_block},
        "diffaug.md": {"cells table": cells_block, "sweep table": sweep_block},
        "adapt.md": {
            "inflation table": lambda: inflation_block(newest),
            "held-out inflation table": lambda: inflation_block(newest, "adapt-regret-held-out"),
            "regret table": lambda: regret_block(newest),
            "held-out table": lambda: regret_block(newest, "adapt-regret-held-out"),
            "search table": lambda: search_block(newest),
            "tau table": lambda: tau_block(newest),
        },
    }[path.name]
    for name, block in blocks.items():
        pattern = rf"<!-- {name} -->.*?<!-- end of {name} -->"
        whole = f"<!-- {name} -->\n{block()}\n<!-- end of {name} -->"
        text, count = re.subn(pattern, lambda _, whole=whole: whole, text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{path.name}: {count} blocks for {name!r}, expected 1")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    files = [
        ROOT / "README.md",
        ROOT / "docs" / "methods.md",
        ROOT / "docs" / "masked.md",
        ROOT / "docs" / "measured.md",
        ROOT / "docs" / "diffaug.md",
        ROOT / "docs" / "adapt.md",
        *sorted((ROOT / "src" / "swell" / "methods").glob("*.py")),
    ]
    before = {path: path.read_text() for path in files}
    after = {path: quoted(path, text) for path, text in before.items()}
    if parser.parse_args().check:
        sys.exit(before != after)
    for path in files:
        if before[path] != after[path]:
            path.write_text(after[path])
