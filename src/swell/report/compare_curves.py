"""Accuracy against cost while the runs of a comparison were under way, and which arms are worth what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swell.evaluation.budgets import BUDGETS
from swell.evaluation.compare import BY
from swell.evaluation.curves import ALONG
from swell.report.page import Charts
from swell.report.svg import Chart, Series
from swell.report.tables import Cell, Column, Table, count, seconds

DRAWN = ("seconds", "flops", "views")  # the cost that a curve is drawn against


def curve_charts(result: Mapping[str, Any]) -> list[Chart]:
    """The mean score over seeds against the mean cost, at each share of the budget that all runs of an arm kept."""
    curves = result.get("curves")
    if not curves:
        return []
    by = result["by"]
    return [
        Chart(
            f"{BY[by].capitalize()} against {ALONG[along]}",
            ALONG[along],
            f"{BY[by]}, %",
            [_mean_curve(name, runs, along, by) for name, runs in curves["points"].items()],
            note="Each point is the encoder at a share of its budget, probed after the run had ended; mean over seeds. "
            + (
                "" if along == "views" else "What a generator cost comes first, so its arms begin further to the right."
            ),
        )
        for along in DRAWN
    ]


def curve_section(result: Mapping[str, Any]) -> list[Charts]:
    """The charts as a section of the page; nothing without curves."""
    explain = (
        "How soon each arm became good. Further to the left at the same height means: as good for less. Curves that "
        "cross mean that the better arm depends on what you can spend."
    )
    charts = curve_charts(result)
    return [Charts("way", "Accuracy on the way", explain, charts)] if charts else []


def cost_section(result: Mapping[str, Any]) -> Charts:
    """What the arms are worth, the Pareto front among them; then every run against each cost that was not equal."""
    apart = [key for key in BUDGETS if result["budgets"][key]["max"] and not result["budgets"][key]["equal"]]
    keys = [key for key in apart if not (_has_front(result) and _in_front(result, key))]
    fronts = [_front_chart(result, key) for key in ("seconds", "flops")] if _has_front(result) else []
    explain = (
        "Up is better, left is cheaper; an arm that lies higher only because it lies further to the right has bought "
        "its lead. In the charts of single runs each dot is one of them."
    )
    return Charts("costs", "Accuracy against cost", explain, [*fronts, *(_run_chart(result, key) for key in keys)])


def _has_front(result: Mapping[str, Any]) -> bool:
    return len(result["arms"]) > 1 and "front" in result


def _in_front(result: Mapping[str, Any], key: str) -> bool:
    """Whether the chart of this cost would show what that of the front shows already: single runs, no generator."""
    arms = result["arms"]
    return key in ("seconds", "flops") and all(arm["n"] == 1 and arm["costs"][key] == arm["spent"][key] for arm in arms)


def _front_chart(result: Mapping[str, Any], key: str) -> Chart:
    by, arms = result["by"], result["arms"]
    places = {arm["name"]: (arm["spent"][key], 100 * arm["scores"][by]["mean"]) for arm in arms}
    series = [Series(name, [x], [y], dots=True) for name, (x, y) in places.items()]
    front = [places[name] for name in result["front"][key]]
    if len(front) > 1:
        series.append(Series("Pareto front", [x for x, _ in front], [y for _, y in front]))
    words = ALONG[key]
    note = "Means of the arms, generator included. Below and to the right of the front there is always a better choice."
    return Chart(f"Best for the {'time' if key == 'seconds' else 'arithmetic'}", f"{words} in all", f"{BY[by]}, %",
                 series, note=note)  # fmt: skip


def _run_chart(result: Mapping[str, Any], key: str) -> Chart:
    by, series = result["by"], []
    for arm in result["arms"]:
        runs = [run for run in result["runs"] if run["arm"] == arm["name"]]
        x, y = [run["costs"][key] for run in runs], [100 * run["scores"][by] for run in runs]
        series.append(Series(arm["name"], x, y, dots=True))
    title = BUDGETS[key][0].upper() + BUDGETS[key][1:]
    return Chart(title, BUDGETS[key], f"{BY[by]}, %", series)


def _mean_curve(name: str, runs: Sequence[Mapping[str, Any]], along: str, by: str) -> Series:
    found = [{point["share"]: point for point in run["points"]} for run in runs]
    shares = [share for share in found[0] if all(share in points for points in found)]
    x = [sum(points[share]["costs"][along] for points in found) / len(found) for share in shares]
    y = [100 * sum(points[share]["scores"][by] for points in found) / len(found) for share in shares]
    return Series(name, x, y)


def way_tables(result: Mapping[str, Any]) -> list[Table]:
    """The Pareto front; scores at equal cost, read off the curves; cost to what the baseline reached."""
    tables = [_front_table(result)] if _has_front(result) else []
    curves = result.get("curves")
    if curves and len(result["arms"]) > 1:
        tables += [_at_equal_table(result, curves), _to_baseline_table(result, curves)]
    return tables


def _front_table(result: Mapping[str, Any]) -> Table:
    score = BY[result["by"]]
    rows: list[dict[str, Cell]] = [
        {
            "name": arm["name"],
            "score": _percent(arm["scores"][result["by"]]),
            "all_seconds": arm["spent"]["seconds"],
            "on_seconds": "yes" if arm["name"] in result["front"]["seconds"] else "no",
            "all_flops": arm["spent"]["flops"],
            "on_flops": "yes" if arm["name"] in result["front"]["flops"] else "no",
        }
        for arm in result["arms"]
    ]
    hint = "yes: no other arm had more accuracy for as little."
    columns = [
        Column("name", "arm", better=None),
        Column("score", score, unit="%", better=None),
        Column("all_seconds", "time in all", "Pre-training and, where there is one, the generator.", "s", None),
        Column("on_seconds", "on the front in time", hint, better=None),
        Column("all_flops", "FLOPs in all", "The same, generator included.", "flop", None),
        Column("on_flops", "on the front in FLOPs", hint, better=None),
    ]
    note = (
        "The Pareto front of mean accuracy against mean cost, generator included. An arm that is not on it was beaten "
        "in both by some other; whether by more than chance, the table above tells."
    )
    return Table("Which arms are worth their cost?", columns, rows, note)


def _at_equal_table(result: Mapping[str, Any], curves: Mapping[str, Any]) -> Table:
    known = {along: told for along, told in curves["at_equal"].items() if told is not None}
    rows: list[dict[str, Cell]] = [
        {"name": arm["name"], **{f"at_{key}": _percent(told["scores"][arm["name"]]) for key, told in known.items()}}
        for arm in result["arms"]
    ]
    columns = [
        Column(f"at_{key}", f"at {_amount(key, told['cost'])}", unit="%", better=None) for key, told in known.items()
    ]
    note = (
        f"{BY[result['by']].capitalize()} where every arm had spent the same, generator included: the most that all of "
        "them reached. An arm read before its end has not finished its schedule, which counts against it."
    )
    return Table("Who leads at equal cost?", [Column("name", "arm", better=None), *columns], rows, note)


def _to_baseline_table(result: Mapping[str, Any], curves: Mapping[str, Any]) -> Table:
    told = curves["to_baseline"]
    rows: list[dict[str, Cell]] = []
    for arm in result["arms"]:
        own = {along: told[along][arm["name"]] for along in ALONG}
        reached = own["steps"]["reached"]
        rows.append(
            {
                "name": arm["name"],
                "reached": f"{reached} of {own['steps']['of']}",
                **{f"to_{along}": _cost(along, value) for along, value in own.items()},
            }
        )
    columns = [
        Column("name", "arm", better=None),
        Column("reached", "runs that got there", better=None),
        *(Column(f"to_{along}", words, better=None) for along, words in ALONG.items()),
    ]
    title = f"What did it take to reach a {BY[result['by']]} of {100 * told['score']:.1f} %?"
    note = (
        f"What {told['arm']}, the baseline, had at its end, seed by seed. Between points a curve is a straight line; "
        "mean over seeds."
    )
    return Table(title, columns, rows, note)


def _amount(along: str, value: float) -> str:
    if along == "seconds":
        return seconds(value)
    return count(value, "FLOP") if along == "flops" else f"{count(value)} {ALONG[along]}"


def _cost(along: str, value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return "–"
    told = seconds(value["mean"]) if along == "seconds" else count(value["mean"], "FLOP" if along == "flops" else "")
    return told if not value["sd"] else f"{told} ± {100 * value['sd'] / value['mean']:.0f} %"


def _percent(value: Mapping[str, Any]) -> Cell:
    if value["mean"] is None or math.isnan(value["mean"]):
        return None
    return 100 * value["mean"] if value["sd"] is None else (100 * value["mean"], 100 * value["sd"])
