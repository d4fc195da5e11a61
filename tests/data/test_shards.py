"""Shards: which files a name stands for, what their index says, and that it is made anew when it must be."""

import io
import os
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from packing import png, write_tar
from swell.data import shards
from swell.data.open import open_data
from swell.data.shards import expanded, find_shards, index_of
from swell.errors import InputError
from swell.files import write_json


@pytest.fixture
def folder(tmp_path):
    """Three shards of ten pictures each, with labels as a number and as JSON."""
    rng = np.random.default_rng(0)
    (tmp_path / "shards").mkdir()
    for s in range(3):
        contents = []
        for i in range(10):
            pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
            key = f"{i:04d}"
            contents += [(f"{key}.png", png(pixels)), (f"{key}.cls", b"%d\n" % (i % 3))]
            contents += [(f"{key}.json", b'{"label": "kind %d", "other": %d}' % (i % 2, s))]
        write_tar(tmp_path / "shards" / f"x-{s:03d}.tar", contents)
    return tmp_path / "shards"


def test_names_and_patterns(folder):
    every = [str(folder / f"x-{s:03d}.tar") for s in range(3)]
    assert find_shards(folder).files == tuple(every)
    assert expanded(str(folder / "x-{000..002}.tar")) == every
    assert expanded(str(folder / "x-{002,000}.tar")) == [every[2], every[0]]
    assert expanded(str(folder / "x-*.tar")) == every
    assert find_shards(every[0]).files == (every[0],)
    assert find_shards(folder.parent / "nothing") is None
    with pytest.raises(InputError, match=r"2 of 5 files are missing, the first .*x-003.tar"):
        expanded(str(folder / "x-{000..004}.tar"))
    with pytest.raises(InputError, match="missing"):
        expanded(str(folder / "y-*.tar"))
    with pytest.raises(InputError, match="1,000,000 files at most"):
        expanded("x-{000..999}{000..999}{000..999}.tar")
    assert list(shards._choices("8..11")) == ["8", "9", "10", "11"]


def test_a_folder_with_images_is_a_folder_of_images(folder):
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    Image.new("RGB", (8, 8)).save(folder / "two.png")
    assert find_shards(folder) is None
    assert len(open_data(folder, quiet=True)) == 2


def test_samples_and_labels_as_tarfile_and_pillow_read_them(folder):
    expected, names = [], []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                if info.name.endswith(".png"):
                    with Image.open(tar.extractfile(info)) as image:
                        expected.append(np.asarray(image)[:8].transpose(2, 0, 1))  # the centre of 9 rows is the first 8
                    names.append(f"{path.name}/{info.name}")
    source = open_data(folder, size=8, labels=True)
    np.testing.assert_array_equal(source.samples[:], expected)
    assert [source.samples.index.name(i) for i in range(30)] == names
    assert [source.classes[k] for k in source.labels] == [str(i % 3) for _ in range(3) for i in range(10)]
    other = open_data(folder, size=8, labels="label")
    assert list(other.classes) == ["kind 0", "kind 1"]
    assert open_data(folder, size=8).labels is None
    assert open_data(folder, size=8).fingerprint == source.fingerprint != open_data(folder, size=7).fingerprint
    with pytest.raises(InputError, match="'missing'"):
        open_data(folder, labels="missing")


def test_the_index_is_kept_and_noticed_when_it_no_longer_fits(folder, tmp_path, monkeypatch):
    packed, cache = find_shards(folder), tmp_path / "cache"
    time.sleep(0.06)  # older than a tick of the clock
    first = index_of(packed, cache)
    assert len(list(cache.glob("index-*.npz"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(shards, "tar_piece", None)  # from now on nothing is read
        again = index_of(packed, cache)
    for name in ("shard", "offset", "size", "labels", "names", "ends", "content", "files", "stats"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    (kept,) = cache.glob("index-*.npz")
    kept.write_bytes(kept.read_bytes()[:-300])  # damaged: made anew
    assert len(index_of(packed, cache)) == 30
    before = open_data(folder).fingerprint
    path = folder / "x-001.tar"
    content = bytearray(path.read_bytes())
    at = bytes(content).find(b"IEND") - 30  # within a picture
    content[at] ^= 1
    path.write_bytes(content)
    assert open_data(folder, max_bad=1).fingerprint != before


def test_equal_shards_elsewhere_have_the_same_fingerprint(folder, tmp_path):
    before = open_data(folder).fingerprint
    folder.rename(tmp_path / "moved")
    assert open_data(tmp_path / "moved").fingerprint == before


def test_what_is_no_sample_is_left_out_and_told(tmp_path, capsys):
    picture = png(np.zeros((8, 8, 3), np.uint8))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in (
            "a.png",
            "b.png",
            "b.mask.png",
            "../out.png",
            "/etc/out.png",
            "c.left.png",
            "c.right.png",
            "._d.png",
        ):
            info = tarfile.TarInfo(name)
            info.size = len(picture)
            tar.addfile(info, io.BytesIO(picture))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    source = open_data(tmp_path / "x.tar")
    names = [source.samples.index.name(i) for i in range(len(source))]
    assert names == ["x.tar/a.png", "x.tar/b.png", "x.tar/c.left.png", "x.tar/c.right.png"]
    told = capsys.readouterr().err
    for words in ("2 names that lead out", "1 further images", "1 links or devices"):
        assert words in told
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]  # nothing was written


def test_damaged_shards_are_refused(tmp_path, folder):
    picture = png(np.zeros((8, 8, 3), np.uint8))
    write_tar(tmp_path / "twice.tar", [("a.png", picture), ("a.png", picture)])
    with pytest.raises(InputError, match=r"'a.png' twice"):
        open_data(tmp_path / "twice.tar")
    write_tar(tmp_path / "none.tar", [("a.txt", b"words")])
    with pytest.raises(InputError, match="no images"):
        open_data(tmp_path / "none.tar")
    path = folder / "x-002.tar"
    os.truncate(path, 3000)
    with pytest.raises(InputError, match=r"x-002.tar .*cut short"):
        open_data(folder)


def test_a_missing_end_is_told(tmp_path, capsys):
    picture = png(np.zeros((8, 8, 3), np.uint8))
    write_tar(tmp_path / "x.tar", [("a.png", picture), ("b.png", picture)])
    end = (512 + (len(picture) + 511) // 512 * 512) * 2
    os.truncate(tmp_path / "x.tar", end)
    assert len(open_data(tmp_path / "x.tar")) == 2
    assert "without which nobody knows whether all is there: x.tar" in capsys.readouterr().err


def test_several_splits_are_refused_and_a_folder_without_its_files(tmp_path):
    (tmp_path / "both" / "train").mkdir(parents=True)
    write_json(tmp_path / "both" / "dataset_dict.json", {"splits": ["train"]})
    with pytest.raises(InputError, match=r"both/train"):
        find_shards(tmp_path / "both")
    write_json(tmp_path / "state.json", {"_data_files": [{"filename": "../../etc/passwd"}]})
    with pytest.raises(InputError, match="no file of this folder"):
        find_shards(tmp_path)
    write_json(tmp_path / "state.json", {"_data_files": [], "_indices_files": [{"filename": "i.arrow"}]})
    with pytest.raises(InputError, match="flatten_indices"):
        find_shards(tmp_path)
