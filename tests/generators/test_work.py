"""Unfinished sets: pieces are made once, by several processes, and survive a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swell.errors import InputError
from swell.files import read_json, sha256_of
from swell.generators.work import Work, publish, share_of_work

COMMAND = """
import sys
from swell.generators import generate, reference
generate.SHARD_SIZE = 64
reference.default_steps = lambda shape, count: 10
from swell.verbs import generate as make
make("builtin:digits", sys.argv[1], count=int(sys.argv[2]), steps=20, generator="vae", quiet=True, report=False,
     options={"width": 16, "depth": 1}, filter=0.2)
"""


def start(out: Path, count: int = 640) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(out), str(count)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def shards(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.npz"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("work") / "gen"
    assert start(out).wait(timeout=240) == 0
    return out


def test_killed_and_run_again_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    for wanted in (1, 4):  # kill when so many shards are there
        process = start(out)
        until = time.monotonic() + 120
        while len(list((tmp_path / "gen.unfinished").glob("shard-*.npz"))) < wanted and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    rows = sorted(
        (tmp_path / "gen.unfinished").glob("shard-*.row.json")
    )  # written after their shard: these are complete
    names = [row.name.removesuffix(".row.json") for row in rows]
    before = {name: (tmp_path / "gen.unfinished" / name).stat().st_mtime_ns for name in names}
    assert len(before) >= 3
    assert start(out).wait(timeout=240) == 0
    assert shards(out) == shards(undisturbed)
    assert all((out / name).stat().st_mtime_ns == at for name, at in before.items())  # none was made again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gen"]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in undisturbed.iterdir())


def test_three_processes_share_one_set(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    processes = [start(out) for _ in range(3)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0]
    assert shards(out) == shards(undisturbed)
    assert read_json(out / "manifest.json")["shards"] is not None
    ledger = read_json(out / "ledger.json")
    assert ledger["sampling"]["samples_generated"] == 640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gen"]


def test_more_samples_extend_a_finished_set(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    assert start(out, count=384).wait(timeout=240) == 0
    trained = (out / "generator.json").stat().st_size
    assert start(out, count=640).wait(timeout=240) == 0
    assert shards(out) == shards(undisturbed)
    assert (out / "generator.json").stat().st_size == trained


def _hold(folder: Path, ready: multiprocessing.synchronize.Event) -> None:  # type: ignore[name-defined]
    with Work(folder, {"count": 1}).claim("piece"):
        ready.set()
        time.sleep(60)


def test_a_claim_excludes_others_and_ends_with_its_process(tmp_path: Path) -> None:
    work = Work(tmp_path / "gen", {"count": 1})
    work.open(force=False)
    ready = multiprocessing.get_context("spawn").Event()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "gen", ready))
    holder.start()
    assert ready.wait(60)
    with work.claim("piece") as mine, work.claim("other") as other:
        assert (mine, other) == (False, True)
    holder.kill()
    holder.join()
    with work.claim("piece") as mine:
        assert mine


def test_other_settings_are_refused_and_force_clears(tmp_path: Path) -> None:
    Work(tmp_path / "gen", {"count": 1, "steps": 5}).open(force=False)
    Work(tmp_path / "gen", {"count": 9, "steps": 5}).open(force=False)  # more samples of the same
    other = Work(tmp_path / "gen", {"count": 1, "steps": 6})
    with pytest.raises(InputError, match="--force"):
        other.open(force=False)
    (other.folder / "shard-00000.npz").write_bytes(b"old")
    other.open(force=True)
    assert [p.name for p in other.folder.iterdir()] == ["settings.json"]


def test_first_to_publish_wins(tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "made").write_text(text)
        publish(tmp_path / "made", tmp_path / "piece")
    assert (tmp_path / "piece").read_text() == "first"
    assert not (tmp_path / "made").exists()


def test_share_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert share_of_work() == (0, 1)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    assert share_of_work() == (3, 8)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert share_of_work() == (1, 2)
