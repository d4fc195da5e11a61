"""The cache of decoded folders: immediate, never stale, robust against damage."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swell.data import Source, open_data
from swell.data.cache import cache_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten BMP files, so that every content has the same size in bytes."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(10):
        write(root / f"sub/{i}.bmp", i)
    time.sleep(0.06)  # older than a tick of the clock: this listing may be trusted
    return root


def write(path: Path, value: int) -> None:
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def values(source: Source) -> list[int]:
    assert (source.samples == source.samples[:, :1, :1, :1]).all()
    return source.samples[:, 0, 0, 0].tolist()


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch):
    def arm() -> None:
        def wire(*_: object) -> None:
            raise AssertionError("decoded again")

        monkeypatch.setattr("swell.data.decoded_folder.decode_files", wire)

    return arm


def test_second_opening_decodes_nothing_and_knows_the_fingerprint(cache: Path, photos: Path, no_decoding) -> None:
    first = open_data(photos)
    no_decoding()
    second = open_data(photos, labels=True)
    np.testing.assert_array_equal(first.samples, second.samples)
    stored = second.__dict__["_fingerprint"]
    assert stored == Source(np.array(second.samples), second.provenance).fingerprint
    assert second.classes == ["sub"]
    assert not second.samples.flags.writeable
    assert type(second.samples) is np.ndarray


def test_change_of_equal_size_and_restored_mtime_is_noticed(cache: Path, photos: Path) -> None:
    assert values(open_data(photos)) == list(range(10))
    file = photos / "sub/3.bmp"
    before = file.stat()
    write(file, 200)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert values(open_data(photos)) == [0, 1, 2, 200, 4, 5, 6, 7, 8, 9]


def test_changes_within_one_clock_tick_are_noticed(cache: Path, photos: Path) -> None:
    for value in range(20, 40):  # write, open, write, open ... as fast as it goes
        write(photos / "sub/0.bmp", value)
        assert values(open_data(photos))[0] == value


def test_added_removed_and_renamed_files(cache: Path, photos: Path) -> None:
    open_data(photos)
    write(photos / "sub/95.bmp", 95)
    assert values(open_data(photos)) == [*range(10), 95]
    (photos / "sub/0.bmp").unlink()
    assert values(open_data(photos)) == [*range(1, 10), 95]
    (photos / "sub/1.bmp").rename(photos / "z.bmp")
    assert values(open_data(photos)) == [*range(2, 10), 95, 1]
    (photos / "sub/2.bmp").rename(photos / "t.bmp")
    (photos / "sub/3.bmp").rename(photos / "sub/2.bmp")
    (photos / "t.bmp").rename(photos / "sub/3.bmp")  # two swapped names: the same listing of names and sizes
    assert values(open_data(photos)) == [3, 2, *range(4, 10), 95, 1]


def test_touched_copied_and_moved_folders_are_not_decoded_again(
    cache: Path, photos: Path, tmp_path: Path, no_decoding
) -> None:
    first = open_data(photos)
    no_decoding()
    for file in photos.rglob("*.bmp"):
        os.utime(file)
    time.sleep(0.06)
    assert values(open_data(photos)) == list(range(10))
    shutil.copytree(photos, tmp_path / "copy")
    time.sleep(0.06)
    copied = open_data(tmp_path / "copy")
    assert values(copied) == list(range(10))
    assert copied.fingerprint == first.fingerprint
    assert copied.provenance.origin == str(tmp_path / "copy")
    photos.rename(tmp_path / "moved")
    assert values(open_data(tmp_path / "moved")) == list(range(10))
    [index] = cache.glob("*.json")
    assert len(json.loads(index.read_text())["listings"]) == 3  # original = moved, touched, copied


def test_equal_names_and_sizes_with_other_content_are_another_entry(cache: Path, photos: Path, tmp_path: Path) -> None:
    open_data(photos)
    shutil.copytree(photos, tmp_path / "other")
    write(tmp_path / "other/sub/5.bmp", 99)
    assert values(open_data(tmp_path / "other"))[5] == 99
    assert values(open_data(photos))[5] == 5
    assert len(list(cache.glob("*.npy"))) == 2


def test_sizes_are_kept_apart(cache: Path, photos: Path) -> None:
    assert open_data(photos, size=4).shape == (3, 4, 4)
    assert open_data(photos).shape == (3, 8, 8)
    assert open_data(photos, size=4).shape == (3, 4, 4)
    assert len(list(cache.glob("*.npy"))) == 2


def test_newest_entry_of_a_folder_replaces_older_ones(cache: Path, photos: Path) -> None:
    for value in (50, 51, 52):
        write(photos / "sub/new.bmp", value)
        write(photos / f"sub/{value}.bmp", value)
        open_data(photos)
    assert len(list(cache.glob("*.npy"))) == len(list(cache.glob("*.json"))) == 1


def test_skipped_files_are_remembered(cache: Path, photos: Path, no_decoding) -> None:
    (photos / "sub/4.bmp").write_bytes((photos / "sub/4.bmp").read_bytes()[:100])
    (photos / "sub/7.bmp").write_bytes(b"")
    time.sleep(0.06)
    first = open_data(photos, max_bad=0.5, quiet=True)
    no_decoding()
    second = open_data(photos, max_bad=0.5, quiet=True)
    assert first.skipped == second.skipped
    assert [line.split(":")[0] for line in second.skipped] == ["sub/4.bmp", "sub/7.bmp"]
    assert values(second) == [0, 1, 2, 3, 5, 6, 8, 9]


def cut(blob: Path, index: Path) -> None:
    os.truncate(blob, blob.stat().st_size - 5)


def cut_with_old_mtime(blob: Path, index: Path) -> None:
    stat = blob.stat()
    os.truncate(blob, 300)
    os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip_a_pixel(blob: Path, index: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[700] ^= 1
    blob.write_bytes(content)


def spoil_header(blob: Path, index: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[12:40] = b"?" * 28
    blob.write_bytes(content)


def other_shape(blob: Path, index: Path) -> None:
    blob.write_bytes(blob.read_bytes().replace(b"(10, 3, 8, 8)", b"(10, 3, 4,16)"))


def pickled(blob: Path, index: Path) -> None:
    np.save(blob, np.array([{}], object), allow_pickle=True)


def no_blob(blob: Path, index: Path) -> None:
    blob.unlink()


def empty_blob(blob: Path, index: Path) -> None:
    blob.write_bytes(b"")


def no_json(blob: Path, index: Path) -> None:
    index.write_text('{"version": 1, ')


def other_json(blob: Path, index: Path) -> None:
    index.write_text("[1, 2]")


def wrong_types(blob: Path, index: Path) -> None:
    index.write_text(json.dumps({**json.loads(index.read_text()), "bad": 3, "listings": None}))


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, cut_with_old_mtime, flip_a_pixel, spoil_header, other_shape, pickled, no_blob, empty_blob),
        *(no_json, other_json, wrong_types),
    ],
)
def test_damaged_entry_is_rebuilt(damage, cache: Path, photos: Path, no_decoding) -> None:
    open_data(photos)
    [blob], [index] = cache.glob("*.npy"), cache.glob("*.json")
    damage(blob, index)
    assert values(open_data(photos, quiet=True)) == list(range(10))
    no_decoding()
    assert values(open_data(photos)) == list(range(10))
    assert sorted(p.suffix for p in cache.iterdir()) == [".json", ".npy"]


def test_blob_with_new_mtime_and_equal_content_is_used(cache: Path, photos: Path, no_decoding) -> None:
    open_data(photos)
    [blob] = cache.glob("*.npy")
    os.utime(blob)
    no_decoding()
    assert values(open_data(photos)) == list(range(10))


def test_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    source = open_data(photos, cache=tmp_path / "file" / "cache")
    assert values(source) == list(range(10))
    assert "not kept" in capsys.readouterr().err
    open_data(photos, cache=tmp_path / "file" / "cache", quiet=True)
    assert capsys.readouterr().err == ""


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SWELL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/swell")
    monkeypatch.setenv("SWELL_CACHE", "/y")
    assert cache_folder() == Path("/y")
    assert cache_folder("/z") == Path("/z")
