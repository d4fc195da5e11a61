"""The label-free scores of one encoder, each with its direction and what it is known to get wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from swell.evaluation.scores import SCORES, Score
from swell.report.tables import Column, Table

COLUMNS = [
    Column("name", "score", better=None),
    Column("value", "value", better=None),
    Column("direction", "better is", better=None),
    Column("favours", "leans towards", "The views it preferred on every set it was measured on.",
           better=None),
    Column("failure", "known failure", better=None),
]  # fmt: skip


def label_free_table(found: Mapping[str, Any]) -> Table:
    """`found`: what evaluation.json holds under label_free; null for a score that these features do not have."""
    rows = [
        {
            "name": name.replace("_", " "),
            "value": "none" if _missing(found[name]) else f"{found[name]:.4g}",
            "direction": _direction(score),
            "favours": f"{score.favours} views" if score.favours else "varies",
            "failure": score.failure,
        }
        for name, score in SCORES.items()
        if name in found
    ]
    note = (
        f"Of {found['rows']:.0f} samples under views that follow from the data. They compare between encoders of "
        "equally many features on equal data only, and none of them alone says which is better."
    )
    return Table("What do the features look like without labels?", COLUMNS, rows, note)


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _direction(score: Score) -> str:
    if score.best_at is not None:
        return f"near {score.best_at:g}"
    return "high" if score.higher_is_better else "low"
