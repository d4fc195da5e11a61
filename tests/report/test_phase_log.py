"""The phase log in a report: rows, gaps, alarms, and files that people have meddled with."""

from swell.report.phase_log import phase_notices, phase_tables
from swell.report.tables import show

LINES = [
    {"trains": "encoder", "phase": 1, "attempt": 1, "positives": "views", "replace": 0.0, "steps_done": 40,
     "seconds": 3.0, "replaced": 0.0, "effective_rank": 9.0, "spread": 0.8, "drift": 0.3, "alarm": ""},
    {"trains": "generator", "phase": 2, "attempt": 1, "seconds": 5.0, "parameters": 1000, "seconds_per_1000": 0.5,
     "in_code": {"to_anchor": 0.3, "to_nearest": 0.2, "astray": 0.4, "diversity": 0.1}, "drift": None, "alarm": ""},
    {"trains": "encoder", "phase": 3, "attempt": 1, "positives": "generated", "replace": 1.0, "steps_done": 60,
     "seconds": 4.0, "replaced": 0.74, "alarm": "the encoder has collapsed", "rolled_back": True},
    {"trains": "encoder", "phase": 3, "attempt": 2, "positives": "generated", "replace": 1.0, "steps_done": 60,
     "seconds": 4.0, "replaced": 0.0, "effective_rank": 8.0, "spread": 0.7, "drift": 0.1, "alarm": ""},
]  # fmt: skip


def texts(table):
    return [[cell.text for cell in row] for _, rows in show(table).groups for row in rows]


def test_every_phase_has_a_row_with_what_was_asked_and_what_was_realised():
    encoder, made = phase_tables(LINES, "conditional")
    rows = texts(encoder)
    assert [row[0] for row in rows] == ["1 encoder", "3 encoder, gone back from", "3 encoder, again (2)"]
    assert [row[4:6] for row in rows] == [["–", "0.0"], ["100.0", "74.0"], ["–", "0.0"]]
    assert rows[1][6] == "–"  # nothing was measured
    assert texts(made)[0][0] == "2 conditional"
    assert "–" not in texts(made)[0][:8]
    assert all(column.hint for table in (encoder, made) for column in table.columns[1:])


def test_alarms_are_told():
    (notice,) = phase_notices(LINES)
    assert notice.startswith("Phase 3: the encoder has collapsed. It was gone back from")


def test_a_run_without_phases_has_none_and_odd_lines_do_no_harm():
    assert phase_tables([], "vae") == []
    assert phase_notices([]) == []
    odd = {"trains": "generator", "phase": 1, "attempt": 1, "in_code": "x", "seconds": [1], "parameters": True}
    assert texts(phase_tables([odd], "vae")[0])[0][1:] == ["–"] * 8
