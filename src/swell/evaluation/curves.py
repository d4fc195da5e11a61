"""Accuracy against cost while a run was under way: its snapshots, each judged by the one probe after the run has ended.

    points of one run:  (cost so far, accuracy so far), ..., (cost of the run, its accuracy)

What a generator cost counts from the first point on, so the curve of an inflated arm begins further to the right.
Between points both are taken to grow along a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation.arms import SCORES, Row
from swell.evaluation.evaluate import same_classes
from swell.evaluation.probe import PROBE, probe
from swell.evaluation.statistics import summarise
from swell.files import read_json, write_json
from swell.ledger import Cost, timed
from swell.run import Run, labels_fingerprint
from swell.training.snapshots import read_snapshots

CURVE = "curve.json"  # in RUN
FORMAT = "swell-curve-1"
ALONG = {  # what a curve is drawn against, and read at
    "steps": "steps",
    "samples": "samples",
    "views": "views",
    "flops": "FLOPs",
    "seconds": "seconds",
}

Point = dict[str, Any]  # "share", "costs" by the keys of ALONG, "scores" by those of SCORES


def probe_snapshots(run: Run, train: Source, test: Source) -> list[Point]:
    """Probe every snapshot of the finished `run` on labelled samples, as `swell evaluate` probes its encoder; write
    and return the points. Those that are known already are kept.

    Raises:
        InputError: damaged snapshots or labels that do not fit.
    """
    same_classes(train, test)
    assert train.labels is not None  # same_classes() of sources opened with labels
    assert test.labels is not None
    labels = labels_fingerprint(train, test)
    judged_on = {"probe": PROBE, "train": train.fingerprint, "test": test.fingerprint, "labels": labels}
    path = run.path / CURVE
    known = read_json(path) if path.is_file() else {}
    points: list[Point] = known.get("points", []) if known.get("judged_on") == judged_on else []
    encoder, cost = None, Cost(**known["cost"]) if points else Cost()
    for snapshot in read_snapshots(run.path):
        if any(point["share"] == snapshot.share for point in points):
            continue
        encoder = deepcopy(run.encoder) if encoder is None else encoder
        with timed(cost):
            try:
                encoder.load_state_dict(snapshot.weights())
            except RuntimeError:
                given = f"{snapshot.path} (weights of another net than encoder.json)"
                raise InputError(given, "the snapshot swell wrote", "delete it") from None
            x, y = encoder.encode(train.samples), encoder.encode(test.samples)
            found = probe(x, train.labels, y, test.labels)
        cost.forwards += len(train) + len(test)
        made, own = snapshot.generator, snapshot.pretraining
        costs = {
            "steps": snapshot.step,
            "samples": own.samples_real + own.samples_generated,
            "views": own.views,
            "flops": own.flops + made.flops,
            "seconds": own.seconds + made.seconds,
        }
        points.append({"share": snapshot.share, "costs": costs, "scores": scores_of(found)})
        told = {"format": FORMAT, "judged_on": judged_on, "cost": vars(cost), "points": points}
        write_json(path, told)
    return points


def scores_of(found: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a probe's result by the names a comparison has for them."""
    values: dict[str, float] = {}
    for name, keys in SCORES.items():
        value: Any = found
        for key in keys:
            value = value[key]
        values[name] = float(value)
    return values


def read_curve(row: Row) -> list[Point]:
    """The points of a run, its end among them; nothing where it kept no snapshots or was judged by another test since.

    Raises InputError when the file is damaged.
    """
    path = Path(row.path) / CURVE
    if not path.is_file():
        return []
    told, evaluation = read_json(path), row.evaluation
    try:
        data = {key: evaluation["data"].get(key) for key in ("train", "test", "labels")}
        judged_on = {"probe": evaluation["probe"], **data}
        if told["judged_on"] != judged_on:
            return []
        points: list[Point] = [
            {
                "share": float(point["share"]),
                "costs": {key: float(point["costs"][key]) for key in ALONG},
                "scores": {key: float(point["scores"][key]) for key in SCORES},
            }
            for point in told["points"]
        ]
        end = {key: float(row.spent[key]) for key in ALONG}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} ({error!r})", "the curve as swell wrote it", "delete it") from None
    last = {"share": 1.0, "costs": end, "scores": {key: row.scores[key] for key in SCORES}}
    return [*sorted(points, key=lambda point: point["share"]), last] if points else []


def read_at(points: Sequence[Point], along: str, cost: float, by: str) -> float:
    """The score `by` at `cost`, between points on a straight line; NaN before the first and after the last."""
    for before, after in pairwise(points):
        low, high = before["costs"][along], after["costs"][along]
        if low <= cost <= high:
            share = (cost - low) / (high - low) if high > low else 1.0
            return before["scores"][by] + share * (after["scores"][by] - before["scores"][by])
    return math.nan


def cost_to(points: Sequence[Point], along: str, target: float, by: str) -> float:
    """The cost at which the score `by` first reached `target`; NaN where it never did, the first cost where it had by
    then."""
    for i, point in enumerate(points):
        score = point["scores"][by]
        if score >= target:
            if i == 0:
                return float(point["costs"][along])
            before = points[i - 1]
            share = (target - before["scores"][by]) / (score - before["scores"][by])
            return float(before["costs"][along] + share * (point["costs"][along] - before["costs"][along]))
    return math.nan


def along_the_way(arms: Mapping[str, Sequence[Row]], by: str) -> dict[str, Any] | None:
    """All that the curves of several arms tell, or None where a run has none or `by` is not the probe's.

    - "points": of every run.
    - "at_equal": for each of `ALONG` the largest cost that every run reached, and the arms' scores there. An arm that
      is read before its end has not finished its schedule.
    - "to_baseline": for each of them the cost at which each arm reached what the first arm, the baseline, had at its
      end with the same seed, or on average where it has no such seed; "reached" of its runs did, and the mean is over
      all of them or None.
    """
    curves = {name: [read_curve(row) for row in rows] for name, rows in arms.items()}
    if by not in SCORES or not all(points for runs in curves.values() for points in runs):
        return None
    every = [points for runs in curves.values() for points in runs]
    baseline = next(iter(arms))
    ends = {row.recipe.seed: row.scores[by] for row in arms[baseline]}
    usual = summarise([*ends.values()])[0]
    targets = {name: [ends.get(row.recipe.seed, usual) for row in rows] for name, rows in arms.items()}
    return {
        "points": {
            name: [{"seed": row.recipe.seed, "points": points} for row, points in zip(rows, curves[name], strict=True)]
            for name, rows in arms.items()
        },
        "at_equal": {along: _at_equal(curves, every, along, by) for along in ALONG},
        "to_baseline": {
            "arm": baseline,
            "score": usual,
            **{along: {name: _reached(curves[name], along, targets[name], by) for name in arms} for along in ALONG},
        },
    }


def _at_equal(
    curves: Mapping[str, Sequence[Sequence[Point]]], every: Sequence[Sequence[Point]], along: str, by: str
) -> dict[str, Any] | None:
    common = min(points[-1]["costs"][along] for points in every)
    found = {name: [read_at(points, along, common, by) for points in runs] for name, runs in curves.items()}
    if any(math.isnan(score) for scores in found.values() for score in scores):
        return None  # one arm had spent more by its first snapshot than another in all
    return {"cost": common, "scores": {name: _told(scores) for name, scores in found.items()}}


def _reached(runs: Sequence[Sequence[Point]], along: str, targets: Sequence[float], by: str) -> dict[str, Any]:
    costs = [cost_to(points, along, target, by) for points, target in zip(runs, targets, strict=True)]
    known = [cost for cost in costs if not math.isnan(cost)]
    mean, sd = summarise(known) if len(known) == len(costs) else (None, None)
    return {"reached": len(known), "of": len(costs), "mean": mean, "sd": sd}


def _told(values: Sequence[float]) -> dict[str, float | None]:
    mean, sd = summarise(values)
    return {"mean": mean, "sd": sd}
