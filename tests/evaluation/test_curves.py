"""Accuracy against cost on the way: read between points, to a target, at equal cost, and what is refused."""

import json
import math

import pytest

from swell.errors import InputError
from swell.evaluation.arms import read_row
from swell.evaluation.compare import compare_runs
from swell.evaluation.curves import ALONG, cost_to, read_at, read_curve
from swell.report.compare_curves import curve_charts, way_tables
from swell.report.compare_page import render_comparison


def point(cost, score):
    return {"share": cost / 10, "costs": dict.fromkeys(ALONG, cost), "scores": {"linear": score}}


LINE = [point(2.0, 0.4), point(4.0, 0.6), point(8.0, 0.5), point(10.0, 0.9)]


def test_between_points_lies_a_straight_line_and_beyond_them_nothing():
    for cost, score in ((2, 0.4), (3, 0.5), (4, 0.6), (6, 0.55), (10, 0.9)):
        assert read_at(LINE, "seconds", cost, "linear") == pytest.approx(score)
    assert math.isnan(read_at(LINE, "seconds", 1.9, "linear"))
    assert math.isnan(read_at(LINE, "seconds", 10.1, "linear"))


def test_the_cost_to_a_target_is_that_of_the_first_crossing():
    for target, cost in ((0.3, 2), (0.5, 3), (0.6, 4), (0.7, 9)):
        assert cost_to(LINE, "flops", target, "linear") == pytest.approx(cost)
    assert math.isnan(cost_to(LINE, "flops", 0.91, "linear"))


def way(path, *scores, generator=0.0):
    """Give a run, of 10 s, 1e9 FLOPs, 1,280 views, 640 samples, 10 steps, a curve with points at half and three quarters."""
    evaluation = json.loads((path / "evaluation.json").read_text())
    judged = {"probe": evaluation["probe"], "train": "t1", "test": "t2", "labels": None}
    points = [
        {
            "share": share,
            "costs": {"steps": 10 * share, "samples": 640 * share, "views": 1280 * share, "flops": 1e9 * share,
                      "seconds": generator + 10 * share},
            "scores": {"few_shot_1": 0.1, "few_shot_10": 0.1, "knn": score, "linear": score, "nmi": 0.1},
        }
        for share, score in zip((0.5, 0.75), scores, strict=True)
    ]  # fmt: skip
    told = {"format": "swell-curve-1", "judged_on": judged, "cost": {}, "points": points}
    (path / "curve.json").write_text(json.dumps(told))
    if generator:
        ledger = json.loads((path / "ledger.json").read_text())
        ledger["generator_training"]["seconds"] = generator
        (path / "ledger.json").write_text(json.dumps(ledger))
    return path


@pytest.fixture
def compared(run):
    """A baseline that ends at 0.7 and 0.8, and an inflated arm that is sooner there but pays for a generator first."""
    return [
        way(run("a0", 0.7), 0.5, 0.6),
        way(run("a1", 0.8, seed=1), 0.6, 0.7),
        way(run("b0", 0.9, generated="g"), 0.6, 0.8, generator=20.0),
        way(run("b1", 0.8, seed=1, generated="g"), 0.6, 0.7, generator=20.0),
    ]


def test_curves_of_arms_are_read_at_equal_cost_and_to_the_baselines_end(compared):
    result = compare_runs(compared)
    curves = result["curves"]
    told = curves["to_baseline"]
    assert (told["arm"], told["score"]) == ("simclr", pytest.approx(0.75))
    # seed 0 has to reach 0.7, half-way between its points at 5 and 7.5 steps; seed 1 has to reach 0.8, its end
    assert told["steps"]["simclr generated"]["mean"] == pytest.approx((6.25 + 10) / 2)
    assert told["seconds"]["simclr generated"]["mean"] == pytest.approx((26.25 + 30) / 2)
    assert told["seconds"]["simclr"] == pytest.approx({"reached": 2, "of": 2, "mean": 10, "sd": 0})
    assert curves["at_equal"]["steps"]["cost"] == 10
    assert curves["at_equal"]["steps"]["scores"]["simclr generated"]["mean"] == pytest.approx(0.85)
    assert curves["at_equal"]["seconds"] is None  # by its first point the inflated arm had spent more than the other
    assert result["front"] == {"seconds": ["simclr", "simclr generated"], "flops": ["simclr generated"]}
    assert [arm["spent"]["seconds"] for arm in result["arms"]] == [30, 10]
    charts = {chart.x_label: {s.name: (list(s.x), list(s.y)) for s in chart.series} for chart in curve_charts(result)}
    assert charts["seconds"]["simclr generated"][0] == pytest.approx([25, 27.5, 30])
    assert charts["seconds"]["simclr"][1] == pytest.approx([55, 65, 75])
    page = render_comparison(result)
    for table in way_tables(result):
        assert table.title in page.replace("&#39;", "'")


def test_an_arm_that_never_gets_there_has_no_mean(run):
    worse = way(run("b", 0.6, method="dcl"), 0.3, 0.5)
    told = compare_runs([way(run("a", 0.7), 0.5, 0.6), worse])["curves"]["to_baseline"]["flops"]["dcl"]
    assert told == {"reached": 0, "of": 1, "mean": None, "sd": None}


def test_without_curves_of_all_runs_there_are_none(run):
    paths = [way(run("a"), 0.5, 0.6), run("b", method="dcl")]
    assert compare_runs(paths)["curves"] is None
    other = way(run("c", method="dcl", seed=1), 0.5, 0.6)
    told = json.loads((other / "curve.json").read_text())
    told["judged_on"]["test"] = "another"
    (other / "curve.json").write_text(json.dumps(told))
    assert read_curve(read_row(other)) == []  # of another test than its evaluation


@pytest.mark.parametrize("text", ["{}", "[]", "{"])
def test_a_damaged_curve_is_told_in_one_line(run, text):
    path = way(run("a"), 0.5, 0.6)
    (path / "curve.json").write_text(text)
    with pytest.raises(InputError, match=r"curve\.json") as error:
        read_curve(read_row(path))
    assert "\n" not in str(error.value)
