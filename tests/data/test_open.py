"""What a folder becomes: order, channels, size, labels, skipped files; and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swell.data import Provenance, Source, open_data
from swell.data.gen import write_gen
from swell.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))


def make(root: Path, **colours: int | tuple[int, int, int]) -> Path:
    """Flat 8x8 PNG files; `cat__a=3` becomes cat/a.png, grey where a number is given, else colour."""
    for name, colour in colours.items():
        path = root / (name.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (8, 8) if isinstance(colour, int) else (8, 8, 3)
        Image.fromarray(np.broadcast_to(np.uint8(colour), shape).copy()).save(path)
    return root


def test_order_channels_and_provenance(tmp_path: Path) -> None:
    root = make(tmp_path / "p", b__2=2, b__10=10, a=1, c__deep__x=3)
    source = open_data(str(root))
    assert source.samples.dtype == np.uint8
    assert source.samples.shape == (4, 1, 8, 8)
    assert source.samples[:, 0, 0, 0].tolist() == [1, 10, 2, 3]
    assert source.provenance == Provenance("real", str(root))
    assert source.labels is None
    assert source.skipped == ()
    make(root, d=(4, 5, 6))
    source = open_data(root)
    assert source.shape == (3, 8, 8)
    assert source.samples[0, :, 0, 0].tolist() == [1, 1, 1]
    assert source.samples[4, :, 0, 0].tolist() == [4, 5, 6]


def test_threads_and_sizes_do_not_change_the_result(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    (tmp_path / "p").mkdir()
    for i in range(70):
        h, w = rng.randint(130, 200, 2)
        pixels = rng.randint(0, 256, (h // 10, w // 10, 3), np.uint8)
        Image.fromarray(pixels).resize((w, h)).save(tmp_path / f"p/{i:02d}.jpg")
    one = open_data(tmp_path / "p", workers=1, cache=tmp_path / "1")
    three = open_data(tmp_path / "p", workers=3, cache=tmp_path / "2")
    np.testing.assert_array_equal(one.samples, three.samples)
    assert one.shape == (3, 96, 96)
    assert one.fingerprint == three.fingerprint
    assert open_data(tmp_path / "p", size=40).shape == (3, 40, 40)


def test_folder_labels(tmp_path: Path) -> None:
    root = make(tmp_path / "p", dog__a=1, cat__x__b=2, cat__c=3, ant__d=4)
    source = open_data(root, labels=True)
    assert source.labels is not None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 1, 1, 2]
    assert source.classes == ["ant", "cat", "dog"]
    (root / "ant" / "d.png").write_bytes(b"")
    source = open_data(root, labels=True, max_bad=0.3, quiet=True)  # labels follow the samples when files are skipped
    assert source.classes == ["cat", "dog"]
    assert source.samples[:, 0, 0, 0].tolist() == [3, 2, 1]
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1]
    make(root, loose=9)
    with pytest.raises(InputError, match=r"1 of 4 images lie outside"):
        open_data(root, labels=True, max_bad=0.3, quiet=True)
    with pytest.raises(InputError, match="no key"):
        open_data(root, labels="kind")


def test_unreadable_files_are_listed_and_too_many_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make(tmp_path / "p", **{f"i{k}": k for k in range(20)})
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(root / "broken.jpg")
    (root / "broken.jpg").write_bytes((root / "broken.jpg").read_bytes()[:900])
    (root / "fake.png").write_text("no image")
    (root / "none.tif").write_bytes(b"")
    source = open_data(root, max_bad=0.2)
    assert len(source) == 20
    assert [line.split(": ")[0] for line in source.skipped] == ["broken.jpg", "fake.png", "none.tif"]
    assert "truncated" in source.skipped[0]
    assert source.skipped[2] == "none.tif: empty file"
    assert "3 of 23 files left out" in capsys.readouterr().err
    for _ in range(2):  # from the files and from the cache
        with pytest.raises(InputError, match=r"3 of 23 images are unreadable \(broken.jpg: .*; fake.png: not a JPEG"):
            open_data(root)


def test_folders_without_enough_images(tmp_path: Path) -> None:
    root = make(tmp_path / "p", a=1)
    with pytest.raises(InputError, match="1 samples"):
        open_data(root)
    (root / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="1 of 1"):
        open_data(root, max_bad=1.0)
    truncated = make(tmp_path / "q", a=1, b=2)
    for file in truncated.iterdir():  # headers are fine, pixels are not
        file.write_bytes(file.read_bytes()[:45])
    with pytest.raises(InputError, match="2 of 2"):
        open_data(truncated, max_bad=1.0)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1  # that of the folder with one good image
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no images \(1 other files\)"):
        open_data(tmp_path / "empty")


@pytest.mark.parametrize("name", ["hf:cifar10:train", "s3://b/c", "s3://b/x-{000..099}.tar"])
def test_kinds_of_later_versions_say_so(name: str) -> None:
    with pytest.raises(InputError, match="this version opens no names"):
        open_data(name)


@pytest.mark.parametrize("name", ["", "nowhere", "nowhere.npz", "nowhere.h5ad", "nowhere.csv", "a\0b"])
def test_missing_paths(name: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_data(name)


def test_other_things_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "p", a=1, b=2)
    with pytest.raises(InputError, match="put them into a folder"):
        open_data(root / "a.png")
    for thing in (None, 3, [1, 2], {"images": 1}, (np.ones((3, 2)),), b"photos"):
        with pytest.raises(InputError, match="NumPy array"):
            open_data(thing)  # type: ignore[arg-type]
    for wrong in ({"size": 0}, {"size": 100000}, {"max_bad": 1.5}, {"max_bad": -0.1}):
        with pytest.raises(InputError):
            open_data(root, **wrong)  # type: ignore[arg-type]


def test_source_is_returned_as_it_is_but_for_labels() -> None:
    samples = np.zeros((3, 1, 8, 8), np.uint8)
    labelled = Source(samples, Provenance("real", "x"), np.arange(3), ["a", "b", "c"])
    assert open_data(labelled, labels=True) is labelled
    dropped = open_data(labelled)
    assert dropped.labels is None
    assert dropped.samples is samples
    assert open_data(dropped) is dropped
    with pytest.raises(InputError, match="without labels"):
        open_data(dropped, labels=True)


def test_folder_of_generated_samples(tmp_path: Path) -> None:
    made = np.random.RandomState(0).randint(0, 256, (5, 3, 6, 6), np.uint8)
    write_gen(tmp_path / "gen", made, Provenance("generated", "gen", generator="kde", trained_on="0" * 16))
    source = open_data(tmp_path / "gen")
    np.testing.assert_array_equal(source.samples, made)
    assert source.provenance.kind == "generated"
    assert open_data(tmp_path / "gen", size=3).shape == (3, 3, 3)
    with pytest.raises(InputError, match="without labels"):
        open_data(tmp_path / "gen", labels=True)


def test_folder_with_a_manifest_of_its_own_is_still_a_folder_of_images(tmp_path: Path) -> None:
    root = make(tmp_path / "p", a=1, b=2)
    (root / "manifest.json").write_text("{}")
    assert len(open_data(root)) == 2


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, swell.data; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.split() == ["False", "False"]
