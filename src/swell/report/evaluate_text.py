"""The scores of one run as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def summary(result: Mapping[str, Any], run: Path) -> str:
    """A line for the encoder and for each baseline, then for what was asked for beside the probe, then the same for
    each further data set.
    """
    lines = _labelled_lines(result) if "linear" in result else []
    if bag := result.get("bag_of_features"):
        lines.append(_bag_line(bag, result["encoding"]))
    lines += [_ood_line(found) for found in result.get("ood", [])]
    if dense := result.get("dense"):
        lines += _dense_lines(dense)
    if tuned := result.get("finetune"):
        lines.append(_finetune_line(tuned))
    for found in result.get("transfer", []):
        lines += ["", f"transfer to {found['name']}", *_labelled_lines(found)]
    return "\n".join([*lines, f"look at {run / 'report.html'}"])


def _labelled_lines(result: Mapping[str, Any]) -> list[str]:
    """What is said of one labelled data set."""
    lines = [_probe_line("encoder", result)]
    lines += [_probe_line(name, value) for name, value in result.get("baselines", {}).items()]
    c = result["calibration"]
    lines.append(
        f"linear {_with_interval(result['linear'])} over {result['n_test']:,} test samples; it is {_sure(c)}"
        f" (ECE {100 * c['ece']:.1f}, by chance {100 * c['ece_by_chance']['mean']:.1f})"
    )
    if few := result.get("few_labels"):
        parts = [
            f"{budget if budget.endswith('%') else f'{budget} a class'} ({own['n_labels']:,}) {_with_sd(own)}"
            for budget, own in few["budgets"].items()
        ]
        lines.append(f"linear with few labels: {'  '.join(parts)}")
    if found := result.get("retrieval"):
        recall = "  ".join(f"recall@{k} {100 * value:.1f}" for k, value in found["recall"].items())
        lines.append(f"retrieval: mAP {_points(found['map'], found['interval'])}  {recall}")
    if hurt := result.get("corruptions"):
        lines += _corruption_lines(hurt)
    return lines


def _sure(c: Mapping[str, Any]) -> str:
    if c["ece"] <= c["ece_by_chance"]["p95"]:
        return "as sure of itself as it is right"
    by = 100 * abs(c["overconfidence"])
    return f"{by:.1f} points too {'sure' if c['overconfidence'] > 0 else 'modest'} on average"


def _points(value: float, interval: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _with_interval(r: Mapping[str, Any]) -> str:
    return _points(r["accuracy"], r["interval"])


def _with_sd(r: Mapping[str, Any]) -> str:
    return f"{100 * r['accuracy']:.1f}" + (f" +- {100 * r['sd']:.1f}" if r["sd"] is not None else "")


def _corruption_lines(r: Mapping[str, Any]) -> list[str]:
    kept = r["retained"]["linear"]
    share = "" if kept is None else f", {100 * kept:.0f} % of the clean accuracy"
    lines = [f"corrupted test samples: linear {100 * r['mean']['linear']['accuracy']:.1f} on average{share}"]
    for name in r["settings"]["amounts"]:
        parts = [f"{each['amount']:.3g}: {100 * each['linear']['accuracy']:5.1f}" for each in r[name]]
        lines.append(f"  {name:12s} {'  '.join(parts)}")
    return lines


def _ood_line(r: Mapping[str, Any]) -> str:
    auroc, fpr = _points(r["auroc"], r["interval"]), 100 * r["fpr95"]
    return f"told from {r['name']}: AUROC {auroc}, {fpr:.1f} % pass where 95 % of the test samples do"


def _probe_line(name: str, r: Mapping[str, Any]) -> str:
    few = r["few_shot"]
    return (
        f"{name:12s} 1-shot {100 * few['1']:5.1f}  10-shot {100 * few['10']:5.1f}"
        f"  kNN {100 * r['knn']['accuracy']:5.1f}"
        f"  linear {100 * r['linear']['accuracy']:5.1f}  NMI {100 * r['clusters']['nmi']:5.1f}"
    )


def _bag_line(r: Mapping[str, Any], single: Mapping[str, Any]) -> str:
    scores = [
        f"{shown} {100 * r[name]['accuracy']:.1f}" + (f" +- {100 * r['sd'][name]:.1f}" if r["sd"][name] else "")
        for name, shown in (("knn", "kNN"), ("linear", "linear"))
    ]
    cost = f"{r['forwards_per_sample']} forwards and {r['flops_per_sample'] / 1e9:.3g} GFLOP a sample"
    whole = f"{single['flops_per_sample'] / 1e9:.3g} GFLOP"
    return f"encoder, {r['patches']} patches ({r['mode']}): {'  '.join(scores)}; {cost} (whole samples: 1, {whole})"


def _dense_lines(r: Mapping[str, Any]) -> list[str]:
    height, width = r["grid"]
    test = r["test"]
    what = f"{test['tiles']} x {test['tiles']} mosaics" if test["source"] == "mosaics" else "masks"
    lines = [f"every pixel of {r['n_test']:,} {what}, by the encoder's {height} x {width} cells:"]
    for name, own in {"encoder": r, **r.get("baselines", {}), "all cells right": r["ceiling"]}.items():
        lines.append(f"{name:15s} mean IoU {100 * own['miou']:5.1f}  accuracy {100 * own['accuracy']:5.1f}")
    return lines


def _finetune_line(r: Mapping[str, Any]) -> str:
    text = f"fine-tuned on {r['n_labels']:,} labels for {r['steps']:,} steps: accuracy {_with_interval(r)}"
    scratch = r.get("from_scratch")
    return text + (f", from scratch {100 * scratch['accuracy']:.1f}" if scratch else "")
