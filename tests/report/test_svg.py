from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swell.report.svg import (
    DASHES,
    Chart,
    Series,
    chart_keys,
    decimate,
    draw_chart,
    line_chart,
    log_tick_text,
    log_ticks,
    tick_texts,
    ticks,
)


def paths(svg: str) -> list[str]:
    return re.findall(r'<path class="mark line[^"]*" d="([^"]*)"', svg)


def test_ticks_at_round_values():
    assert ticks(0, 399, 5) == [0, 100, 200, 300]
    assert ticks(-0.03, 1.02, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(1, 3, 5, whole=True) == [1, 2, 3]
    assert ticks(7, 7) == [7]


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-4, 1e6),
)
def test_ticks_are_round_few_and_inside(low, span):
    high = low + span
    found = ticks(low, high)
    assert 2 <= len(found) <= 11
    steps = np.diff(found)
    assert np.allclose(steps, steps[0], rtol=1e-5)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-3
    assert low - 1e-6 * span <= found[0] <= found[-1] <= high + 1e-6 * span
    texts, _ = tick_texts(found)
    assert len(set(texts)) == len(texts)


def test_log_ticks():
    assert log_ticks(1e-6, 1.0, about=4) == pytest.approx([1e-6, 1e-4, 1e-2, 1])
    assert log_ticks(0.9, 12) == pytest.approx([1, 2, 5, 10])
    assert log_ticks(2.1, 2.9) == pytest.approx([2.2, 2.4, 2.6, 2.8])
    assert [log_tick_text(v, 1e-6) for v in (1e-6, 0.01, 1, 50, 2e4)] == ["10⁻⁶", "10⁻²", "1", "50", "20 k"]
    assert log_tick_text(0.02, 0.01) == "0.02"


def test_tick_texts():
    assert tick_texts([0, 0.5, 1.0]) == (["0.0", "0.5", "1.0"], "")
    assert tick_texts([0, 1e-4, 2e-4]) == (["0", "1", "2"], "×10⁻⁴")
    assert tick_texts([0, 5000, 10_000]) == (["0", "5 k", "10 k"], "")
    assert tick_texts([-0.2, 0.0]) == (["−0.2", "0.0"], "")


def test_decimation_keeps_extremes_ends_and_gaps():
    rng = np.random.default_rng(0)
    y = rng.normal(size=50_000)
    y[12_345], y[33_333], y[20_000] = 40.0, -40.0, np.nan
    x = np.arange(50_000.0)
    small_x, small_y = decimate(x, y, 600)
    assert len(small_y) <= 600 + 4
    assert np.nanmax(small_y) == 40.0
    assert np.nanmin(small_y) == -40.0
    assert small_x[0] == 0
    assert small_x[-1] == 49_999
    assert np.isnan(small_y).sum() == 1
    assert np.all(np.diff(small_x) > 0)
    assert np.array_equal(small_y, y[small_x.astype(int)], equal_nan=True)


def test_short_series_are_left_alone_and_all_nan_survives():
    x = np.arange(10.0)
    assert decimate(x, x, 600)[1] is x
    assert np.isnan(decimate(np.arange(5000.0), np.full(5000, np.nan), 100)[1]).all()


def test_gaps_break_the_line_and_lone_points_stay_visible():
    svg = line_chart(Chart("t", "x", "y", [Series("a", [0, 1, 2, 3, 4, 5], [1, 2, math.nan, 3, math.inf, 5])]))
    (path,) = paths(svg)
    assert path.count("M") == 3
    assert path.count("h.01") == 2
    assert "nan" not in svg
    assert "inf" not in path


def test_the_line_goes_through_the_data():
    svg = line_chart(Chart("t", "x", "y", [Series("a", [0, 50, 100], [0, 10, 5])]))
    points = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", paths(svg)[0]), float)
    assert points[1, 0] == pytest.approx(points[[0, 2], 0].mean(), abs=0.1)
    assert points[2, 1] == pytest.approx(points[:2, 1].mean(), abs=0.1)  # half-way up
    assert points[1, 1] < points[0, 1]  # larger values are higher


def test_log_axis_leaves_out_what_has_no_logarithm():
    svg = line_chart(Chart("t", "x", "y", [Series("a", range(5), [1, 0, -1, 0.1, 0.01])], log_y=True))
    points = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", paths(svg)[0]), float)
    assert len(points) == 3
    assert points[1, 1] == pytest.approx(points[[0, 2], 1].mean(), abs=0.1)


@pytest.mark.parametrize("series", [[], [Series("a", [], [])], [Series("a", [1, 2], [math.nan] * 2)]])
def test_nothing_to_draw(series):
    assert "nothing to draw" in line_chart(Chart("t", "x", "y", series))


def test_one_point_and_constant_lines_have_an_axis():
    for y in ([3.0], [0.0], [1e-9]):
        svg = line_chart(Chart("t", "x", "y", [Series("a", [7], y)]))
        assert "nan" not in svg
        assert "h.01" in svg
    assert "nan" not in line_chart(Chart("t", "x", "y", [Series("a", [1, 2], [5, 5])], log_y=True))


def test_twelve_series_differ_in_colour_or_dash():
    chart = Chart("t", "x", "y", [Series(str(i), [0, 1], [0, i]) for i in range(24)])
    keys = [(key.colour, key.dash) for key in chart_keys(chart)]
    assert len(set(keys)) == 24
    assert len({dash for _, dash in keys[: len(DASHES)]}) == len(DASHES)


def test_series_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        line_chart(Chart("t", "x", "y", [Series("a", [1, 2], [1])]))


def test_dots_are_drawn_one_by_one_in_the_colours_and_shapes_of_their_keys():
    chart = Chart("t", "x", "y", [Series(str(i), [1, 2, 3], [i, math.nan, i + 1], dots=True) for i in range(12)])
    svg = draw_chart(chart).svg
    marks = re.findall(r'<path class="mark dots s(\d) k(\d)" d="([^"]*)"', svg)
    assert [(int(s), int(k)) for s, k, _ in marks] == [(i // 10, i % 10) for i in range(12)]
    assert [(key.shape, key.colour) for key in chart_keys(chart)] == [(i // 10, i % 10) for i in range(12)]
    assert all(d.count("M") == 2 and "L" not in d for *_, d in marks)
    assert "0 lies at 0 to 1" in svg


def test_what_a_script_reads_leads_back_to_where_the_line_is_drawn():
    x, y = np.arange(5.0), np.array([1.0, 0.1, np.nan, 0.01, 0.001])
    drawn = draw_chart(Chart("t", "x", "y", [Series("a", x, y)], log_y=True))
    left, top, right, bottom = drawn.data["box"]
    (line,) = drawn.data["lines"]
    assert line["x"] == x.tolist()
    assert line["y"] == [1.0, 0.1, None, 0.01, 0.001]
    low, high = drawn.data["y"]["low"], drawn.data["y"]["high"]
    places = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", paths(drawn.svg)[0]), float)
    known = np.isfinite(y)
    across = left + (x - drawn.data["x"]["low"]) / (drawn.data["x"]["high"] - drawn.data["x"]["low"]) * (right - left)
    down = bottom - np.log(y / low) / np.log(high / low) * (bottom - top)
    assert np.abs(places - np.stack([across, down], 1)[known]).max() <= 0.051
    assert draw_chart(Chart("t", "x", "y", [])).data is None
