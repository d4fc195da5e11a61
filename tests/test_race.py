"""What the race against other tools makes of its rows, and the table the README gets of it."""

import statistics
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def race():
    own = [str(BENCHMARKS / "peers"), str(BENCHMARKS)]
    sys.path[:0] = own
    import race

    yield race
    for path in own:
        sys.path.remove(path)


def rows(rates):
    """Rates by arm, a list a round, None where no turn was quiet."""
    out = {}
    for arm, found in rates.items():
        for round_, rate in enumerate(found):
            out[f"simclr/{round_}/{arm}"] = {"rate": rate or 99.0, "quiet": rate is not None}
    return out


def arms(*named):
    known = {}
    for name in named:
        peer = name.removesuffix("-on-w0").removesuffix("-on")
        known[f"simclr/{name}"] = {"peer": peer, "on": peer != name, "peak_bytes": 2e9, "start_up_seconds": 4.0}
    known["simclr/swell"] = {"peer": "swell", "on": True, "peak_bytes": 1e9, "start_up_seconds": 3.0}
    return known


def test_ratios_are_of_neighbours_in_time_and_of_the_best_rival(race):
    rates = {"swell": [100.0, 120.0, 90.0], "lightly": [25.0, 20.0, 30.0], "lightly-on": [50.0, 60.0, 40.0],
             "lightly-on-w0": [80.0, 80.0, 60.0]}  # fmt: skip
    found = race.summary(rows(rates), arms("lightly", "lightly-on", "lightly-on-w0"))["simclr"]["ratios"]
    assert found["lightly"]["rounds"] == [4.0, 6.0, 3.0]
    assert found["lightly"]["mean"] == pytest.approx(statistics.fmean([4, 6, 3]))
    assert found["lightly"]["sd"] == pytest.approx(statistics.stdev([4, 6, 3]))
    assert found["lightly on"]["arm"] == "lightly-on-w0"
    assert found["lightly on"]["rounds"] == [1.25, 1.5, 1.5]
    assert found["lightly"]["memory"] == 0.5
    assert found["lightly"]["start_up"] == 0.75


def test_loud_turns_do_not_count(race):
    found = race.summary(rows({"swell": [100.0, None, 90.0], "lightly": [25.0, 20.0, None]}), arms("lightly"))
    ratio = found["simclr"]["ratios"]["lightly"]
    assert ratio["rounds"] == [4.0]
    assert ratio["sd"] is None
    assert found["simclr"]["rates"]["swell"]["n"] == 2


def test_arms_of_other_work_stop_the_race(race):
    same = {"parameters": 5, "forward_flops": 7}
    race.check_equal("simclr", {"a": same, "b": dict(same)})
    with pytest.raises(SystemExit, match="not the same"):
        race.check_equal("simclr", {"a": same, "b": {**same, "forward_flops": 8}})
    race.check_equal("samples", {"a": {"forward_flops": 100}, "b": {"forward_flops": 105}})
    with pytest.raises(SystemExit, match="FLOPs"):
        race.check_equal("samples", {"a": {"forward_flops": 100}, "b": {"forward_flops": 130}})
    race.check_equal("neighbours", {"a": {"found": [[1, 2]]}, "b": {"found": [[1, 2]]}})
    with pytest.raises(SystemExit, match="the same"):
        race.check_equal("neighbours", {"a": {"found": [[1, 2]]}, "b": {"found": [[1, 3]]}})


def test_there_is_no_table_without_a_result(race):
    from table import peers_block

    assert peers_block(lambda name: None) == ""


def test_the_table_tells_every_contest_and_every_peer(race):
    from table import peers_block

    rates = {"swell": [100.0, 120.0], "lightly": [25.0, 20.0], "lightly-on": [50.0, 60.0], "solo-learn": [20.0, 20.0]}
    contests = race.summary(rows(rates), arms("lightly", "lightly-on", "solo-learn"))
    settings = {"network": "N", "data": "D", "batch": 128, "rounds": 2}
    race_result = {"contests": contests, "settings": settings, "device": "two cores"}
    cell = {"mean": 50.0, "sd": None, "n": 1}
    minutes = {"table": {"swell": {"knn": cell, "linear": cell, "images": {"mean": 1e4}}}, "device": "two cores",
               "settings": {"method": "simclr", "minutes": 10.0, "data": "D"}}  # fmt: skip
    made = peers_block({"peers": ("x-peers", race_result), "peers-minutes": ("x-minutes", minutes)}.get)
    assert "| SimCLR | 110.0 ± 14.1 | lightly 5.00 ± 1.41; lightly, on 2.00 ± 0.00; solo-learn 5.50 ± 0.71 |" in made
    assert "| swell | 50.0 | 50.0 | 10,000 |" in made


def test_every_arm_has_its_script_and_environment(race):
    from contests import CONTESTS, arms_of
    from environments import PACKAGES

    for contest, found in CONTESTS.items():
        assert "swell" in arms_of(contest, [])
        for arm in found.values():
            assert (BENCHMARKS / "peers" / arm.script).is_file()
            assert arm.peer == "swell" or arm.peer in PACKAGES


def test_rows_keep_the_commit_they_were_made_at(race, tmp_path, monkeypatch):
    """A race that went on at another commit told the last one only."""
    folder = tmp_path / "benchmarks" / "results" / f"2026-01-01-{race.NAME}"
    folder.mkdir(parents=True)
    earlier = rows({"swell": [100.0], "lightly": [50.0]})
    stored = {"settings": {}, "rows": earlier, "arms": arms("lightly"), "seconds": 5.0, "commit": "aaaaaaa"}
    race.write_json(folder / "result.json", stored)
    monkeypatch.setattr(race, "ROOT", tmp_path)
    monkeypatch.setattr(race, "write_result", lambda name, result: told.append(result["claim"]))
    told: list[str] = []
    book = race.Book({}, None)
    book.write()
    book.rows["simclr/1/swell"] = {"rate": 99.0, "quiet": True, "commit": "bbbbbbb"}
    book.rows["simclr/1/lightly"] = {"rate": 99.0, "quiet": False, "commit": "ccccccc"}
    book.write()
    book.forget(["samples"])
    assert len(book.rows) == 4
    assert told[0].endswith(", commit aaaaaaa")
    assert told[1].endswith(", commit aaaaaaa and bbbbbbb")
    book.forget(["simclr"])
    assert (book.rows, book.arms) == ({}, {})
