"""What is read from RUN folders: finished, old, half written, huge; nothing is written, nothing fails."""

import json
import os
import time
from itertools import pairwise

import pytest

from swell.errors import InputError
from swell.training import live
from swell.training.watch import PREFIX
from swell.watching import SAMPLES, WHOLE, find_runs, look, sampled_lines


def line(step, **more):
    told = {"step": step, "loss": 5.0 / (step + 1), "learning_rate": 0.1, "seconds": 2.0 * (step + 1)}
    return json.dumps({**told, "samples_real": 16 * (step + 1), "samples_generated": 0, **more}) + "\n"


@pytest.fixture
def run(tmp_path):
    """A run of 100 steps, stopped after 40 by a version that kept no live.json."""
    out = tmp_path / "runs" / "one"
    out.mkdir(parents=True)
    (out / "recipe.toml").write_text("steps = 100\nseed = 0\n")
    (out / "metrics.jsonl").write_text("".join(line(step) for step in range(40)))
    for path in out.iterdir():
        os.utime(path, (1e9, 1e9))
    return out


def held(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_by_its_log_alone(run):
    before = held(run)
    seen = look(run)
    assert held(run) == before
    assert (seen.state, seen.step, seen.total_steps, seen.share, seen.seconds) == ("stopped", 40, 100, 0.4, 80.0)
    assert (seen.loss, seen.learning_rate, seen.samples_per_second) == (5.0 / 40, 0.1, 8.0)
    assert seen.losses == [5.0 / (step + 1) for step in range(40)]
    assert seen.seconds_left is None  # nobody works on it
    assert seen.memory_bytes is None
    assert json.loads(json.dumps(seen.to_dict()))["step"] == 40


def test_time_left_and_what_live_json_adds(run):
    told = {"state": "running", "step": 50, "seconds": 100.0, "total_steps": 200, "loss": 0.09, "memory_bytes": 10**9}
    (run / live.FILE).write_text(json.dumps(told))
    seen = look(run)
    assert (seen.state, seen.step, seen.share, seen.seconds_left) == ("running", 50, 0.25, 300.0)
    assert (seen.loss, seen.learning_rate, seen.memory_bytes) == (0.09, 0.1, 10**9)
    (run / "metrics.jsonl").write_text("".join(line(step) for step in range(60)))
    seen = look(run)  # the log is ahead
    assert (seen.step, seen.loss, seen.seconds) == (60, 5.0 / 60, 120.0)


def test_a_budget_of_minutes(run):
    (run / "recipe.toml").write_text("minutes = 4.0\n")
    seen = look(run)
    assert (seen.total_steps, seen.total_seconds, seen.share) == (None, 240.0, 80 / 240)


def test_states(run):
    assert look(run).state == "stopped"
    (run / "metrics.jsonl").unlink()
    (run / live.FILE).write_text('{"state": "running"}')
    assert look(run).state == "starting"
    (run / live.FILE).write_text('{"state": "crashed", "why": "step 3: NaN", "step": 2}')
    assert (look(run).state, look(run).why) == ("crashed", "step 3: NaN")
    (run / live.FILE).unlink()
    (run / "encoder.safetensors").touch()
    cost = {"seconds": 10.0, "samples_real": 300, "samples_generated": 100}
    (run / "ledger.json").write_text(json.dumps({"pretraining": cost, "peak_memory_bytes": 7}))
    seen = look(run)
    assert (seen.state, seen.share, seen.samples_per_second, seen.memory_bytes) == ("finished", 1.0, 40.0, 7)


@pytest.mark.parametrize("name", ["recipe.toml", "metrics.jsonl", "live.json", "ledger.json", "phases.jsonl"])
@pytest.mark.parametrize(
    "content", [b"", b'{"step": 3, "lo', b"[1, 2]\n", b"\xff\xfe\x00", b'{"step": "x", "phase": []}\n']
)
def test_damaged_and_half_written_files(name, content, run):
    (run / name).write_bytes(content)
    for _ in range(2):
        assert look(run).state in ("running", "starting")
        (run / "encoder.safetensors").touch()
        assert look(run).state == "finished"
        (run / "encoder.safetensors").unlink()
    (run / name).unlink()
    (run / name).mkdir()
    look(run)


def test_a_last_line_cut_short_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line(40)[:25])
    assert look(run).step == 40
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line(40)[25:])
    assert look(run).step == 41


def test_a_run_that_does_not_exist_yet(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".lock").touch()
    assert find_runs([tmp_path]) == []
    seen = look(tmp_path / "new")
    assert (seen.state, seen.step, seen.share, seen.losses) == ("starting", None, None, [])


def test_scores_and_phases(run):
    assert PREFIX == "score_"
    rows = [line(i, **({"score_rankme": 3.0 + i, "score_acr": 0.5} if i % 10 == 9 else {})) for i in range(40)]
    (run / "metrics.jsonl").write_text("".join(rows))
    assert look(run).scores == {"rankme": [12.0, 22.0, 32.0, 42.0], "acr": [0.5] * 4}
    assert look(run).phase is None
    (run / "metrics.jsonl").write_text("".join([*rows, line(40, score_odd={"x": 2.0})]))
    assert set(look(run).scores) == {"rankme", "acr"}  # a score that is no number is none
    (run / "metrics.jsonl").write_text("".join(rows))
    tables = [{"trains": trains, "steps": 50} for trains in ("encoder", "generator", "encoder")]
    text = "".join(f'[[phases]]\ntrains = "{table["trains"]}"\nsteps = 50\n' for table in tables)
    (run / "recipe.toml").write_text("steps = 100\n" + text)
    assert (look(run).phase, look(run).phases, look(run).trains) == (1, 3, "encoder")
    ended = [{"phase": 1, "attempt": 1}, {"phase": 2, "attempt": 1}, {"phase": 3, "attempt": 1, "rolled_back": True}]
    (run / "phases.jsonl").write_text(json.dumps(ended[0]) + "\n")
    assert (look(run).phase, look(run).trains) == (2, "generator")
    assert (look(run).state, look(run).seconds_left) == ("running", None)
    (run / "phases.jsonl").write_text("".join(json.dumps(one) + "\n" for one in ended))
    assert (look(run).phase, look(run).trains) == (3, "encoder")
    assert look(run).seconds_left == pytest.approx(120.0)
    (run / live.FILE).write_text('{"state": "stopped"}')
    assert (look(run).state, look(run).phase, look(run).seconds_left) == ("stopped", 3, None)


def test_a_log_of_half_a_million_lines_costs_no_more_than_a_short_one(run):
    count = 500_000
    (run / "metrics.jsonl").write_text(
        "".join(f'{{"step": {i}, "loss": {count - i}, "seconds": {i}.5}}\n' for i in range(count))
    )
    assert (run / "metrics.jsonl").stat().st_size > 10 * WHOLE
    begun = time.process_time()
    seen = look(run)
    assert time.process_time() - begun < 0.5
    assert (seen.step, seen.loss) == (count, 1.0)
    lines = sampled_lines(run / "metrics.jsonl")
    steps = [told["step"] for told in lines]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert len(seen.losses) <= SAMPLES
    gaps = [a - b for a, b in pairwise(seen.losses)]
    assert min(gaps) > 0
    assert max(gaps) < 3 * count / SAMPLES


def test_where_runs_are_found(run, tmp_path):
    deep = tmp_path / "runs" / "suite" / "runs" / "00-arm" / "seed0"
    for folder in (deep, run / "snapshots" / "no", run / "phase-02" / "no", tmp_path / ".hidden", run / "adapt" / "c1"):
        folder.mkdir(parents=True)
        (folder / "recipe.toml").touch()
    assert find_runs([tmp_path / "runs"]) == [run, run / "adapt" / "c1", deep]
    assert find_runs([deep, tmp_path / "runs", run]) == [deep, run, run / "adapt" / "c1"]
    with pytest.raises(InputError, match="RUN folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="RUN folder"):
        find_runs([run / "recipe.toml"])
