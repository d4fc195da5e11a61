from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from swell.report.pictures import (
    channels_note,
    contact_sheet,
    png_data_uri,
    sprite,
    visible,
    write_contact_sheet,
)


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def images(n: int, channels: int, high: int, wide: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, channels, high, wide), dtype=np.uint8)


@pytest.mark.parametrize(
    ("n", "channels", "high", "wide", "columns"), [(1, 1, 8, 8, 0), (7, 3, 6, 9, 3), (30, 5, 8, 8, 0)]
)
def test_sprite_holds_every_image_at_its_place(n, channels, high, wide, columns):
    a = images(n, channels, high, wide)
    s = sprite(a, columns)
    sheet = decoded(s.uri)
    assert s.tile == (wide, high)
    assert sheet.shape[:2] == (s.rows * high, s.columns * wide)
    for i in range(n):
        y, x = i // s.columns * high, i % s.columns * wide
        expected = a[i, : 3 if channels >= 3 else 1].transpose(1, 2, 0)
        assert np.array_equal(sheet[y : y + high, x : x + wide], expected)


def test_large_images_are_averaged_down_and_keep_their_shape():
    a = np.kron(images(4, 3, 10, 20), np.ones((1, 1, 4, 4), np.uint8))
    s = sprite(a, longest=20)
    assert s.tile == (20, 10)
    assert s.size == (80, 40)
    first = decoded(s.uri)[:10, :20]
    assert np.array_equal(first, a[0, :, ::4, ::4].transpose(1, 2, 0))


@pytest.mark.parametrize(("n", "side", "tile"), [(400, 32, 32), (7000, 30, 24), (20_000, 20, 16)])
def test_a_large_sheet_is_small_and_stays_close(n, side, tile):
    a = np.zeros((n, 3, side, side), np.uint8)
    a[:, 0], a[:, 1] = (np.arange(n) % 8 * 30)[:, None, None], (np.arange(n) // 8 % 8 * 30)[:, None, None]
    s = sprite(a)
    assert s.tile == (tile, tile)
    assert len(s.uri) < 4_000_000
    head, data = s.uri.split(",")
    assert head == "data:image/jpeg;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    for i in (0, 37, n - 1):
        y, x = i // s.columns * tile, i % s.columns * tile
        for corner in (1, tile - 2):  # tiles are whole blocks, so neighbours do not bleed into each other
            assert np.abs(sheet[y + corner, x + corner] - a[i, :, 0, 0]).max() <= 8


def test_channels():
    assert visible(images(2, 2, 4, 4)).shape == (2, 4, 4, 1)
    assert visible(images(2, 4, 4, 4)).shape == (2, 4, 4, 3)
    assert [channels_note(c) for c in (1, 3)] == ["", ""]
    assert "first of 2" in channels_note(2)
    assert "first three of 12" in channels_note(12)
    one = images(1, 12, 5, 5)
    assert np.array_equal(decoded(png_data_uri(one[0])), one[0, :3].transpose(1, 2, 0))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4, 4), np.float32), np.zeros((3, 4, 4), np.uint8)])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match="expected uint8"):
        sprite(wrong)


def test_contact_sheet(tmp_path):
    a = images(5, 1, 8, 8)
    sheet = contact_sheet(a, columns=3, gap=2, side=16)
    assert sheet.shape == (34, 52, 1)
    assert np.array_equal(sheet[18:34:2, 18:34:2, 0], a[4, 0])  # second row, second column, enlarged twofold
    assert (sheet[:, 16:18] == 255).all()
    write_contact_sheet(tmp_path / "samples.png", a, columns=3)
    assert Image.open(tmp_path / "samples.png").size == (3 * 48 + 2, 2 * 48 + 1)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(a[:0])
