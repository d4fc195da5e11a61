"""Mosaics: every pixel is a pixel of a sample of its class, at the right place, whatever else is drawn beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.data.mosaics import IGNORE, Mosaics
from swell.data.source import Provenance, Source
from swell.errors import InputError


def labelled(n=30, shape=(1, 8, 8), classes=5):
    """Every sample has its number in the first channel; of three, the others hold the row and the column in it."""
    samples = np.zeros((n, *shape), np.uint8)
    samples[:, 0] = np.arange(n)[:, None, None]
    if shape[0] > 1:
        samples[:, 1] = np.arange(shape[1])[:, None]
        samples[:, 2] = np.arange(shape[2])
    names = [f"c{k}" for k in range(classes)]
    return Source(samples, Provenance("real", "array"), np.arange(n) % classes, names)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(3, 9), st.integers(3, 9), st.integers(0, 2**40), st.none() | st.integers(1, 25))
def test_every_pixel_is_one_of_its_class_at_its_place_in_a_tile(tiles, h, w, seed, side):
    source = labelled(shape=(3, h, w))
    scenes = Mosaics(source, 4, tiles, seed, side)
    assert scenes.shape == (3, side or tiles * h, side or tiles * w)
    images, maps = scenes[:]
    assert (images.dtype, maps.dtype) == (np.uint8, np.int16)
    np.testing.assert_array_equal(source.labels[images[:, 0]], maps)
    for image in images.astype(int):
        number, row, column = image
        # Rows of pixels go through the rows of a tile without a gap, and start anew after its last.
        np.testing.assert_array_equal(np.diff(row, axis=0) % h, np.ones((row.shape[0] - 1, row.shape[1])))
        np.testing.assert_array_equal(np.diff(column, axis=1) % w, np.ones((column.shape[0], column.shape[1] - 1)))
        assert bool((row == row[:, :1]).all())
        same_tile = (row[:, 1:] == row[:, :-1]) & (column[:, 1:] > column[:, :-1])
        assert bool((number[:, 1:] == number[:, :-1])[same_tile].all())
        same_tile = (column[1:] == column[:-1]) & (row[1:] > row[:-1])
        assert bool((number[1:] == number[:-1])[same_tile].all())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 11), st.integers(0, 12), st.integers(1, 3))
def test_a_mosaic_depends_on_the_seed_and_its_number_only(start, stop, step):
    source = labelled()
    images, maps = Mosaics(source, 12, seed=3)[:]
    part = Mosaics(source, 400, seed=3)[start:stop:step]
    np.testing.assert_array_equal(part[0], images[start:stop:step])
    np.testing.assert_array_equal(part[1], maps[start:stop:step])
    other, _ = Mosaics(source, 12, seed=4)[:]
    assert (other != images).any(axis=(1, 2, 3)).all()


def test_the_borders_fall_everywhere_and_all_samples_appear_equally_often():
    source = labelled(20, (3, 8, 8))
    images, maps = Mosaics(source, 2000, 2)[:]
    starts = images[:, 1, 0, 0]  # the row of the tile that the window begins with
    assert np.bincount(starts, minlength=8).min() > 180  # of 250
    assert np.bincount(images[:, 2, 0, 0], minlength=8).min() > 180
    rows_differ = images[:, 2, 0, 0] != images[:, 2, 9, 0]  # another row of bricks starts elsewhere
    assert rows_differ.mean() > 0.8
    pixels = np.bincount(images[:, 0].ravel(), minlength=20)
    np.testing.assert_allclose(pixels / pixels.mean(), 1, atol=0.1)
    assert not (maps == IGNORE).any()


def test_names_are_the_sources_or_numbers():
    assert Mosaics(labelled(), 3).classes == ["c0", "c1", "c2", "c3", "c4"]
    plain = Source(np.zeros((4, 1, 4, 4), np.uint8), Provenance("real", "array"), np.array([0, 2, 2, 0]))
    assert Mosaics(plain, 3).classes == ["0", "1", "2"]
    assert Mosaics(labelled(), 3, 3, 7).describe() == {
        "source": "mosaics", "tiles": 3, "canvas": [24, 24], "seed": 7
    }  # fmt: skip


def test_what_no_mosaic_can_be_made_of_is_refused():
    source = labelled()
    for bad in (
        lambda: Mosaics(source, 3, 1),
        lambda: Mosaics(source, 3, 5),
        lambda: Mosaics(source, 3, True),
        lambda: Mosaics(source, 0),
        lambda: Mosaics(source, 3, side=0),
        lambda: Mosaics(source.unlabelled(), 3),
        lambda: Mosaics(labelled(classes=1), 3),
        lambda: Mosaics(Source(np.zeros((4, 3), np.float32), source.provenance, np.arange(4)), 3),
    ):
        with pytest.raises(InputError, match=r"^[^\n]*: expected [^\n]*$"):
            bad()
