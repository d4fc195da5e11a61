"""The tables of the README made from the race's results; nothing where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMES = {
    "simclr": "SimCLR",
    "byol": "BYOL",
    "barlow_twins": "Barlow Twins",
    "swav": "SwAV",
    "samples": "diffusion, 10 evaluations",
    "neighbours": "20 nearest of 50,000",
}
Newest = Callable[[str], tuple[str, dict[str, Any]] | None]


def peers_block(newest: Newest) -> str:
    """Rates and ratios, then kNN after equal minutes."""
    return "\n\n".join(block for block in (_race(newest("peers")), _minutes(newest("peers-minutes"))) if block)


def _race(entry: tuple[str, dict[str, Any]] | None) -> str:
    if entry is None or not entry[1]["contests"]:
        return ""
    folder, result = entry
    rows = ["| what | Swell, a second | times the peer's rate | its memory | its start-up |", "|---|---:|---|---|---|"]
    for contest, found in result["contests"].items():
        ratios = {peer: ratio for peer, ratio in found["ratios"].items() if ratio["n"]}
        over = "; ".join(f"{_shown(peer)} {_cell(ratio, 2)}" for peer, ratio in ratios.items())
        memory = ", ".join(f"{ratio['memory']:.2f}" for ratio in ratios.values())
        start = ", ".join(f"{ratio['start_up']:.2f}" for ratio in ratios.values())
        rows.append(f"| {NAMES[contest]} | {_cell(found['rates']['swell'], 1)} | {over} | {memory} | {start} |")
    s = result["settings"]
    told = (
        f"{s['network']}, {s['data']}, batches of {s['batch']}, the same views and heads; mean ± sd over {s['rounds']} "
        f"interleaved rounds. \"On\" is a peer with bfloat16, channels_last, bound threads and its better number of "
        f"workers. Memory and start-up are Swell's as a share of the peer's, in the same order. {result['device']}. "
        f"From `{folder}`."
    )  # fmt: skip
    return "\n".join([*rows, "", told])


def _minutes(entry: tuple[str, dict[str, Any]] | None) -> str:
    if entry is None or not entry[1]["table"]:
        return ""
    folder, result = entry
    rows = ["| arm | kNN | linear | images seen |", "|---|---:|---:|---:|"]
    for arm, found in sorted(result["table"].items(), key=lambda item: -item[1]["knn"]["mean"]):
        cells = f"{_cell(found['knn'], 1)} | {_cell(found['linear'], 1)} | {found['images']['mean']:,.0f}"
        rows.append(f"| {arm} | {cells} |")
    s = result["settings"]
    told = (
        f"{s['method']}, {s['minutes']:g} minutes of training each, ResNet-18, {s['data']}. The peers have their "
        f"published settings for CIFAR-10, `swell` its preset for short budgets, `swell-as-lightly` the batch, views, "
        f"heads and rate of lightly, with Nesterov's momentum. Features of whole images, one probe for all. Per cent of the test images right. {result['device']}. "
        f"From `{folder}`."
    )
    return "\n".join([*rows, "", told])


def _shown(peer: str) -> str:
    return peer.replace(" on", ", on")


def _cell(found: dict[str, Any], digits: int) -> str:
    return f"{found['mean']:.{digits}f}" + ("" if found["sd"] is None else f" ± {found['sd']:.{digits}f}")
