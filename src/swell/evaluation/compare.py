"""A fair comparison of runs, as data: arms of seeds, costs, which budgets are equal, and ranks that claim no more than
the seeds carry.

Runs that differ in their seed only are one arm. Arms are ranked where they had an equal budget and nowhere else: nearly
every method looks better for more work. The rank of an arm is one more than the number of arms clearly better than
it, where clearly means that Student's test of the paired differences over their common seeds gives less than 0.05 after
Holm's correction for as many pairs as there are. So arms within noise of each other share a rank, and an arm of one run
has none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swell.errors import InputError, suggest
from swell.evaluation.arms import ALSO, SCORES, Row, arm_names, read_row
from swell.evaluation.budgets import (
    ALSO_CALLED,
    BUDGETS,
    CHOSEN_FROM,
    TOLERANCE,
    all_apart,
    equality,
    listed,
    pick_basis,
)
from swell.evaluation.curves import along_the_way
from swell.evaluation.pairs import compare_pairs
from swell.evaluation.protocol import refuse_other_protocol
from swell.evaluation.statistics import on_front, summarise

FORMAT = "swell-compare-2"
BY = {
    "linear": "linear accuracy",
    "knn": "kNN accuracy",
    "few_shot_1": "1-shot accuracy",
    "few_shot_10": "10-shot accuracy",
    "dense": "mean IoU of the dense probe",
    "finetune": "fine-tuned accuracy",
}


def compare_runs(
    paths: Sequence[Path | str],
    *,
    by: str = "linear",
    budget: str | None = None,
    across_data: bool = False,
    named: Sequence[str] | None = None,
    chosen_from: Sequence[str] = CHOSEN_FROM,
) -> dict[str, Any]:
    """What `compare.json` holds, from at least two RUN folders that were evaluated on the same data.

    Args:
        by: the score to rank by, one of `BY`; for dense and finetune all runs must have been evaluated so, and alike.
        budget: the cost that must be equal, one of `BUDGETS`; None takes the first equal one of `chosen_from`, and
            where there is none, nothing is ranked. Seconds of different machines are only taken when asked for.
        across_data: accept runs that were pre-trained on different real data.
        named: the arm of each path, by name; without, runs that differ in their seed only are one arm.

    Raises:
        InputError: for runs that cannot be read or do not compare, and for a `budget` that is not equal.
    """
    budget = ALSO_CALLED.get(budget or "", budget)
    for flag, value, known in (("--by", by, BY), ("--budget", budget, BUDGETS)):
        if value is not None and value not in known:
            raise InputError(f"{flag} {value}", f"one of {', '.join(known)}", suggest(value, known))
    if len(paths) < 2:
        raise InputError(f"{' '.join(map(str, paths))} alone", "at least two runs to compare", "name more RUN folders")
    _refuse_twice([(os.path.realpath(path), str(path)) for path in paths], "the same folder")
    rows = [read_row(path) for path in paths]
    _require_same_test(rows)
    _require_same_data(rows, across_data)
    arm_of = [row.arm for row in rows] if named is None else list(named)
    same = [((arm, row.recipe.seed), row.path) for arm, row in zip(arm_of, rows, strict=True)]
    _refuse_twice(same, "the same recipe and seed")
    keys = [*SCORES, *_also(rows, by)]
    found: dict[Hashable, list[Row]] = {}
    for arm, row in zip(arm_of, rows, strict=True):
        found.setdefault(arm, []).append(row)
    names = arm_names([group[0] for group in found.values()]) if named is None else [str(arm) for arm in found]
    groups = dict(zip(names, found.values(), strict=True))
    arms = [_arm(name, group, keys) for name, group in groups.items()]
    budgets = {name: equality([(arm["name"], arm["costs"][name]) for arm in arms]) for name in BUDGETS}
    machines = _machines(rows)
    usable = [name for name in chosen_from if not machines or name != "seconds"]
    basis = pick_basis(budget, budgets, usable) if len(arms) > 1 else None
    pairs: list[dict[str, Any]] = []
    if basis is not None:
        arms.sort(key=lambda arm: -arm["scores"][by]["mean"])
        pairs = compare_pairs(arms, groups, by, rows[0].evaluation["n_test"])
        _rank(arms, pairs)
    evaluation = rows[0].evaluation
    result = {
        "format": FORMAT,
        "by": by,
        "basis": basis,
        "tolerance": TOLERANCE,
        "probe": evaluation["probe"],
        "data": {
            "origin": evaluation["data"].get("origin"),
            **{key: evaluation["data"][key] for key in ("train", "test")},
            **{key: evaluation[key] for key in ("n_train", "n_test")},
            "pretrained_on": {row.data["real"]: row.origin("real") for row in rows},
        },
        "machine": rows[0].machine if not machines else None,
        "machines_differ_in": machines,
        "budgets": budgets,
        "arms": arms,
        "pairs": pairs,
        "front": {key: _front(arms, by, key) for key in ("seconds", "flops")},
        "curves": along_the_way(groups, by),
        "runs": [_run(row, name, keys) for name, group in groups.items() for row in group],
    }
    return {**result, "verdict": _verdict(result), "notices": _notices(result, rows)}


def _refuse_twice(keyed: Sequence[tuple[Hashable, str]], why: str) -> None:
    seen: dict[Hashable, str] = {}
    for key, path in keyed:
        if key in seen:
            raise InputError(f"{seen[key]} and {path} ({why})", "every run once", "leave one of them out")
        seen[key] = path


def _require_same_test(rows: Sequence[Row]) -> None:
    """Raises InputError for runs that were not judged by one and the same test."""

    def test(row: Row) -> dict[str, Any]:
        told = row.evaluation["data"]
        parts = {"training data": told["train"], "test data": told["test"], "labels": told.get("labels")}
        return parts | {key: row.evaluation.get(key) for key in ("n_train", "n_test", "n_classes")}

    first = test(rows[0])
    for row in rows[1:]:
        for key, value in test(row).items():
            if value != first[key]:
                raise InputError(
                    f"{row.path} (evaluated with other {key} than {rows[0].path}, {value} instead of {first[key]})",
                    "runs evaluated alike",
                    "run swell evaluate RUN DATA with the same DATA for each",
                )
        _refuse_other(rows[0], row)


def _refuse_other(first: Row, row: Row, by: str = "linear") -> None:
    refuse_other_protocol((first.path, first.evaluation), (row.path, row.evaluation), by=by)


def _require_same_data(rows: Sequence[Row], across_data: bool) -> None:
    first = rows[0]
    for row in rows[1:]:
        if row.data["real"] != first.data["real"] and not across_data:
            told = f"pre-trained on {row.origin('real')} {row.data['real']}, {first.path} on {first.origin('real')} "
            raise InputError(
                f"{row.path} ({told}{first.data['real']})",
                "runs pre-trained on the same data",
                "--across-data compares them all the same, and says so",
            )


def _also(rows: Sequence[Row], by: str) -> list[str]:
    """Those of `ALSO` that all runs have, on the same terms. Raises InputError where `by` is one that they have not."""
    found = []
    for name in ALSO:
        try:
            for row in rows:
                _refuse_other(rows[0], row, name)
        except InputError:
            if name == by:
                raise
        else:
            found.append(name)
    return found


def _machines(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """What differs among the machines, and the values there are."""
    values = {key: list({row.machine[key]: None for row in rows}) for key in rows[0].machine}
    return {key: several for key, several in values.items() if len(several) > 1}


def _run(row: Row, arm: str, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "path": row.path,
        "arm": arm,
        "seed": row.recipe.seed,
        "scores": {key: row.scores[key] for key in keys},
        "label_free": _label_free(row),
        "bag_of_features": row.evaluation.get("bag_of_features"),
        "costs": dict(row.costs),
        "machine": row.machine,
    }


def _label_free(row: Row) -> dict[str, float]:
    found = row.evaluation.get("label_free")
    items = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in items if isinstance(value, (int, float)) and math.isfinite(value)}


def _arm(name: str, rows: Sequence[Row], keys: Sequence[str]) -> dict[str, Any]:
    def summary(values: Sequence[float]) -> dict[str, float | None]:
        mean, sd = summarise(values)
        return {"mean": mean, "sd": sd}

    def mean(key: str) -> float | None:
        known = [value for row in rows if (value := row.costs[key]) is not None]
        return (max(known) if key == "memory" else sum(known) / len(known)) if known else None

    free = [_label_free(row) for row in rows]
    return {
        "name": name,
        "n": len(rows),
        "rank": None,
        "by_seed": {str(row.recipe.seed): {key: row.scores[key] for key in keys} for row in rows},
        "scores": {key: summary([row.scores[key] for row in rows]) for key in keys},
        "label_free": {key: summary([f[key] for f in free]) for key in free[0] if all(key in f for f in free)},
        "bag_of_features": _bag([row.evaluation.get("bag_of_features") for row in rows]),
        "costs": {key: mean(key) for key in rows[0].costs},
        "spent": {key: sum(row.spent[key] for row in rows) / len(rows) for key in ("seconds", "flops")},
        "settings": rows[0].settings,
        "runs": [row.path for row in rows],
    }


def _bag(found: Sequence[Any]) -> dict[str, Any] | None:
    """Accuracy of mean features of patches, where all runs of an arm have it of equal patches."""
    if None in found or len({(bag.get("patches"), bag.get("mode")) for bag in found}) > 1:
        return None
    accuracy = {key: summarise([bag[key]["accuracy"] for bag in found]) for key in ("knn", "linear")}
    return {
        **{key: found[0].get(key) for key in ("patches", "mode", "forwards_per_sample")},
        **{key: {"mean": mean, "sd": sd} for key, (mean, sd) in accuracy.items()},
    }


def _front(arms: Sequence[Mapping[str, Any]], by: str, key: str) -> list[str]:
    """The arms that no other beats in both the mean score and the mean cost, generator included; cheapest first."""
    costs = [arm["spent"][key] for arm in arms]
    kept = on_front(costs, [arm["scores"][by]["mean"] for arm in arms])
    return [arm["name"] for _, arm, on in sorted(zip(costs, arms, kept, strict=True), key=lambda x: x[0]) if on]


def _rank(arms: Sequence[dict[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> None:
    """Ranks for the arms of several runs: one more than the number of arms clearly better."""
    for arm in arms:
        if arm["n"] > 1:
            beaten = [p for p in pairs if p["clear"] and arm["name"] == (p["b"] if p["mean"] > 0 else p["a"])]
            arm["rank"] = 1 + len(beaten)


def _verdict(result: Mapping[str, Any]) -> str:
    """One sentence in plain words."""
    arms, by, basis = result["arms"], result["by"], result["basis"]
    score = BY[by]
    if len(arms) == 1:
        return f"All runs are one arm, {arms[0]['name']}, with a {score} of {_score(arms[0], by)}: nothing to rank."
    if basis is None:
        return f"No ranking, because the arms had no equal budget: {all_apart(result)}."
    at, top = f"At equal {BUDGETS[basis]}", [arm for arm in arms if arm["rank"] == 1]
    if sum(arm["rank"] is not None for arm in arms) < 2:
        first, second = arms[:2]
        return (
            f"{at} {first['name']} has the highest {score}, {_score(first, by)} against {_score(second, by)} of "
            f"{second['name']}, but single runs (n = 1) do not tell whether that is more than chance."
        )
    if len(top) > 1:
        names = listed([arm["name"] for arm in top])
        span = f"{100 * top[0]['scores'][by]['mean']:.1f} to {100 * top[-1]['scores'][by]['mean']:.1f} %"
        return f"{at} {names} share the first rank by {score} ({span}): no difference among them is clear of noise."
    best = top[0]
    others = [arm for arm in arms if arm["rank"] is not None and arm is not best]
    pair = next(p for p in result["pairs"] if {p["a"], p["b"]} == {best["name"], others[0]["name"]})
    text = f"{at} {best['name']} ranks first by {score}, {_score(best, by)}"
    if pair["low"] is None:
        return f"{text}."
    sign = 1 if pair["a"] == best["name"] else -1
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    return f"{text}, {sign * pair['mean']:+.1f} points [{low:+.1f}, {high:+.1f}] on {others[0]['name']}."


def _score(arm: Mapping[str, Any], by: str) -> str:
    mean, sd = arm["scores"][by]["mean"], arm["scores"][by]["sd"]
    return f"{100 * mean:.1f} %" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f} % (n = {arm['n']})"


def _notices(result: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What one must know before believing the table."""
    arms, basis, told = result["arms"], result["basis"], []
    origins = result["data"]["pretrained_on"]
    if len(origins) > 1:
        named = " and ".join(f"{origin} ({print_})" for print_, origin in origins.items())
        told.append(f"The runs were pre-trained on different data, {named}: differences may come from these alone.")
    if any(row.data["real"] == row.evaluation["data"]["test"] for row in rows):
        told.append("Some runs were pre-trained on the very test samples (without their labels).")
    if any(row.provenance.get("generated", {}).get("labels_used") for row in rows):
        told.append("Some generated samples were made with the help of labels: those runs are not label-free.")
    if different := result["machines_differ_in"]:
        facts = "; ".join(f"{key} {' or '.join(map(str, values))}" for key, values in different.items())
        told.append(f"Seconds do not compare: the runs are of different machines ({facts}).")
    versions = list({str(row.environment["packages"]["swell"]): None for row in rows})
    if len(versions) > 1:
        told.append(f"The runs were made by different versions of swell: {', '.join(versions)}.")
    if basis and any(arm["costs"]["generator_seconds"] for arm in arms):
        told.append(
            "The budget is of pre-training alone: what training the generator and sampling cost comes on top, and is "
            "told in a column of its own."
        )
    single = [arm["name"] for arm in arms if arm["n"] == 1]
    if single and len(arms) - len(single) > 1 and basis:
        told.append(f"No claim is made about arms of a single run (n = 1): {', '.join(single)}.")
    several = {arm["name"] for arm in arms if arm["n"] > 1}
    if strangers := [f"{p['a']} and {p['b']}" for p in result["pairs"] if p["n"] < 2 and {p["a"], p["b"]} <= several]:
        told.append(f"Fewer than two seeds in common, so no claim about the difference: {'; '.join(strangers)}.")
    return told
