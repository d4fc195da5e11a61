"""Masks beside images: the right file, the right pixels after resizing, and one line for everything that does not fit."""

import numpy as np
import pytest
from PIL import Image

from swell.data.masks import has_class_folders, of_same_classes, open_masks, split_masks
from swell.data.mosaics import IGNORE
from swell.errors import InputError


def pair(folder, name="a", size=(16, 16), image=None, mask=None, suffix=".png", seed=0):
    """An image (width, height) `size` under images/ and its mask under masks/; returns the mask's values."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8) if image is None else image
    mask = rng.integers(0, 3, (size[1], size[0])).astype(np.uint8) if mask is None else mask
    for kind, value, end in (("images", image, suffix), ("masks", mask, ".png")):
        path = folder / kind / f"{name}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (value if isinstance(value, Image.Image) else Image.fromarray(value)).save(path)
    return np.asarray(mask)


def opened(folder, size=16, **more):
    return open_masks(folder / "images", folder / "masks", size, quiet=True, **more)


def test_images_and_masks_are_paired_by_name_at_any_depth_and_255_is_no_class(tmp_path):
    values = [pair(tmp_path, "b", seed=1), pair(tmp_path, "deep/er/a.x", suffix=".jpg", seed=2)]
    values[0][0, :5] = 255
    pair(tmp_path, "b", mask=values[0], seed=1)
    (tmp_path / "masks" / "of-nothing.png").write_bytes(b"")  # masks without images are not looked at
    scenes = opened(tmp_path)
    assert (len(scenes), scenes.shape, scenes.classes) == (2, (3, 16, 16), ["0", "1", "2"])
    expected = np.where(np.stack(values) == 255, IGNORE, np.stack(values).astype(int))
    np.testing.assert_array_equal(scenes.maps, expected)
    first = np.asarray(Image.open(tmp_path / "images" / "b.png"))
    np.testing.assert_array_equal(scenes[:1][0][0], first.transpose(2, 0, 1))
    assert scenes[1:][1].shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("size", "side"), [((16, 16), 8), ((40, 24), 12), ((24, 41), 8), ((23, 16), 16), ((16, 16), 40)]
)
def test_a_mask_stays_on_its_image_through_the_resize(tmp_path, size, side):
    """An image painted in the colours of its mask, in blocks that survive the resize, still matches it inside them."""
    rng = np.random.default_rng(0)
    for name in "ab":
        blocks = rng.integers(0, 2, (-(-size[1] // 8), -(-size[0] // 8))).astype(np.uint8)
        mask = blocks.repeat(8, 0).repeat(8, 1)[: size[1], : size[0]]
        pair(tmp_path, name, size, np.repeat(mask[..., None] * 255, 3, 2), mask)
    scenes = opened(tmp_path, side)
    painted = scenes.images[:, 0].astype(int)
    certain = (painted < 40) | (painted > 215)
    assert certain.mean() > 0.5
    np.testing.assert_array_equal((painted > 127)[certain], (scenes.maps == 1)[certain])
    assert set(np.unique(scenes.maps)) <= {0, 1}  # no class between two


def test_a_shrunk_mask_takes_the_nearest_pixel(tmp_path):
    mask = pair(tmp_path, "a", (30, 30))
    pair(tmp_path, "b", (30, 30), seed=1)
    np.testing.assert_array_equal(opened(tmp_path, 10).maps[0], mask[1::3, 1::3])


def test_palettes_give_their_indices_and_black_and_white_0_and_1(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (8, 8)).astype(np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    pair(tmp_path, "a", (8, 8), mask=palette)
    pair(tmp_path, "b", (8, 8), mask=Image.fromarray(values > 0))
    scenes = opened(tmp_path, 8)
    assert Image.open(tmp_path / "masks" / "a.png").mode == "P"
    assert Image.open(tmp_path / "masks" / "b.png").mode == "1"
    np.testing.assert_array_equal(scenes.maps, np.stack([values, values > 0]))


def test_a_mask_is_of_the_image_as_it_is_shown(tmp_path):
    image = Image.fromarray(np.zeros((20, 10, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    for name in "ab":
        image.save(tmp_path / "images" / f"{name}.jpg", exif=exif)
    (tmp_path / "masks").mkdir()
    values = np.random.default_rng(0).integers(0, 3, (10, 20)).astype(np.uint8)
    for name in "ab":
        Image.fromarray(values).save(tmp_path / "masks" / f"{name}.png")
    np.testing.assert_array_equal(opened(tmp_path, 10).maps[0], values[:, 5:15])
    Image.fromarray(values.T.copy()).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match=r"10 x 20 pixels.*20 x 10"):
        opened(tmp_path, 10)


def broken(folder, what):
    first = folder / "masks" / "a.png"
    if what == "missing":
        first.unlink()
    elif what == "size":
        Image.fromarray(np.zeros((16, 8), np.uint8)).save(first)
    elif what == "colour":
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(first)
    elif what == "deep":
        Image.fromarray(np.zeros((16, 16), np.uint16)).save(first)
    elif what == "narrow":
        first.write_bytes(four_bit_png())
    elif what == "cut":
        first.write_bytes(first.read_bytes()[:60])
    elif what == "text":
        first.write_bytes(b"class 1")
    elif what == "jpeg":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(first, "JPEG")
    elif what == "image":
        (folder / "images" / "a.png").write_bytes(b"no image")
    elif what == "one class":
        for name in "ab":
            Image.fromarray(np.full((16, 16), 7, np.uint8)).save(folder / "masks" / f"{name}.png")
    elif what == "no class":
        for name in "ab":
            Image.fromarray(np.full((16, 16), 255, np.uint8)).save(folder / "masks" / f"{name}.png")
    elif what == "one image":
        (folder / "images" / "a.png").unlink()
    elif what == "no folder":
        (folder / "masks").rename(folder / "other")


def four_bit_png():
    """A grey PNG 16 x 16 of 4 bits, all zero, written chunk by chunk."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16, 16, 4, 0, 0, 0, 0)
    body = zlib.compress(16 * bytes(9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", r"masks: 1 of 2 masks are missing, the first a\.png"),
        ("size", r"a\.png .8 x 16 pixels.*16 x 16"),
        ("colour", "mode RGB"),
        ("deep", "16 bits"),
        ("narrow", "4 bits"),
        ("cut", "a readable PNG"),
        ("text", "a readable PNG"),
        ("jpeg", "a readable PNG"),
        ("image", r"images/a\.png .*a readable image"),
        ("one class", "the class 7 alone"),
        ("no class", "no class at all"),
        ("one image", "holds 1 images"),
        ("no folder", r"masks .no folder"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(tmp_path, what, says):
    pair(tmp_path, "a")
    pair(tmp_path, "b", seed=1)
    broken(tmp_path, what)
    with pytest.raises(InputError, match=says) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_the_split_is_fixed_and_leaves_nothing_out(tmp_path):
    for i in range(10):
        pair(tmp_path, f"{i}", seed=i)
    scenes = opened(tmp_path)
    train, test = split_masks(scenes)
    assert (len(train), len(test)) == (7, 3)
    together = np.concatenate([train.images, test.images]).reshape(10, -1)
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(scenes.images.reshape(10, -1), axis=0))
    np.testing.assert_array_equal(split_masks(scenes)[1].maps, test.maps)
    assert train.describe()["fingerprint"] != test.describe()["fingerprint"]
    few = scenes.subset(np.arange(2))
    assert [len(part) for part in split_masks(few)] == [1, 1]


def test_two_folders_share_the_longer_list_of_classes(tmp_path):
    for i, top in enumerate((2, 5)):
        for name in "ab":
            mask = np.full((8, 8), top, np.uint8)
            mask[0] = 0
            pair(tmp_path / str(i), name, (8, 8), mask=mask)
    both = of_same_classes(opened(tmp_path / "0", 8), opened(tmp_path / "1", 8))
    assert [len(part.classes) for part in both] == [6, 6]


def test_class_folders_are_seen(tmp_path):
    pair(tmp_path, "cat/a")
    assert has_class_folders(tmp_path / "images")
    pair(tmp_path, "b")
    assert not has_class_folders(tmp_path / "images")
