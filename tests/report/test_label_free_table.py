"""The table of label-free scores in the report of a run."""

import math

from swell.report.label_free_table import label_free_table


def test_every_score_there_is_has_a_row_with_its_direction():
    table = label_free_table({"rows": 40.0, "alpha_req": None, "rankme": 12.345678, "acr": 0.25})
    rows = {row["name"]: row for row in table.rows}
    assert list(rows) == ["rankme", "alpha req", "acr"]
    assert (rows["rankme"]["value"], rows["rankme"]["direction"], rows["rankme"]["favours"]) == (
        "12.35",
        "high",
        "varies",
    )
    assert (rows["alpha req"]["value"], rows["alpha req"]["direction"]) == ("none", "near 1")
    assert (rows["acr"]["direction"], rows["acr"]["favours"]) == ("low", "varies")
    assert "40 samples" in table.note
    (lidar,) = label_free_table({"rows": 2.0, "lidar": math.nan}).rows
    assert (lidar["value"], lidar["favours"]) == ("none", "weak views")
