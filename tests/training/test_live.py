"""What a run tells of itself while it goes on, how it ended, and that telling changes nothing."""

import json
import os
import subprocess
import sys
import time

import pytest

from swell.errors import InputError
from swell.training.live import FILE, Live
from swell.training.loop import Operation, pretrain
from swell.training.watchdog import Diverged
from swell.watching import look

TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from swell.data.open import open_data
from swell.recipes import load_recipe
from swell.training.loop import Operation, pretrain

real = open_data("builtin:digits", quiet=True).unlabelled()
recipe = replace(load_recipe("digits"), width=0.1, batch_size=16, steps=1_000_000)
pretrain(recipe, real, Path(sys.argv[1]), None, Operation(resume=True, quiet=True))
"""


@pytest.fixture
def process(tmp_path):
    """It trains in tmp_path / "run", and has logged a step."""
    out = tmp_path / "run"
    out.mkdir()
    began = subprocess.Popen([sys.executable, "-c", TRAIN, str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while look(out).loss is None:
            assert began.poll() is None
            time.sleep(0.05)
        yield began
    finally:
        began.kill()
        began.wait()


def long_ago(out):
    for path in out.iterdir():
        os.utime(path, times=(1e9, 1e9))


def test_a_run_that_goes_on_and_is_killed(tmp_path, process):
    out = tmp_path / "run"
    seen = look(out)
    assert (seen.state, seen.total_steps) == ("running", 1_000_000)
    assert seen.loss > 0
    assert seen.memory_bytes > 1e7
    assert 0 <= seen.share < 0.1
    long_ago(out)
    assert look(out).state == "running"  # whose lock is held is not given up, however long it is silent
    process.kill()
    process.wait()
    (out / FILE).touch()
    assert look(out).state == "running"  # it may train on another machine, whose locks are not seen
    long_ago(out)
    seen = look(out)
    assert seen.state == "crashed"
    assert "--resume" in seen.why


def broken_off(folder, error, moved_to=None):
    with Live(folder) as live:
        live.begin(3, 1.5, 8, 0.0)
        live.path = moved_to or live.path
        raise error


def test_how_a_run_ends_is_told_unless_it_finishes(tmp_path, real, tiny):
    out = pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True))
    assert not (out / FILE).exists()
    assert look(out).state == "finished"
    for error, state, why in (
        (KeyboardInterrupt(), "stopped", ""),
        (Diverged("step 3:\n NaN"), "crashed", "step 3: NaN"),
        (MemoryError(), "crashed", "MemoryError"),
    ):
        folder = tmp_path / state / why[:4]
        folder.mkdir(parents=True)
        with pytest.raises(type(error)):
            broken_off(folder, error)
        told = json.loads((folder / FILE).read_text())
        assert (told["state"], told["why"], told["step"], told["total_steps"]) == (state, why, 3, 8)


def test_beats_tell_the_speed_since_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr("swell.training.live.EVERY", 0.0)
    with Live(tmp_path) as live:
        live.begin(100, 50.0, None, 600.0)
        live.beat(110, 52.0, batch=16, loss=1.0, learning_rate=0.1)
        live.beat(140, 53.0, batch=16, loss=0.5, learning_rate=0.2)
        told = json.loads((tmp_path / FILE).read_text())
        assert told["samples_per_second"] == 30 * 16
        assert (told["loss"], told["learning_rate"], told["total_seconds"]) == (0.5, 0.2, 600.0)
        (tmp_path / "recipe.toml").write_text("minutes = 10.0\n")
        seen = look(tmp_path)
        assert (seen.step, seen.samples_per_second, seen.seconds_left) == (140, 480, pytest.approx(600 - 53))


def test_a_place_that_cannot_be_written_does_not_hide_the_error(tmp_path):
    with pytest.raises(Diverged):
        broken_off(tmp_path, Diverged("NaN"), moved_to=tmp_path / FILE / "in a file")


def test_a_fresh_run_that_fails_on_bad_input_leaves_nothing(tmp_path, real, tiny):
    with pytest.raises(InputError, match="did you mean 'wandb'"):
        pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True, log_to=("wandbb",)))
    assert not (tmp_path / "run").exists()
