from __future__ import annotations

import math

import pytest

from swell.report.glossary import hint_for
from swell.report.tables import Column, Table, best_cells, count, memory, seconds, show


def shown(rows, **column):
    table = show(Table("t", [Column("name", "Arm"), Column("x", "x", **column)], rows))
    return [row[1] for _, group in table.groups for row in group]


def column(values, **options):
    return shown([{"name": str(i), "x": value} for i, value in enumerate(values)], **options)


def test_ties_within_one_pooled_sd_are_crowned_together():
    # pooled sd of 1 and 2 is sqrt(2.5) = 1.58
    assert best_cells([(90.0, 1.0), (88.5, 2.0), (88.3, 2.0), (80.0, 9.0)], "high") == {0, 1}
    assert best_cells([(3.0, 0.0), (2.0, 0.0), None, (math.nan, 0.0)], "low") == {1}


def test_nothing_is_crowned_without_a_contest():
    assert best_cells([(5.0, 1.0)], "high") == set()
    assert best_cells([(5.0, 1.0), (5.0, 0.0), None], "high") == set()
    assert best_cells([], "low") == set()


def test_what_reads_the_same_is_marked_the_same():
    cells = column([81.04, 81.01, 70.0], unit="%")
    assert [(c.text, c.best) for c in cells] == [("81.0", True), ("81.0", True), ("70.0", False)]
    assert not any(c.best for c in column([81.04, 81.01], unit="%"))


def test_a_column_without_direction_has_no_best():
    assert not any(c.best for c in column([1.0, 2.0], better=None))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        ((80.62, 1.18), "%", "80.6 ± 1.2"),
        (0.8062, "share", "80.6 ± "),
        (1.23e6, "count", "1.2 M ± "),
        (3.4e12, "flop", "3.4 TFLOP ± "),
        (512 * 2**20, "bytes", "512 MiB ± "),
        (65.0, "s", "1:05 ± "),
        ((80.0, math.nan), "%", "80.0 ± "),
        (-0.123, "", "−0.123 ± "),
        (math.nan, "%", "– ± "),
        (None, "count", "– ± "),
        ("see note", "%", "see note ± "),
    ],
)
def test_numbers_are_written_for_people(value, unit, text):
    (cell,) = column([value], unit=unit)
    assert f"{cell.text} ± {cell.spread}" == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1.0 k"),
        (51_200, "51.2 k"),
        (102_400, "102 k"),
        (999_990, "1.0 M"),
        (2e21, "2000 E"),
    ],
)
def test_count(value, text):
    assert count(value) == text


def test_memory_and_seconds():
    assert [memory(v) for v in (0, 1023, 1024, 1.5 * 2**30)] == ["0 B", "1023 B", "1 KiB", "1.5 GiB"]
    assert [seconds(v) for v in (0, 0.348, 9.6, 59.6, 3725)] == ["0 s", "0.35 s", "10 s", "1:00", "1:02:05"]


def test_a_column_has_one_number_of_decimals():
    assert [c.text for c in column([1.0, 12.345, 0.5])] == ["1.0", "12.3", "0.5"]
    assert [c.text for c in column([3.0, 12.0])] == ["3", "12"]


def test_groups_follow_the_ungrouped_rows_and_compete_with_them():
    rows = [{"name": "pixels", "group": "Baselines", "x": 9.0}, {"name": "ours", "x": 8.0}]
    table = show(Table("t", [Column("name", "Arm"), Column("x", "x")], rows))
    assert [(heading, rows[0][0].text) for heading, rows in table.groups] == [("", "ours"), ("Baselines", "pixels")]
    assert table.groups[1][1][0][1].best
    assert not table.groups[0][1][0][1].best


def test_glossary():
    assert "only 1 labelled example of each class" in hint_for("few_shot_1")
    assert hint_for("shot_10") == hint_for("10-shot") != hint_for("few_shot_1")
    assert hint_for("unheard_of") == ""
    table = Table("t", [Column("knn", "k-NN", hint="mine"), Column("linear", "Linear"), Column("z", "z")], [])
    assert show(table).hints == [("k-NN", "mine"), ("Linear", hint_for("linear"))]
