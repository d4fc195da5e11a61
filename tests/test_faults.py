"""Kills between any two changes of a file, damaged files, full disks and two processes: the quick part of
benchmarks/faults, on what writes results and on the smallest commands."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import swell
from swell.data.gen import open_gen, write_gen
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.files import new_folder, read_json, sole, write_json, write_text
from swell.generators.generate import generate
from swell.generators.work import Work
from swell.recipes import read_recipe
from swell.run import Run
from swell.training import live
from swell.training.folder import claimed, read_metrics
from swell.training.loop import Operation, pretrain
from swell.watching import SILENT, look

SUITE = Path(__file__).resolve().parents[1] / "benchmarks" / "faults"
sys.path.insert(0, str(SUITE))

from _forks import Changes, Forks  # noqa: E402
from _kills import differences  # noqa: E402
from _whole import broken, facts, left_over  # noqa: E402

QUIET, AGAIN = Operation(quiet=True), Operation(resume=True, quiet=True)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 and flock are POSIX's")


# ---- what writes results, killed before each change of the file system in turn --------------------------------


def killed_before(change, folder, work):
    """Do `work` in a process of its own that gets SIGKILL before change number `change` below `folder`; whether it got
    so far."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.addaudithook(Changes({"folder": str(folder), "said": str(folder) + "-said", "change": change}))
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def every_kill(folder, prepare, work, check):
    """`check` after a kill before each change that `work` makes in the folder that `prepare` makes; how many."""
    for change in range(200):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        prepare()
        if not killed_before(change, folder, work):
            return change
        check()
    raise AssertionError("it never ends")


def test_a_folder_that_is_replaced_is_there_at_any_moment(tmp_path):
    at = tmp_path / "at"

    def write(text):
        with new_folder(at / "out") as made:
            for name in "ab":
                write_text(made / name, text)

    def check():
        assert {(at / "out" / name).read_text() for name in "ab"} in ({"old"}, {"new"})

    assert every_kill(at, lambda: write("old"), lambda: write("new"), check) >= 8


def test_generated_samples_that_are_replaced_are_there_at_any_moment_and_the_same_command_goes_on(tmp_path):
    """Of the last part of `swell generate --force`; before it, pieces are made one by one (tests/generators/test_work)."""
    at = tmp_path / "at"
    out = at / "gen"
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    origin = Provenance("generated", "x", generator="kde")

    def make(seed, force=True):
        work = Work(out, {"seed": seed, "count": 20})
        if work.is_done and not force:
            return work.tidy()
        work.open(force)
        place = write_gen(tmp_path / "made", images + np.uint8(seed), origin)
        for path in place.iterdir():
            shutil.copy(path, work.folder / path.name)
        write_json(work.folder / "manifest.json", {**read_json(place / "manifest.json"), "settings": work.settings})
        (work.folder / "training.pt").touch()
        (work.folder / ".made.generator.safetensors").touch()
        write_json(work.folder / "shard-00000.npz.row.json", {})
        shutil.rmtree(tmp_path / "made")
        return work.finish()

    def is_made(seed):
        return np.array_equal(open_gen(out).samples, images + np.uint8(seed))

    def check():
        assert is_made(1) or is_made(2)
        shutil.rmtree(tmp_path / "made", ignore_errors=True)
        make(2, force=not is_made(2))
        assert is_made(2)
        assert {path.name for path in at.iterdir()} == {"gen"}
        assert {path.name for path in out.iterdir()} == {"manifest.json", "shard-00000.npz"}

    assert every_kill(at, lambda: make(1), lambda: make(2), check) >= 15


def test_pieces_of_other_settings_never_lie_in_a_folder_without_settings(tmp_path):
    """A kill while `--force` clears unfinished samples away must not leave some for the new ones."""
    at = tmp_path / "at"

    def begin():
        work = Work(at / "gen", {"seed": 1})
        work.open(force=False)
        for name in ("generator.safetensors", "shard-00000.npz", "x"):
            (work.folder / name).write_text("old")

    def check():
        work = Work(at / "gen", {"seed": 2})
        work.open(force=True)
        assert [path.name for path in work.folder.iterdir() if path.suffix != ".tmp"] == ["settings.json"]

    assert every_kill(at, begin, lambda: Work(at / "gen", {"seed": 2}).open(force=True), check) >= 5


def held_by_another(folder, hold):
    """A process that holds `hold(folder)` until it is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with hold(folder):
                os.write(writer, b"x")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(reader, 1) == b"x"
    return child


@pytest.mark.parametrize("hold", [claimed, sole])
def test_a_folder_has_one_writer_and_a_kill_frees_it(tmp_path, hold):
    out = tmp_path / "out"
    child = held_by_another(out, hold)
    with pytest.raises(InputError, match="another process is"), hold(out):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with hold(out):
        pass


def test_unfinished_samples_another_process_works_at_are_not_thrown_away(tmp_path):
    Work(tmp_path / "gen", {"seed": 1}).open(force=False)
    child = held_by_another(tmp_path / "gen", lambda out: Work(out, {"seed": 1}).claim("piece"))
    with pytest.raises(InputError, match="another process is at work"):
        Work(tmp_path / "gen", {"seed": 2}).open(force=True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Work(tmp_path / "gen", {"seed": 2}).open(force=True)


def test_a_run_is_evaluated_by_one_process_at_a_time(tmp_path, tiny, real):
    run = Run(pretrain(tiny, real, tmp_path / "run", None, QUIET))
    before = facts(run.path)
    child = held_by_another(run.path, claimed)
    with pytest.raises(InputError, match="another process is at work there"):
        run.evaluate(real)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert facts(run.path) == before


# ---- what a kill left, or somebody took away, between start and resume ----------------------------------------


@pytest.fixture
def begun(tmp_path, tiny, real):
    """A run of 8 steps, stopped by a kill after its checkpoint of step 8 was written, and the finished one."""
    whole = pretrain(tiny, real, tmp_path / "whole", None, replace(QUIET, checkpoint_seconds=0))
    out = shutil.copytree(whole, tmp_path / "run")
    (out / "encoder.safetensors").unlink()
    return whole, out


def test_what_a_kill_kept_from_being_written_comes_with_the_resume(begun, tiny, real):
    whole, out = begun
    for name in ("environment.json", "run.log", "ledger.json", "encoder.json"):
        (out / name).unlink()
    (out / ".generated.old.tmp").mkdir()  # as `swell adapt` may leave it in a run
    (out / ".generated.old.tmp" / "manifest.json").touch()
    pretrain(tiny, real, out, None, AGAIN)
    assert facts(out) == facts(whole)
    assert left_over(out) == []


@pytest.mark.parametrize("name", ["environment.json", "run.log"])
def test_what_was_cut_short_and_can_be_told_again_is(begun, tiny, real, name):
    whole, out = begun
    os.truncate(out / name, (out / name).stat().st_size // 2)
    pretrain(tiny, real, out, None, AGAIN)
    assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_killed_farewell_is_made_up_for(begun, tiny, real):
    whole, _ = begun
    (whole / live.FILE).write_text("{}")
    pretrain(tiny, real, whole, None, AGAIN)
    assert not (whole / live.FILE).exists()


def test_lost_lines_of_the_log_are_told_and_cost_nothing_else(begun, tiny, real, capsys):
    whole, out = begun
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    pretrain(tiny, real, out, None, AGAIN)
    assert "metrics.jsonl has lost 3 of its 8 lines before step 8" in capsys.readouterr().err
    assert differences(facts(out), facts(whole)) == ["metrics.jsonl says something else"]
    assert len(read_metrics(out)) == 5


def test_a_recipe_whose_end_is_cut_off_is_completed_or_refused(begun, tiny, real):
    whole, out = begun
    text = (out / "recipe.toml").read_text()
    cuts = [place for place in range(text.index("[data]"), len(text)) if text[place - 1] == "\n"]
    for place in cuts:
        (out / "recipe.toml").write_text(text[:place])
        (out / "encoder.safetensors").unlink(missing_ok=True)
        if "real = " not in text[:place]:
            with pytest.raises(InputError, match=r"real: none ->"):
                pretrain(tiny, real, out, None, AGAIN)
        else:
            pretrain(tiny, real, out, None, AGAIN)
            assert read_recipe(out / "recipe.toml") == read_recipe(whole / "recipe.toml")


def test_a_run_of_vectors_does_not_do_without_its_preparation(tmp_path):
    np.savez(tmp_path / "x.npz", vectors=np.random.default_rng(0).normal(5, 3, (40, 6)).astype(np.float32))
    options = {"steps": 2, "batch_size": 8, "quiet": True, "report": False}
    run = swell.pretrain(tmp_path / "x.npz", tmp_path / "run", **options)
    (run.path / "preparation.safetensors").unlink()
    with pytest.raises(InputError, match=r"preparation.safetensors \(missing\)"):
        swell.load(run.path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shard-00000.npz", None),  # made again
        ("shard-00000.npz.row.json", None),
        ("generator.safetensors", "generator.safetensors"),
        ("reference.safetensors", "reference.safetensors"),
        ("settings.json", "settings.json"),
        ("generator.json", "generator.json"),
    ],
)
@pytest.mark.parametrize("deleted", [True, False])
def test_damaged_pieces_of_unfinished_samples(finished_gen, tmp_path, name, says, deleted):
    source, settings, whole = finished_gen
    work = Work(tmp_path / "gen", settings)
    shutil.copytree(whole, work.folder)
    manifest = read_json(work.folder / "manifest.json")
    (work.folder / "manifest.json").unlink()
    write_json(work.folder / "settings.json", settings)
    for row in manifest["shards"]:
        write_json(work.folder / f"{row['file']}.row.json", row)
    damaged = work.folder / name
    if deleted:
        damaged.unlink()
    else:
        os.truncate(damaged, damaged.stat().st_size // 2)
    if says and not (deleted and name in ("generator.safetensors", "reference.safetensors", "settings.json")):
        with pytest.raises(InputError, match=says):
            generate(source, tmp_path / "gen", generator="kde", count=64, quiet=True)
    else:
        generate(source, tmp_path / "gen", generator="kde", count=64, quiet=True)
        assert np.array_equal(open_gen(tmp_path / "gen").samples, open_gen(whole).samples)


@pytest.fixture(scope="module")
def finished_gen(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("swell.generators.reference.default_steps", lambda shape, count: 10)
        patterns = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8))
        noise = np.random.default_rng(1).integers(-20, 20, (60, 1, 8, 8))
        samples = np.clip(patterns[np.arange(60) % 6] + noise, 0, 255).astype(np.uint8)
        source = Source(samples, Provenance("real", "array"))
        whole = generate(source, tmp_path_factory.mktemp("gen") / "gen", generator="kde", count=64, quiet=True)
    return source, read_json(whole / "manifest.json")["settings"], whole


def test_a_sign_of_life_from_the_future_is_none(tmp_path):
    (tmp_path / "recipe.toml").write_text("steps = 5\n")
    (tmp_path / live.FILE).write_text(json.dumps({"state": "running", "step": 2}))
    now = (tmp_path / live.FILE).stat().st_mtime
    assert look(tmp_path).state == "running"
    for path in tmp_path.iterdir():
        os.utime(path, (now + 40 * SILENT, now + 40 * SILENT))
    assert look(tmp_path).state == "crashed"


# ---- whole commands ------------------------------------------------------------------------------------------

PRETRAIN = ("pretrain", "x.npz", "--recipe", "digits", "--steps", "2", "--width", "0.25", "--batch-size", "16",
            "--checkpoint-seconds", "0", "--out")  # fmt: skip
EMBED = ("embed", "run", "x.npz", "--out", "z.npz")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with Forks(tmp_path_factory.mktemp("forks")) as forks:
        yield forks


@pytest.fixture(scope="module")
def ready(forks, tmp_path_factory):
    """Images, a run of two steps on them, an older file of features."""
    at = tmp_path_factory.mktemp("ready")
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    np.savez(at / "x.npz", images=images)
    assert forks.run(at, (*PRETRAIN, "run")).status == 0
    np.savez(at / "z.npz", features=np.zeros((2, 2)))
    return at


@pytest.mark.parametrize("argv", [(*PRETRAIN, "out"), EMBED])
def test_a_command_killed_on_its_way_and_given_again(forks, ready, tmp_path, argv):
    out, resume = argv[-1], ("--resume",) if argv[0] == "pretrain" else ()
    whole = shutil.copytree(ready, tmp_path / "whole")
    changes = forks.run(whole, argv).changes
    earlier, expected = facts(ready / out), facts(whole / out)
    for share in (0.2, 0.5, 0.75, 0.99):
        at = shutil.copytree(ready, tmp_path / f"at-{share}")
        assert forks.run(at, argv, change=int(share * changes)).status == -signal.SIGKILL
        assert broken(at) == []
        if earlier:
            assert facts(at / out) in (earlier, expected)
        assert forks.run(at, (*argv, *(resume if (at / out).exists() else ()))).status == 0
        assert facts(at / out) == expected


@pytest.mark.parametrize("argv", [(*PRETRAIN, "out"), EMBED])
def test_a_full_disk_is_told_in_one_line(forks, ready, tmp_path, argv):
    out = argv[-1]
    for limit in (300, 2000, 5000):
        at = shutil.copytree(ready, tmp_path / f"at-{limit}")
        ended = forks.run(at, argv, limit=limit)
        assert ended.status == 2, ended.told
        assert "cannot write" in ended.refusals[0]
        assert "Traceback" not in ended.told
        assert broken(at) == []
        assert facts(at / out) == facts(ready / out)


def test_the_second_of_two_trainings_is_refused_whatever_the_clock_says(forks, ready, tmp_path):
    whole, at = (shutil.copytree(ready, tmp_path / name) for name in ("whole", "at"))
    argv = (*PRETRAIN, "out")
    first = forks.run(at, argv, change=9, signal=signal.SIGSTOP)
    ended = forks.run(at, (*argv, "--resume"), clock=True)
    assert (ended.status, len(ended.refusals)) == (2, 1)
    assert "another process is at work there" in ended.refusals[0]
    forks.end(first.stopped)
    assert forks.run(at, (*argv, "--resume"), clock=True).status == 0
    forks.run(whole, argv)
    assert facts(at / "out") == facts(whole / "out")
