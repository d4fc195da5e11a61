"""The scores of one run as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summary(result: Mapping[str, Any], run: Path) -> str:
    """A line for the encoder and for each baseline, then for the probes that were asked for beside the first."""
    lines = []
    if "linear" in result:
        lines += [_probe_line("encoder", result)]
        lines += [_probe_line(name, value) for name, value in result.get("baselines", {}).items()]
    if bag := result.get("bag_of_features"):
        lines.append(_bag_line(bag))
    if dense := result.get("dense"):
        lines += _dense_lines(dense)
    if tuned := result.get("finetune"):
        lines.append(_finetune_line(tuned))
    return "\n".join([*lines, f"look at {run / 'report.html'}"])


def _probe_line(name: str, r: Mapping[str, Any]) -> str:
    few = r["few_shot"]
    return (
        f"{name:12s} 1-shot {100 * few['1']:5.1f}  10-shot {100 * few['10']:5.1f}"
        f"  kNN {100 * r['knn']['accuracy']:5.1f}"
        f"  linear {100 * r['linear']['accuracy']:5.1f}  NMI {100 * r['clusters']['nmi']:5.1f}"
    )


def _bag_line(r: Mapping[str, Any]) -> str:
    scores = [
        f"{shown} {100 * r[name]['accuracy']:.1f}" + (f" +- {100 * r['sd'][name]:.1f}" if r["sd"][name] else "")
        for name, shown in (("knn", "kNN"), ("linear", "linear"))
    ]
    cost = f"{r['forwards_per_sample']} forwards and {r['flops_per_sample'] / 1e9:.3g} GFLOP a sample"
    return f"encoder, {r['patches']} patches ({r['mode']}): {'  '.join(scores)}; {cost}"


def _dense_lines(r: Mapping[str, Any]) -> list[str]:
    height, width = r["grid"]
    test = r["test"]
    what = f"{test['tiles']} x {test['tiles']} mosaics" if test["source"] == "mosaics" else "masks"
    lines = [f"every pixel of {r['n_test']:,} {what}, by the encoder's {height} x {width} cells:"]
    for name, own in {"encoder": r, **r.get("baselines", {}), "all cells right": r["ceiling"]}.items():
        lines.append(f"{name:15s} mean IoU {100 * own['miou']:5.1f}  accuracy {100 * own['accuracy']:5.1f}")
    return lines


def _finetune_line(r: Mapping[str, Any]) -> str:
    text = f"fine-tuned on {r['n_labels']:,} labels for {r['steps']:,} steps: accuracy {100 * r['accuracy']:.1f}"
    scratch = r.get("from_scratch")
    return text + (f", from scratch {100 * scratch['accuracy']:.1f}" if scratch else "")
