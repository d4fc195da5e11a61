"""The phases of an alternating run in its report: what trained, on which positives, and what was measured after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swell.report.tables import Cell, Column, Table

ENCODER_COLUMNS = [
    Column("name", "phase", better=None),
    Column("steps_done", "steps", "Steps of the encoder.", "count", None),
    Column("seconds", "time", "Time on the clock.", "s", None),
    Column("positives", "positives", "What the positive views show: the sample itself (views), a neighbour, or what "
           "the generator made of the sample.", "", None),
    Column("asked", "lambda", "Share of positives to come from there, at the end of the phase.", "share", None),
    Column("replaced", "realised", "Share that did, over the phase.", "share", None),
    Column("effective_rank", "directions", "How many directions the features of the same samples use; when it falls by "
           "half, the encoder is collapsing.", "", None),
    Column("spread", "spread", "How far features lie apart, as a share of their size: 0 is a single point.", "share",
           None),
    Column("drift", "drift", "How much the phase changed what lies beside what: 0 nothing, 1 everything (1 - CKA).", "",
           None),
]  # fmt: skip
_OF_USUAL = "As a share of the squared distance between any two samples, in the encoder's features."
GENERATOR_COLUMNS = [
    Column("name", "phase", better=None),
    Column("parameters", "parameters", "Trained numbers of the generator.", "count", None),
    Column("seconds", "training", "Time on the clock.", "s", None),
    Column("seconds_per_1000", "1,000 positives", "Time to make them.", "s", None),
    Column("to_anchor", "to their sample", f"How far positives lie from their own sample: 0 copies it. {_OF_USUAL}", "",
           None),
    Column("to_nearest", "to the nearest other", f"How far they lie from the nearest other sample. {_OF_USUAL}", "",
           None),
    Column("astray", "astray", "Share of positives nearer to another sample than to their own.", "share", None),
    Column("diversity", "diversity", f"How far two positives of one sample lie apart: 0 if there is but one. "
           f"{_OF_USUAL}", "", None),
    Column("drift", "moved", f"How far the positives moved since the round before. {_OF_USUAL}", "", None),
]  # fmt: skip


def phase_tables(lines: Sequence[Mapping[str, Any]], generator: str) -> list[Table]:
    """Tables of what `phases.jsonl` holds: none for a run without phases."""
    encoder = [_row(line, "encoder") for line in lines if line.get("trains") == "encoder"]
    made = [_row(line, generator) for line in lines if line.get("trains") == "generator"]
    tables = []
    if encoder:
        note = "All phases share one optimiser and one schedule."
        tables.append(Table("The encoder, phase by phase", ENCODER_COLUMNS, encoder, note))
    if made:
        tables.append(Table("The generator and its positives", GENERATOR_COLUMNS, made))
    return tables


def phase_notices(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The alarms of the run, one a sentence."""
    notices = []
    for line in lines:
        if line.get("alarm"):
            back = " It was gone back from, and repeated with hand-made views." if line.get("rolled_back") else ""
            notices.append(f"Phase {line['phase']}: {line['alarm']}.{back}")
    return notices


def _row(line: Mapping[str, Any], net: str) -> dict[str, Cell]:
    again = f", again ({line['attempt']})" if line["attempt"] > 1 else ""
    back = ", gone back from" if line.get("rolled_back") else ""
    in_code = line.get("in_code")
    numbers = {**line, **(in_code if isinstance(in_code, dict) else {})}
    row: dict[str, Cell] = {c.key: _cell(numbers.get(c.key)) for c in (*ENCODER_COLUMNS, *GENERATOR_COLUMNS)}
    by_hand = line.get("positives") == "views" or line["attempt"] > 1
    asked = None if by_hand else _cell(line.get("replace"))
    return {**row, "name": f"{line['phase']} {net}{again}{back}", "asked": asked}


def _cell(value: Any) -> Cell:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
