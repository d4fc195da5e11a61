"""The table of a comparison as text: columns for a terminal, Markdown for a paper, CSV for whatever comes next."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCORES = {"few_shot_1": "1-shot", "few_shot_10": "10-shot", "knn": "kNN", "linear": "linear", "nmi": "NMI"}
ALSO = {"dense": "dense mIoU", "finetune": "fine-tuned"}  # where all runs have them
COSTS = {  # header, and the unit of its numbers
    "seconds": ("seconds", 1.0),
    "flops": ("TFLOPs", 1e12),
    "views": ("views", 1.0),
    "samples": ("samples", 1.0),
    "forwards": ("student forwards", 1.0),
    "teacher_forwards": ("teacher forwards", 1.0),
    "pixels": ("megapixels", 1e6),
    "memory": ("peak MiB", 2.0**20),
    "generator_seconds": ("generator s", 1.0),
    "steps": ("steps", 1.0),
    "epochs": ("epochs", 1.0),
}
IN_TERMINAL = ("seconds", "flops", "views", "forwards", "teacher_forwards", "generator_seconds", "steps")


def summary(result: Mapping[str, Any], out: Path) -> str:
    """The table, the verdict in one sentence, and what one must know before believing either."""
    columns = _columns(result, IN_TERMINAL)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for first, *others in zip(*columns, strict=True):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    notes = [f"Note: {notice}" for notice in result["notices"]]
    return "\n".join([*lines, "", result["verdict"], *notes, f"Look at {out / 'report.html'}"])


def markdown(result: Mapping[str, Any]) -> str:
    """The whole table with its caption."""
    header, *rows = zip(*_columns(result, tuple(COSTS)), strict=True)
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, rule, *rows]]
    data = result["data"]
    caption = (
        f"{result['verdict']} Accuracy in per cent, mean ± sd over n seeds; {result['probe']} on {data['origin']}, "
        f"{data['n_train']:,} labelled samples and {data['n_test']:,} for the test. Costs are those of pre-training "
        "one run, on average."
    )
    if result["pairs"]:
        caption += f" Ranks: paired t test over common seeds, Holm's correction over {len(result['pairs'])} pairs."
    return "\n".join([*lines, "", " ".join([caption, *result["notices"]]), ""])


def csv_table(result: Mapping[str, Any]) -> str:
    """One row an arm: unrounded means and standard deviations of the scores, 0 to 1; means of the costs in the ledger's
    units; the total with the generator, and whether that is on the Pareto front."""
    arms, cells = result["arms"], []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm["name"], "n": arm["n"], "rank": arm["rank"]}
        for key, value in arm["scores"].items():
            row |= {f"{key}_mean": value["mean"], f"{key}_sd": value["sd"]}
        row |= arm["costs"]
        for key, names in result["front"].items():
            row |= {f"total_{key}": arm["spent"][key], f"front_{key}": int(arm["name"] in names)}
        cells.append(row)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, list(cells[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(cells)
    return buffer.getvalue()


def _columns(result: Mapping[str, Any], costs: Sequence[str]) -> list[list[str]]:
    """Columns of text, each with its header first; those of costs that no arm had are left out."""
    arms = result["arms"]
    columns = [["arm", *(arm["name"] for arm in arms)], ["n", *(str(arm["n"]) for arm in arms)]]
    if result["basis"]:
        columns.append(["rank", *("–" if arm["rank"] is None else str(arm["rank"]) for arm in arms)])
    columns += [[header, *(_percent(arm["scores"][key]) for arm in arms)] for key, header in headers(arms).items()]
    for bag in kinds_of_bags(arms):
        bags = [bag_of(arm, bag) for arm in arms]
        for key in ("knn", "linear"):
            header = f"{SCORES[key]}, {bag[0]} {bag[1]} patches"
            columns.append([header, *(_percent(own[key]) if own else "–" for own in bags)])
    for key in costs:
        header, unit = COSTS[key]
        if any(arm["costs"][key] for arm in arms):
            columns.append([header, *(_figures(arm["costs"][key], unit) for arm in arms)])
    return columns


def headers(arms: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Headers of the scores that there are, by their keys."""
    return {key: header for key, header in {**SCORES, **ALSO}.items() if key in arms[0]["scores"]}


def kinds_of_bags(arms: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """The kinds of bags of features there are: (patches, mode)."""
    return list({(bag["patches"], bag["mode"]): None for arm in arms if (bag := arm["bag_of_features"])})


def bag_of(arm: Mapping[str, Any], kind: tuple[Any, Any]) -> Mapping[str, Any] | None:
    """The arm's bag of features, if it is of that kind."""
    own = arm["bag_of_features"]
    return own if own and (own["patches"], own["mode"]) == kind else None


def _percent(value: Mapping[str, Any]) -> str:
    mean, sd = value["mean"], value["sd"]
    return f"{100 * mean:.1f}" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f}"


def _figures(value: float | None, unit: float) -> str:
    """Three figures, whole from 100 up."""
    if value is None:
        return "–"
    value /= unit
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"
