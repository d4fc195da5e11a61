"""The tables of docs/adapt.md, made from the newest adapt-regret result; `benchmarks/quote.py` puts them there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Newest = Callable[[str], tuple[str, dict[str, Any]] | None]
MISSING = "Not measured yet."


def regret_block(newest: Newest, name: str = "adapt-regret") -> str:
    """Points lost to the best configuration: choosers down, the least first, sets across."""
    entry = newest(name)
    if entry is None:
        return MISSING
    folder, result = entry
    sets = result["sets"]
    rows = [f"| chooser | mean | {' | '.join(sets)} |", f"|---|{'---:|' * (1 + len(sets))}"]
    for who, lost in sorted(result["regret"].items(), key=lambda item: mean(item[1].values())):
        cells = [f"{lost[data]:.1f}" + _choice(result["chosen"].get(who, {}), data) for data in sets]
        shown = f"**{who}**" if who == "swell" else who
        rows.append(f"| {shown} | {mean(lost.values()):.2f} | {' | '.join(cells)} |")
    best = ", ".join(f"{data} {_name(config)}" for data, config in result["best"].items())
    told = (
        f"Points of linear accuracy by which the chosen configuration (in brackets) is behind the best of {result['configurations']}, "
        f"means over {_seeds(result)} seeds. The best: {best}. From `{folder}`."
    )
    return "\n".join([*rows, "", told])


def search_block(newest: Newest) -> str:
    """What `swell adapt` chose on its defaults, what came of it, and what it cost: sets down, a row a seed."""
    entry = newest("adapt-search")
    if entry is None:
        return MISSING
    folder, result = entry
    rows = [
        "| set | chosen | its linear accuracy | none | AdaInf | search, FLOPs | search, seconds | final run, s | generator, s |",
        f"|---|---|{'---:|' * 7}",
    ]
    for key, row in result["rows"].items():
        accuracy = " | ".join(f"{row[f'{who}_linear']:.1f}" for who in ("adapted", "none", "adainf"))
        cost = f"{row['search_runs']:.2f} | {row['search_run_seconds']:.2f} | {row['none_seconds']:.0f} | {row['adapted_generator_seconds']:.0f}"
        rows.append(f"| {key.partition('/')[0]} | {row['chosen']} | {accuracy} | {cost} |")
    told = (
        f"One seed a row, {result['settings']['epochs']:g} epochs on all samples of a set; the search in units of the final run. "
        f"{result['device']}. From `{folder}`."
    )
    return "\n".join([*rows, "", told])


def tau_block(newest: Newest) -> str:
    """Kendall's tau of every score with the probe, and with the strength of the views."""
    entry = newest("adapt-regret")
    if entry is None:
        return MISSING
    folder, result = entry
    sets = result["sets"]
    rows = [f"| score | mean | {' | '.join(sets)} |", f"|---|{'---:|' * (1 + len(sets))}"]
    for score, by in sorted(result["tau"].items(), key=lambda item: -mean(item[1].values())):
        if by:
            lean = result["lean"][score]
            cells = " | ".join(f"{by[name]:+.2f}; {lean[name]:+.2f}" if name in by else "" for name in sets)
            rows.append(f"| {score} | {mean(by.values()):+.2f}; {mean(lean.values()):+.2f} | {cells} |")
    told = (
        f"Kendall's rank correlation, over the {result['configurations']} configurations of a set, of a score with the probe; and with "
        f"the strength of the views (above 0: it favours strong ones). Empty where a score has no meaning."
    )
    return "\n".join([*rows, "", f"{told} From `{folder}`."])


def inflation_block(newest: Newest, name: str = "adapt-regret") -> str:
    """The 2 x 2 x 2: what weak views, generated samples and their weight change, each alone and together."""
    entry = newest(name)
    if entry is None:
        return MISSING
    folder, result = entry
    sets, effects = result["sets"], result["effects"]
    rows = [f"| linear accuracy, points | {' | '.join(sets)} | all sets |", f"|---|{'---:|' * (1 + len(sets))}"]
    for what, over_all in result["effects_over_sets"].items():
        cells = [_interval(effects[data][what]) for data in sets]
        rows.append(f"| {what} | {' | '.join([*cells, _interval(over_all)])} |")
    told = (
        f"Differences paired by seed, mean [95 % interval of Student's t over {_seeds(result)} seeds; in the last column over the "
        f"{len(sets)} sets' means]. From `{folder}`."
    )
    return "\n".join([*rows, "", told])


def summary_block(newest: Newest) -> str:
    """What the README says of the choices, and of generated data under weak views."""
    entry, held_out = newest("adapt-regret"), newest("adapt-regret-held-out")
    if entry is None:
        return MISSING
    result = entry[1]
    effects, lost = result["effects_over_sets"], {who: mean(by.values()) for who, by in result["regret"].items()}
    told = (
        f"Measured on {len(result['sets'])} small sets, {result['configurations']} configurations, {_seeds(result)} seeds "
        f"([tables](docs/adapt.md#how-good-its-choices-are)): once views are weak on both sides, generated data at AdaInf's weight change "
        f"linear accuracy by {_interval(effects['weighted, weak views (AdaInf), over weak views alone'])} points, and AdaInf as a whole is at "
        f"{_interval(effects['AdaInf over none'])} against plain training. `swell adapt`'s rule loses {lost['swell']:.1f} points to the best "
        f"configuration in hindsight, AdaInf's fixed recipe {lost['adainf']:.1f}, plain training {lost['none']:.1f}"
    )
    if held_out is None:
        return f"{told}."
    other = {who: mean(by.values()) for who, by in held_out[1]["regret"].items()}
    helped = held_out[1]["effects_over_sets"]
    return (
        f"{told}. On {len(held_out[1]['sets'])} further sets, on which nothing of the rule was settled: generated data "
        f"{_interval(helped['weighted, weak views (AdaInf), over weak views alone'])}, AdaInf {_interval(helped['AdaInf over none'])}; the rule "
        f"loses {other['swell']:.1f}, AdaInf's recipe {other['adainf']:.1f}, plain training {other['none']:.1f}."
    )


def mean(values: Any) -> float:
    found = [v for v in values if v is not None and not math.isnan(v)]  # JSON has null for NaN
    return sum(found) / len(found) if found else math.nan


def _choice(chosen: dict[str, str], name: str) -> str:
    return f" ({_name(chosen[name])})" if name in chosen else ""


def _name(config: str) -> str:
    return config.replace("_", " ")


def _seeds(result: dict[str, Any]) -> str:
    counts = sorted(set(result["seeds"].values()))
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _interval(found: list[float | None]) -> str:
    middle, low, high = found
    return f"{middle:+.1f}" if low is None or math.isnan(low) else f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"
