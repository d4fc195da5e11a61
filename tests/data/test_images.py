"""Every kind of image file against expectations worked out from its pixels, and listings of awkward folders."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swell.data import open_data
from swell.data.folder_listing import list_images
from swell.data.images import Header, automatic_size, decode, read_header, square
from swell.data.images import header_of as pillows
from swell.data.png_header import png_header
from swell.errors import InputError

RNG = np.random.RandomState(7)
GREY = RNG.randint(0, 256, (8, 8), np.uint8)
RGB = RNG.randint(0, 256, (8, 8, 3), np.uint8)
ALPHA = RNG.randint(0, 256, (8, 8), np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder(root: Path, **files: bytes) -> Path:
    """A folder of files; `a_png` becomes a.png."""
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / ".".join(name.rsplit("_", 1))).write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
                          ("WEBP", {"lossless": True})]
)  # fmt: skip
def test_lossless_colour_is_exact(kind: str, options: dict[str, object]) -> None:
    content = encoded(Image.fromarray(RGB), kind, **options)
    np.testing.assert_array_equal(decode(content, 8, 3), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_grey_is_exact_in_one_and_in_three_channels(kind: str) -> None:
    content = encoded(Image.fromarray(GREY), kind)
    np.testing.assert_array_equal(decode(content, 8, 1), GREY[None])
    np.testing.assert_array_equal(decode(content, 8, 3), np.stack([GREY] * 3))


def test_jpeg_matches_pillow_and_progressive_grey_too() -> None:
    for image in (Image.fromarray(RGB), Image.fromarray(GREY)):
        content = encoded(image, "JPEG", quality=90, progressive=True)
        expected = np.atleast_3d(np.asarray(Image.open(io.BytesIO(content)))).transpose(2, 0, 1)
        np.testing.assert_array_equal(decode(content, 8, len(expected)), expected)


def test_one_bit_becomes_black_and_white() -> None:
    bits = GREY > 127
    for kind in ("PNG", "TIFF", "BMP"):
        content = encoded(Image.fromarray(bits), kind)
        np.testing.assert_array_equal(decode(content, 8, 1)[0], bits * 255)


def test_palette_colours() -> None:
    colours = RNG.randint(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(GREY)  # its values become indices
    image.putpalette(colours.tobytes())
    assert image.mode == "P"
    for kind in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(image, kind), 8, 3), colours[GREY].transpose(2, 0, 1))


def test_palette_counts_as_grey_only_when_all_its_colours_are(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[::-1, None], 3, 1)  # inverted greys
    grey, colour = Image.fromarray(GREY), Image.fromarray(GREY)
    grey.putpalette(ramp.tobytes())
    ramp[3, 0] ^= 255
    colour.putpalette(ramp.tobytes())
    root = folder(tmp_path / "grey", a_png=encoded(grey, "PNG"), b_png=encoded(grey, "PNG"))
    np.testing.assert_array_equal(open_data(root).samples[0, 0], 255 - GREY)
    root = folder(tmp_path / "colour", a_png=encoded(grey, "PNG"), b_png=encoded(colour, "PNG"))
    assert open_data(root).shape == (3, 8, 8)


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    a = alpha[..., None] / 255 if values.ndim == 3 else alpha / 255
    return a * values + (1 - a) * 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_laid_over_white(kind: str) -> None:
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    made = decode(encoded(rgba, kind), 8, 3).transpose(1, 2, 0)
    np.testing.assert_allclose(made, over_white(RGB, ALPHA), atol=1)
    la = Image.fromarray(np.dstack([GREY, ALPHA]), "LA") if kind == "PNG" else None
    if la is not None:
        np.testing.assert_allclose(decode(encoded(la, kind), 8, 1)[0], over_white(GREY, ALPHA), atol=1)


def test_transparent_palette_entry_and_transparent_grey_are_white() -> None:
    image = Image.fromarray(GREY % 4)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    made = decode(encoded(image, "PNG", transparency=2), 8, 3).transpose(1, 2, 0)
    assert (made[GREY % 4 == 2] == 255).all()
    assert (made[GREY % 4 == 1] == (40, 50, 60)).all()
    keyed = decode(encoded(Image.fromarray(GREY), "PNG", transparency=int(GREY[2, 3])), 8, 1)[0]
    np.testing.assert_array_equal(keyed, np.where(GREY[2, 3] == GREY, 255, GREY))


def test_cmyk() -> None:
    c, m, y, k = np.moveaxis(RNG.randint(0, 256, (8, 8, 4)).astype(float), -1, 0)
    image = Image.fromarray(np.stack([c, m, y, k], -1).astype(np.uint8), "CMYK")
    expected = np.stack([(255 - ink) * (255 - k) / 255 for ink in (c, m, y)])
    np.testing.assert_allclose(decode(encoded(image, "TIFF"), 8, 3), expected, atol=2)
    flat = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    assert (np.abs(decode(encoded(flat, "JPEG"), 8, 3).astype(int) - [[[255]], [[0]], [[0]]]) < 6).all()


SIXTEEN = RNG.randint(0, 65536, (8, 8)).astype(np.uint16)
SIXTEEN[0, :4] = 0, 65535, 255, 257


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_not_clipped(kind: str) -> None:
    made = decode(encoded(Image.fromarray(SIXTEEN), kind), 8, 1)[0]
    np.testing.assert_array_equal(made, np.floor(SIXTEEN / 257 + 0.5))
    assert made[0, 0] == 0
    assert made[0, 1] == 255


def test_16_bit_big_endian_tiff_and_colour_png() -> None:
    big = Image.frombytes("I;16B", (8, 8), SIXTEEN.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(encoded(big, "TIFF"), 8, 1)[0], np.floor(SIXTEEN / 257 + 0.5))
    colour = RNG.randint(0, 65536, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colour)
    content = png(8, 8, bits=16, colour=2, pixels=zlib.compress(rows))
    np.testing.assert_allclose(decode(content, 8, 3).transpose(1, 2, 0), colour / 257, atol=1)


def png(width: int, height: int, bits: int, colour: int, pixels: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_32_bit_and_float_tiffs() -> None:
    whole = Image.fromarray(SIXTEEN.astype(np.int32))
    np.testing.assert_array_equal(decode(encoded(whole, "TIFF"), 8, 1)[0], np.floor(SIXTEEN / 257 + 0.5))
    with pytest.raises(ValueError, match="up to 16 bits"):
        decode(encoded(Image.fromarray(SIXTEEN.astype(np.int32) + 1), "TIFF"), 8, 1)
    unit = (GREY / 255).astype(np.float32)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(unit), "TIFF"), 8, 1)[0], GREY)
    for wrong in (unit * 2, unit - 0.5, np.where(GREY[0, 0] == GREY, np.float32("nan"), unit)):
        with pytest.raises(ValueError, match="float values"):
            decode(encoded(Image.fromarray(wrong), "TIFF"), 8, 1)


# The EXIF standard: where row 0 and column 0 of the stored picture belong on the upright one.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    stored = np.random.RandomState(1).randint(0, 256, (8, 11, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    content = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) if kind == "JPEG" else stored
    upright = UPRIGHT[orientation](pixels)
    h, w, _ = upright.shape
    top, left = (h - 8) // 2, (w - 8) // 2
    expected = upright[top : top + 8, left : left + 8].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(content, 8, 3), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_beyond_8_and_damaged_exif_leave_the_picture_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(GREY), "PNG", exif=exif), 8, 1)[0], GREY)
    content = encoded(Image.fromarray(GREY), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(content, 8, 1)[0], GREY)


def test_first_frame_is_taken() -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for kind, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        content = encoded(first, kind, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(decode(content, 8, 3), RGB.transpose(2, 0, 1))


def test_resizing_is_antialiased_and_centred() -> None:
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: without antialiasing all black or all white
    assert np.abs(np.asarray(square(Image.fromarray(stripes), 16)).astype(int) - 127).max() <= 2
    wide = np.random.RandomState(2).randint(0, 256, (60, 180), np.uint8)
    shrunk = np.asarray(Image.fromarray(wide).resize((36, 12), Image.BICUBIC))  # shortest side to 12, then the centre
    found = np.asarray(square(Image.fromarray(wide), 12)).astype(int)
    np.testing.assert_allclose(found, shrunk[:, 12:24], atol=1)  # Pillow before 13 rounds the two ways differently
    tall = np.ascontiguousarray(wide.T)
    found = np.asarray(square(Image.fromarray(tall), 12)).astype(int)
    np.testing.assert_allclose(found, shrunk.T[12:24], atol=1)
    ramp = np.tile(np.arange(0, 250, 5, np.uint8), (30, 1))  # linear from left to right: its centre keeps its value
    up = np.asarray(square(Image.fromarray(ramp), 61)).astype(int)
    assert up.shape == (61, 61)
    assert abs(up[30, 30] - 24.5 * 5) <= 1


def test_large_jpeg_decoded_at_reduced_scale_is_close_to_the_full_way() -> None:
    y, x = np.mgrid[0:600, 0:800] / 50
    scene = np.stack([np.sin(x) * np.cos(y), np.sin(x + y), np.cos(2 * x)], -1)
    photo = Image.fromarray((scene * 110 + 128).astype(np.uint8))
    content = encoded(photo, "JPEG", quality=95)
    full = np.asarray(Image.open(io.BytesIO(content)).crop((100, 0, 700, 600)).resize((32, 32), Image.LANCZOS))
    assert np.abs(decode(content, 32, 3).transpose(1, 2, 0).astype(int) - full).mean() < 1.5


def test_automatic_size() -> None:
    def rule(*sizes: tuple[int, int]) -> int:
        return automatic_size([Header(w, h, False) for w, h in sizes])

    assert rule((28, 28), (28, 28)) == 28
    assert rule((96, 96)) == 96
    assert rule((97, 97), (97, 97)) == 96
    assert rule((30, 40), (30, 30)) == 24
    assert rule((100, 50), (60, 70), (1000, 900)) == 56  # the median short side is 60
    assert rule((4000, 3000), (500, 500)) == 96
    assert rule((5, 9), (9, 5)) == 5


def header_of(tmp_path: Path, name: str, content: bytes) -> Header | str:
    (tmp_path / name).write_bytes(content)
    files = {file.path: file for file in list_images(tmp_path)[0]}
    return read_header(tmp_path, files[name])


def test_reasons_for_unreadable_files(tmp_path: Path) -> None:
    assert header_of(tmp_path, "a.png", b"") == "empty file"
    assert "not a JPEG" in str(header_of(tmp_path, "b.jpg", b"<html>404</html>"))
    gif = encoded(Image.fromarray(GREY), "GIF")
    assert "not a JPEG" in str(header_of(tmp_path, "c.png", gif))
    bomb = png(40000, 40000, bits=8, colour=0, pixels=zlib.compress(b"\0" * 1000))
    assert "too many pixels" in str(header_of(tmp_path, "d.png", bomb))
    assert header_of(tmp_path, "e.bmp", encoded(Image.fromarray(RGB), "PNG")) == Header(8, 8, False)  # by content


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_the_first_bytes_of_a_png_say_what_pillow_says(tmp_path: Path, mode: str) -> None:
    content = encoded(Image.fromarray(SIXTEEN) if mode == "I;16" else Image.fromarray(RGB).convert(mode), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    (file,) = list_images(tmp_path)[0]
    quick, whole = png_header(str(tmp_path / "a.png")), pillows(str(tmp_path / "a.png"), file)
    assert quick == (None if mode == "P" else whole)
    for cut in (0, 20, 32):
        (tmp_path / "a.png").write_bytes(content[:cut])
        assert png_header(str(tmp_path / "a.png")) is None
    for place in (16, 20, 24, 25, 29):  # width, height, depth, colour, checksum
        (tmp_path / "a.png").write_bytes(content[:place] + bytes([content[place] ^ 9]) + content[place + 1 :])
        assert png_header(str(tmp_path / "a.png")) is None


def test_grey_with_alpha_of_16_bits_is_colour_whoever_opens_it(tmp_path: Path) -> None:
    """Found by fuzzing: a folder of these had one channel by its first bytes, and a tar of them three by Pillow."""
    rows = b"".join(b"\0" + row.tobytes() for row in SIXTEEN.repeat(2, axis=1).astype(">u2"))
    (tmp_path / "a.png").write_bytes(png(8, 8, bits=16, colour=4, pixels=zlib.compress(rows)))
    (file,) = list_images(tmp_path)[0]
    assert read_header(tmp_path, file) == pillows(str(tmp_path / "a.png"), file) == Header(8, 8, False)
    assert decode((tmp_path / "a.png").read_bytes(), 8, 3).shape == (3, 8, 8)


def test_no_damage_crashes_the_decoder(tmp_path: Path) -> None:
    """Truncated and bit-flipped files of every format are skipped or decoded, never an exception."""
    rng = random.Random(0)
    image, palette = Image.fromarray(RGB), Image.fromarray(RGB).quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [encoded(image, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
    contents += [encoded(image, "BMP"), encoded(palette, "PNG"), encoded(palette, "TIFF", compression="tiff_lzw"),
                 encoded(Image.fromarray(SIXTEEN), "TIFF"), encoded(palette, "BMP")]  # fmt: skip
    root = tmp_path / "wild"
    root.mkdir()
    total = 0
    for content in contents:
        (root / f"{total}-whole.png").write_bytes(content)
        for _ in range(40):
            damaged = bytearray(content)
            for _ in range(rng.randint(1, 8)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            cut = rng.choice([len(damaged), rng.randrange(len(damaged))])
            (root / f"{total}.png").write_bytes(damaged[:cut])
            total += 1
    source = open_data(root, max_bad=1.0, size=8, quiet=True)
    assert len(source) >= len(contents)
    assert len(source) + len(source.skipped) == total + len(contents)
    assert not any("-whole" in line for line in source.skipped)


def test_listing_is_sorted_and_leaves_out_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.png", "a.JPG", "B/x.tif", ".hidden.png", ".git/y.png", "notes.txt", "b/png", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    files, others = list_images(tmp_path)
    assert [f.path for f in files] == ["B/x.tif", "a.JPG", "b/10.png", "b/2.PNG"]
    assert others == 3
    assert all(f.n_bytes == 1 and f.mtime_ns > 0 for f in files)


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("root/real/a.png", "root/real/deep/b.png", "outside/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (root / "alias").symlink_to(root / "real")  # sorts before the real name, which wins
    (root / "real" / "deep" / "up").symlink_to(root)
    (root / "far").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "file.png").symlink_to(outside / "c.png")
    files, _ = list_images(root)
    assert [f.path for f in files] == ["far/c.png", "file.png", "gone.png", "real/a.png", "real/deep/b.png", "self.png"]
    assert {f.path for f in files if f.n_bytes < 0} == {"gone.png", "self.png"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(InputError, match="permission"):
        list_images(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(GREY), "PNG")
    root = folder(tmp_path / "odd", a_png=content, b_png=content, c_png=b"")
    os.rename(os.fsencode(root / "b.png"), os.fsencode(root) + b"/\xff.png")
    os.rename(os.fsencode(root / "c.png"), os.fsencode(root) + b"/\xfe.png")
    for _ in range(2):
        source = open_data(root, max_bad=0.5, quiet=True)
        assert len(source) == 2
        assert source.skipped == (r"\udcfe.png: empty file",)
