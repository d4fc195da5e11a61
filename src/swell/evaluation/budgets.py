"""Budgets of a comparison: how far apart the arms' costs are, and which of them may be called equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swell.errors import InputError

BUDGETS = {
    "seconds": "seconds",
    "flops": "FLOPs",
    "views": "views",
    "samples": "samples",
    "forwards": "student forwards",
    "teacher_forwards": "teacher forwards",
    "pixels": "pixels",
    "steps": "steps",
}
ALSO_CALLED = {"patches": "views"}  # as recipes call them
CHOSEN_FROM = ("seconds", "flops", "views", "samples")  # in this order, where nobody chose
TOLERANCE = 0.05  # by how much the largest may exceed the smallest of what counts as equal


def equality(costs: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """How far apart the arms' mean costs are; `ratio` is None where the smallest is 0."""
    most, least = max(costs, key=lambda c: c[1]), min(costs, key=lambda c: c[1])
    ratio = most[1] / least[1] if least[1] else None
    equal = most[1] == least[1] or (ratio is not None and ratio <= 1 + TOLERANCE)
    return {"equal": equal, "ratio": ratio, "most": most[0], "least": least[0], "max": most[1], "min": least[1]}


def pick_basis(budget: str | None, budgets: Mapping[str, Mapping[str, Any]], chosen_from: Sequence[str]) -> str | None:
    """The budget to rank at: `budget`, or where nobody asked for one the first equal one of `chosen_from`, if any.

    Raises:
        InputError: where `budget` is given and not equal.
    """
    if budget is None:
        return next((name for name in chosen_from if budgets[name]["equal"] and budgets[name]["max"]), None)
    told = budgets[budget]
    if told["equal"] and told["max"]:
        return budget
    equal = [name for name, other in budgets.items() if other["equal"] and other["max"]]
    raise InputError(
        f"--budget {budget} ({_apart(budget, told) if told['max'] else f'no run had any {BUDGETS[budget]}'})",
        f"a budget equal within {100 * TOLERANCE:.0f} % over all arms",
        f"equal here: {', '.join(equal)}" if equal else "leave it out for a table without ranks",
    )


def _apart(name: str, told: Mapping[str, Any]) -> str:
    if told["ratio"] is None:
        return f"{told['least']} had no {BUDGETS[name]}, {told['most']} {told['max']:,.0f}"
    return f"{told['most']} had {told['ratio']:.3g} times the {BUDGETS[name]} of {told['least']}"


def all_apart(result: Mapping[str, Any]) -> str:
    """`a had 3.1 times the FLOPs and 2 times the views of b`, over all budgets that nobody needs to ask for."""
    skipped = "seconds" if result["machines_differ_in"] else ""
    between: dict[tuple[str, str], list[str]] = {}
    for name in CHOSEN_FROM:
        if name != skipped:
            told = result["budgets"][name]
            words = f"{told['ratio']:.3g} times the {BUDGETS[name]}"
            between.setdefault((told["most"], told["least"]), []).append(words)
    clauses = [f"{most} had {listed(words)} of {least}" for (most, least), words in between.items()]
    return "; ".join(clauses + ["seconds of different machines do not compare"] * bool(skipped))


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
