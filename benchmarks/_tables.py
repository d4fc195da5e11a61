"""What the tables of several benchmarks share: rows by arm, and means with their spread as cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

Newest = Callable[[str], tuple[str, dict[str, Any]] | None]  # name of a result -> its folder and content
MISSING = "Not measured yet."


def spread_cell(values: list[float], digits: int = 2) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f}" + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def mean_sd(pair: list[float | None]) -> str:
    mean, sd = pair
    return f"{mean:.1f}" + (f" ± {sd:.1f}" if sd is not None else "")


def by_arm(rows: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows `arm/seed` by arm."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for key, row in rows.items():
        if "/" in key:
            arms.setdefault(key.rpartition("/")[0], []).append(row)
    return arms
