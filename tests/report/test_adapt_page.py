"""The page of a search: from a state by hand, so that every number on it is known."""

import math

import pytest
import tomli_w

from swell.adaptive.candidates import Candidate
from swell.adaptive.choose import choose
from swell.files import write_json, write_text
from swell.ledger import Cost, Ledger
from swell.report.adapt_page import write_adapt_report

NAMES = ("none", "weak_only", "adainf", "weight3<b>")


def scores(quality):
    return {
        "feature_std": 0.8,
        "rankme": 9.0 + quality,
        "lidar": 5.0 + quality,
        "rotation": 0.5 + quality / 100,
        "acr": 0.2 - quality / 100,
    }


def leave(out, qualities, copies="", failed=()):
    """A finished search in `out`: `qualities` by run, of the last rung."""
    zero = vars(Cost())
    one = {"failed": "", "steps": 10, "cost": zero, "decay": zero, "scoring": zero}
    results = {name: {"0": {**one, "scores": scores(0)}} for name in NAMES}
    for name in failed:
        results[name]["0"] = {**one, "failed": "diverged: step 3", "scores": {}}
    table = {}
    for name, values in qualities.items():
        for seed, quality in enumerate(values):
            key = name if seed == 0 else f"{name}.seed{seed}"
            found = scores(quality)
            results.setdefault(key, {})["1"] = {**one, "scores": found}
            table.setdefault(name, []).append({**found, "learnability": 0.4 + quality / 100})
    choice = choose(table, generated={"adainf", "weight3<b>"}, vetoed=dict.fromkeys(failed, "diverged: step 3"))
    learnt = {
        f"{name}.seed{i}" if i else name: row["learnability"]
        for name, rows in table.items()
        for i, row in enumerate(rows)
    }
    prior = {"strength": 0.4, "growth": 3.0, "use": True, "how": "table", "reason": "as published"}
    tried = [
        Candidate("none"),
        Candidate("weak_only", strength=0.5),
        Candidate("adainf", 10, 0.5, 500),
        Candidate("weight3<b>", 3, 0.5, 500),
    ]
    write_json(
        out / "adapt" / "state.json",
        {
            "format": "swell-adapt-1",
            "settings": {},
            "copies": copies,
            "priors": {
                "divergence": {"value": 0.2, "low": 0.1, "high": 0.3, "accuracy": 0.6, "rows": 100},
                "weight": {"beta": 0.2, "weight": None, "use": False, "gain": 0.0, "reason": "too far"},
                "table": prior,
                "overlap": {**prior, "use": False},
                "amount": {
                    "count": 500,
                    "saturated": False,
                    "reason": "more would add",
                    "curve": [
                        {"count": 250, "coverage": 0.3, "overlap": 0.1},
                        {"count": 500, "coverage": 0.4, "overlap": 0.1},
                    ],
                },
                "cost": zero,
            },
            "plan": {
                "budget_runs": 2.0,
                "final_steps": 100,
                "rungs": [{"count": 4, "steps": 10}, {"count": 3, "steps": 20}],
                "seeds": 2,
                "cost_runs": 1.7,
                "candidates": [vars(c) for c in tried],
                "held_out": 100,
                "scored": 90,
                "trained_on": 900,
            },
            "results": results,
            "learnability1": {"scores": dict.fromkeys(NAMES, 0.5), "cost": zero},
            "learnability2": {"scores": learnt, "cost": zero},
            "rung1": {
                "places": {"none": 0.9, "weak_only": 0.3, "adainf": 0.2, "weight3<b>": 0.6},
                "kept": ["adainf", "weak_only", "none"],
                "vetoed": {},
            },
            "choice": vars(choice),
        },
    )
    ledger = Ledger(
        generator_training=Cost(30, 3e9), search=Cost(150, 1.7e12, 1000, 500), pretraining=Cost(100, 1e12, 900, 100)
    )
    write_json(out / "ledger.json", ledger.to_dict())
    origin = {"real": {"origin": "photos"}}
    write_text(out / "recipe.toml", tomli_w.dumps({"method": "simclr", "steps": 100, "provenance": origin}))
    write_adapt_report(out)
    return choice, (out / "adapt" / "report.html").read_text()


def test_it_says_what_was_chosen_and_why(tmp_path):
    choice, page = leave(tmp_path, {"none": [0, 0.1], "weak_only": [1, 1.1], "adainf": [3, 3.1]})
    assert choice.name == "adainf"
    assert "Generated data help here" in page
    assert "adainf (chosen)" in page
    assert "agree with W = 1.00 (chance 0.50" in page
    assert "LiDAR, rotation, ACR have no vote" in page
    assert "led in the rung before too" in page
    assert "1.50 final runs by the clock and 1.70 by FLOPs" in page
    assert "900 of 1,000 samples" in page
    assert "weight3&lt;b&gt;" in page
    assert "weight3<b>" not in page
    assert "Out after rung 1" in page
    assert "0.20 (0.10 to 0.30)" in page
    assert "no inflation" in page
    assert "More generated samples might help: more would add." in page
    assert "Who led when?" in page
    assert "How many generated samples?" in page


def test_what_it_would_have_cost_to_be_wrong(tmp_path):
    """adainf minus none in rotation: 3.05 points of quality a hundredth each."""
    _, page = leave(tmp_path, {"none": [0, 0.1], "weak_only": [1, 1.1], "adainf": [3, 3.1]})
    assert "no inflation (none)" in page
    assert "\N{MINUS SIGN}3.00" in page
    assert "1:40" in page  # one more final run


@pytest.mark.parametrize(
    ("qualities", "copies", "told"),
    [
        ({"none": [3, 3.1], "weak_only": [1, 1.1], "adainf": [0, 0.1]}, "", "do not clearly help"),
        ({"none": [0, math.nan], "weak_only": [1, 1.1], "adainf": [3, 3.1]}, "", "none was left out"),
        ({"none": [0, 0.1], "weak_only": [1, 1.1]}, "the generator copies: so", "The generator copies: so"),
    ],
)
def test_it_says_no_in_plain_words(tmp_path, qualities, copies, told):
    _, page = leave(tmp_path, qualities, copies)
    assert told in page


def test_a_candidate_that_failed_is_shown_as_such(tmp_path):
    _, page = leave(tmp_path, {"none": [0, 0.1], "adainf": [3, 3.1]}, failed=("weak_only",))
    assert "Not considered" in page
    assert "diverged: step 3" in page
