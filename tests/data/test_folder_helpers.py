"""Processes that read a folder: the same as one process does, whatever lies in it, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swell.data import folder_helpers, open_data
from swell.data.cache import DecodedCache
from swell.data.folder_helpers import Helpers, helping, look_at
from swell.data.folder_listing import list_images
from swell.data.images import TINY, decode_files
from swell.errors import InputError

NAMES = ["a.png", "zwei/ü ñ.png", 'line\nbreak "quoted".png', os.fsdecode(b"odd-\xff.png")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 8x8 under odd names and in odd formats, and files that are none."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for k in range(40):
        path = root / (NAMES[k] if k < len(NAMES) else f"{k % 3}/{k}.{('png', 'bmp', 'tif')[k % 3]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (root / "empty.png").touch()
    (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:60])
    (root / "gone.png").symlink_to(tmp_path / "nowhere")
    time.sleep(0.06)  # older than a tick of the clock: this listing may be trusted
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Helpers are used for any folder, a few files at a time; here they are."""
    processes: list[subprocess.Popen[bytes]] = []
    original = folder_helpers.helper

    def watched(module: str) -> subprocess.Popen[bytes]:
        processes.append(original(module))
        return processes[-1]

    monkeypatch.setattr(folder_helpers, "helper", watched)
    monkeypatch.setattr(folder_helpers, "MANY", 1)
    monkeypatch.setattr(folder_helpers, "_EACH", 4)
    return processes


def test_headers_and_pixels_are_those_of_one_process(folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    files, _ = list_images(folder)
    with helping(len(files), 3) as helpers:
        assert helpers is not None
        ours, alone = (list(chain.from_iterable(look_at(folder, files, h))) for h in (helpers, None))
        assert ours == alone
        chunks = list(helpers.decode(folder, files, 6, 3))
    plain = list(decode_files(folder, files, 6, 3, TINY, 1))
    assert 1 <= len(started) <= 3
    assert all(process.poll() is not None for process in started)
    for field in ("digests", "bad"):
        of_all = [list(chain.from_iterable(getattr(c, field) for c in found)) for found in (chunks, plain)]
        assert of_all[0] == of_all[1]
    assert [c.lasting for c in chunks if not c.lasting] == [c.lasting for c in plain if not c.lasting]
    rows = [np.stack([row for c in found for row in c.rows]) for found in (chunks, plain)]
    assert np.array_equal(*rows)


def test_a_folder_opens_as_it_would(
    folder: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = open_data(folder, max_bad=0.2, cache=tmp_path / "many", workers=2, quiet=True)
    assert started
    monkeypatch.setattr(folder_helpers, "MANY", 1000)
    one = open_data(folder, max_bad=0.2, cache=tmp_path / "one", workers=2, quiet=True)
    assert np.array_equal(many.samples, one.samples)
    assert (many.skipped, many.fingerprint) == (one.skipped, one.fingerprint)
    indices = [next((tmp_path / name).glob("*.json")) for name in ("many", "one")]
    assert indices[0].name == indices[1].name
    assert indices[0].read_text().split('"content"')[1] == indices[1].read_text().split('"content"')[1]


@pytest.mark.parametrize("when", ["before it answers", "between two questions"])
def test_a_process_ended_from_outside_is_told_and_leaves_nothing(
    folder: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    original = folder_helpers.helper

    def doomed(module: str) -> subprocess.Popen[bytes]:
        process = original(module)
        if when == "before it answers":
            process.kill()
        else:
            monkeypatch.setattr(DecodedCache, "collect", killing(process))
        return process

    collect = DecodedCache.collect

    def killing(process: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]
        def first_killed(*given):  # type: ignore[no-untyped-def]
            process.send_signal(signal.SIGKILL)
            return collect(*given)

        return first_killed

    monkeypatch.setattr(folder_helpers, "helper", doomed)
    with pytest.raises(InputError, match=r"ended from outside \(status -9\)"):
        open_data(folder, max_bad=0.2, cache=tmp_path / "cache", workers=2, quiet=True)
    assert not list((tmp_path / "cache").glob("*"))
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(("n", "workers"), [(10, 4), (folder_helpers.MANY, 1)])
def test_few_files_or_one_core_need_no_process(n: int, workers: int) -> None:
    with helping(n, workers) as helpers:
        assert helpers is None


def test_helpers_that_nobody_asked_are_not_started() -> None:
    helpers = Helpers(2)
    helpers.close()
    assert not helpers._all
