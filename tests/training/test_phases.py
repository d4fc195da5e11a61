"""Phases: read, refused, made from a budget, shown, and logged."""

import doctest
import json
import math
from dataclasses import replace

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.recipes import Recipe, read_recipe
from swell.training import phases
from swell.training.phases import (
    Phase,
    PhaseLog,
    default_phases,
    phase_table,
    read_phase_log,
    read_phases,
    windows,
    with_phases,
)

MADE = {"trains": "generator", "steps": 10}
LEARN = {"trains": "encoder", "steps": 10}


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(20, 5000), made=st.integers(20, 5000), rounds=st.integers(1, 5), share=st.floats(0.01, 1))
def test_the_default_list_spends_the_budgets_exactly(steps, made, rounds, share):
    found = default_phases("steps", steps, made, rounds, share)
    assert [phase.trains for phase in found] == ["encoder", *["generator", "encoder"] * rounds]
    assert sum(phase.steps for phase in found if phase.trains == "encoder") == steps
    assert sum(phase.steps for phase in found if phase.trains == "generator") == made
    assert found[0].positives == "views"
    assert found[0].steps == round(0.4 * steps)
    assert {phase.replace for phase in found[2::2]} == {share}
    assert read_phases([phase.to_dict() for phase in found]) == found


def test_lambda_rises_once_and_stays():
    first, second = default_phases("minutes", 10, 10, 2, 0.8)[2::2]
    assert [first.replaced(x) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.0, 0.4, 0.8, 0.8])
    assert {second.replaced(x) for x in (0.0, 0.3, 1.0)} == {0.8}
    assert Phase("encoder", 5, positives="generated", replace=0.3).replaced(0.0) == 0.3


def test_windows_meet_and_count_the_encoders_budget_only():
    found = windows(default_phases("steps", 10, 99, 2))
    assert found == [(0.0, 0.4), (0.4, 0.4), (0.4, 0.7), (0.7, 0.7), (0.7, 1.0)]
    # a step belongs to the phase that its share of the budget lies in, for any budget: no rounding in between
    for steps in (7, 10, 333, 1001):
        whole = default_phases("steps", steps, steps, 1)
        assert windows(whole)[0][1] == whole[0].steps / steps


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([], "at least one"),
        ([MADE], "at least one"),
        ([{**LEARN, "trains": "encodr"}], "did you mean 'encoder'"),
        ([{**LEARN, "stepps": 3}], "did you mean 'steps'"),
        ([{**LEARN, "minutes": 3}], "one of the two"),
        ([{"trains": "encoder"}], "one of the two"),
        ([{**LEARN, "steps": 0}], "above 0"),
        ([{**LEARN, "steps": 2.5}], "whole numbers"),
        ([{**LEARN, "replace": 0.5}], "positives to replace with"),
        ([{**MADE, "replace": 0.5}, LEARN], "positives to replace with"),
        ([{**LEARN, "positives": "neighbours", "replace": 2}], "a share"),
        ([{**LEARN, "positives": "generated"}], "a generator phase before it"),
        ([LEARN, MADE], "an encoder phase after it"),
        ([LEARN, {"trains": "encoder", "minutes": 1}], "the same unit"),
        (["encoder"], "a table"),
    ],
)
def test_lists_that_make_no_sense_are_refused(tables, told):
    with pytest.raises(InputError, match=told):
        read_phases(tables)


def test_a_recipe_gets_the_list_that_its_budget_says():
    recipe = with_phases(Recipe(steps=50, generator_positives="conditional", replace=0.5))
    assert [table.get("steps") for table in recipe.phases] == [20, 50, 30]
    assert recipe.phases[2] == {"trains": "encoder", "steps": 30, "positives": "generated", "replace": 0.5, "ramp": 0.5}
    assert recipe.positive_strength == 1.0
    assert with_phases(recipe) == recipe
    timed = with_phases(Recipe(minutes=4, generator_positives="vae"))
    assert timed.minutes == pytest.approx(2)  # and two for the generator
    assert sum(table["minutes"] for table in timed.phases) == pytest.approx(4)
    assert timed.positive_strength == 0.5
    assert with_phases(timed) == timed
    plain = Recipe(steps=50)
    assert with_phases(plain) is plain
    assert with_phases(replace(plain, generator_positives="none")).phases == ()


def test_phases_of_ones_own_are_the_budget():
    own = (LEARN, MADE, {**LEARN, "positives": "generated", "replace": 1.0})
    assert with_phases(Recipe(epochs=100, generator_positives="vae", phases=own)).steps == 20
    with pytest.raises(InputError, match="their own 20 steps"):
        with_phases(Recipe(steps=30, generator_positives="vae", phases=own))
    with pytest.raises(InputError, match="one source of positives"):
        with_phases(Recipe(positives="neighbours", generator_positives="vae", phases=own))
    with pytest.raises(InputError, match="steps, epochs or minutes"):
        with_phases(Recipe(flops=1e9, generator_positives="vae"))
    with pytest.raises(InputError, match="a source of positives"):
        with_phases(Recipe(steps=5, replace=0.5))


def test_a_recipe_with_phases_survives_its_file(tmp_path):
    recipe = with_phases(Recipe(steps=50, generator_positives="vae", generator_options={"width": 8}, rounds=2))
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe.to_dict()), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml")[0] == recipe


def test_the_table_is_as_the_docstring_shows():
    failed, tried = doctest.testmod(phases)
    assert (failed, tried) == (0, 1)
    assert "1.50 minutes" in phase_table([Phase("encoder", minutes=1.5)], "vae")


def test_the_log_keeps_one_line_a_phase_and_attempt_and_any_reader_can_read_it(tmp_path):
    log, phase = PhaseLog(tmp_path), Phase("encoder", 5)
    log.write(phase, {"phase": 1, "attempt": 1, "spread": math.nan, "in_code": {"apart": math.inf}})
    log.write(phase, {"phase": 2, "attempt": 1, "alarm": "x"})
    log.write(phase, {"phase": 2, "attempt": 2, "alarm": ""})
    log.write(phase, {"phase": 2, "attempt": 1, "alarm": "y"})  # done over after a kill
    lines = read_phase_log(tmp_path)
    assert [(line["phase"], line["attempt"]) for line in lines] == [(1, 1), (2, 2), (2, 1)]
    assert lines[0]["spread"] is None
    assert lines[0]["in_code"]["apart"] is None
    assert lines[2]["alarm"] == "y"
    assert all(json.loads(text) for text in log.path.read_text().splitlines())
    log.path.write_text("broken\n[1]\n" + log.path.read_text(), encoding="utf-8")
    assert len(read_phase_log(tmp_path)) == 3
