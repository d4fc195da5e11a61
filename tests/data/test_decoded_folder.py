"""A large folder is read once, at the size that a part of it tells, and comes out as if all had been looked at first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swell.data import decoded_folder, folder_helpers, images, open_data
from swell.data.source import Source
from swell.errors import InputError

COUNT = 120
SEEN = (0, 29, 59, 89, 119)  # by the first look
Make = Callable[[int], Image.Image]
RNG = np.random.default_rng(0)


def colour(width: int = 16, height: int = 16) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def grey(side: int = 16) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (side, side), dtype=np.uint8))


FOLDERS: dict[str, tuple[Make, bool]] = {
    "alike": (lambda i: colour(), True),
    "grey": (lambda i: grey(), True),
    "one in colour, near the end": (lambda i: colour() if i == COUNT - 2 else grey(), False),
    "of many sizes": (lambda i: colour(20 + i % 7, 30 + i % 3), True),
    "of another size where nobody looked": (lambda i: colour(16, 17) if i in SEEN else colour(40, 40), False),
    "one of another size, the median kept": (lambda i: colour(20 if i == 57 else 16), True),
    "one of another size, the rule not": (lambda i: colour(20 if i == 57 else 13, 20 if i == 57 else 13), False),
}


@pytest.fixture(params=["one process", "helpers"])
def small_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_folder, "LOOKED", 5)
    monkeypatch.setattr(images, "_CHUNK", 4)
    monkeypatch.setattr(folder_helpers, "_EACH", 4)
    monkeypatch.setattr(folder_helpers, "MANY", 1 if request.param == "helpers" else 10**9)


def opened(root: Path, cache: Path, **options: float) -> Source:
    return open_data(root, cache=cache, workers=2, quiet=True, **options)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.usefixtures("small_numbers")
def test_once_is_as_good_as_twice(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, expected = FOLDERS[name]
    (tmp_path / "photos").mkdir()
    for i in range(COUNT):
        make(i).save(tmp_path / "photos" / f"{i:03d}.png")
    looks: list[int] = []
    look_at = decoded_folder.look_at
    monkeypatch.setattr(decoded_folder, "look_at", lambda *given: (looks.append(len(given[1])), look_at(*given))[1])
    once = opened(tmp_path / "photos", tmp_path / "once")
    assert looks == ([] if expected else [COUNT])
    monkeypatch.setattr(decoded_folder, "LOOKED", COUNT)
    twice = opened(tmp_path / "photos", tmp_path / "twice")
    assert looks == ([COUNT] if expected else [COUNT, COUNT])
    assert once.samples.shape == twice.samples.shape
    assert np.array_equal(once.samples, twice.samples)
    assert once.fingerprint == twice.fingerprint
    kept = [sorted(path.name for path in (tmp_path / cache).iterdir()) for cache in ("once", "twice")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2  # nothing is left of what was given up


@pytest.mark.usefixtures("small_numbers")
def test_many_bad_files_are_counted_before_they_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(COUNT):
        path = tmp_path / "photos" / f"{i:03d}.png"
        if 10 <= i < 40 or i == 80:
            path.touch()
        else:
            colour().save(path)
    with pytest.raises(InputError, match=f"31 of {COUNT} images are unreadable"):
        opened(tmp_path / "photos", tmp_path / "cache", max_bad=0.1)
    assert not list((tmp_path / "cache").glob("*"))
    source = opened(tmp_path / "photos", tmp_path / "cache", max_bad=0.5)
    assert len(source) == COUNT - 31
    assert len(source.skipped) == 31


def test_damaged_pixels_do_not_hide_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose header can be read counts for the size, whatever becomes of it then."""
    monkeypatch.setattr(decoded_folder, "LOOKED", 5)
    (tmp_path / "photos").mkdir()
    for i in range(20):
        path = tmp_path / "photos" / f"{i:03d}.png"
        colour(13, 13).save(path)
        if i == 7:
            colour(20, 20).save(path)
            path.write_bytes(path.read_bytes()[:200])
    once = opened(tmp_path / "photos", tmp_path / "once", max_bad=0.5)
    monkeypatch.setattr(decoded_folder, "LOOKED", 20)
    twice = opened(tmp_path / "photos", tmp_path / "twice", max_bad=0.5)
    assert once.samples.shape == twice.samples.shape == (19, 3, 8, 8)
