"""Pictures in the report: drawn as they are, escaped, with words for those who cannot see them."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from test_page import HOSTILE, read

from swell.evaluation.dense import DensePictures
from swell.gallery import Gallery, Picture, Strip
from swell.nets.encoder import Encoder, EncoderConfig
from swell.report.galleries import attention_gallery, class_map, colours_of, dense_gallery, draw, heated
from swell.report.page import Page, render


def image(side=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (channels, side, side), dtype=np.uint8)


def gallery(word="x", classes=3):
    cells = np.arange(16).reshape(4, 4) % classes
    row = [
        Strip(f"{word} in", [Picture(image(), key=k) for k in range(2)]),
        Strip(f"{word} map", [Picture(cells, f"{word} about")]),
    ]
    names = [f"{word} {i}" for i in range(classes)]
    return Gallery(f"{word} title", f"{word} note", f"{word} row", [row] * 2, names, f"{word} details")


def test_every_part_is_there_and_every_picture_has_words():
    reader = read(render(Page("t", galleries=[gallery("sample")])))
    text = "".join(reader.text)
    for part in ("title", "note", "details", "in", "map", "about", "0", "1", "2"):
        assert f"sample {part}" in text
    alts = [a["alt"] for tag, a in reader.tags if tag == "img"]
    assert alts[0] == "sample row 1, sample in 1 of 2, framed as sample 0"
    assert len(set(alts)) == len(alts) == 4
    maps = [a["aria-label"] for tag, a in reader.tags if tag == "svg" and a.get("class") == "cells"]
    assert maps[0].startswith("sample row 1, sample map: sample ")
    assert "38 %" in maps[0]
    assert [a["id"] for tag, a in reader.tags if tag == "section"] == ["pictures"]


def test_hostile_words_stay_text():
    harmless, hostile = (read(render(Page("t", galleries=[gallery(word)]))) for word in ("x", HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    page = render(Page("t", galleries=[gallery(HOSTILE)]))
    for drawing in re.findall(r'<svg class="cells".*?</svg>', page, re.S):
        ElementTree.fromstring(drawing)


def test_pictures_are_exact_and_large_ones_are_made_smaller():
    small, large = image(8), image(300)
    drawn = draw(Gallery("t", "n", "r", [[Strip("a", [Picture(small), Picture(large)])]]))
    found = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(tile["uri"].split(",")[1]))))
        for tile in drawn["rows"][0][0]["tiles"]
    ]
    np.testing.assert_array_equal(found[0], small.transpose(1, 2, 0))
    assert found[1].shape == (128, 128, 3)
    assert (drawn["width"], drawn["height"]) == (96, 96)


def cells_of(svg, shape):
    """What a drawn map shows: the class of the style sheet at every cell."""
    out = np.full(shape, "", object)
    for path in ElementTree.fromstring(svg):
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)", path.get("d")):
            assert (out[int(y), int(x) : int(x) + int(width)] == "").all()
            out[int(y), int(x) : int(x) + int(width)] = path.get("class")
    return out


def test_a_map_is_drawn_cell_by_cell():
    cells = np.random.default_rng(0).integers(-1, 5, (7, 9))
    made = Gallery("t", "n", "r", [[Strip("m", [Picture(cells)])]], [*"abcdefgh"])
    colours = colours_of(made)
    expected = np.vectorize(lambda k: "" if k < 0 else f"k{k}", otypes=[object])(cells)
    np.testing.assert_array_equal(cells_of(class_map(cells, "alt", colours, made.classes), (7, 9)), expected)
    assert colours.legend == [*((f"k{i}", "abcde"[i]) for i in range(5)), ("none", "no class")]


def test_classes_beyond_the_colours_share_one_and_absent_ones_are_left_out():
    cells = np.repeat(np.arange(0, 36, 3), np.arange(20, 8, -1))[None]  # twelve of forty classes, the first commonest
    made = Gallery("t", "n", "r", [[Strip("m", [Picture(cells)])]], [f"c{i}" for i in range(40)])
    colours = colours_of(made)
    assert [name for _, name in colours.legend] == [*(f"c{3 * i}" for i in range(10)), "2 rarer classes"]
    assert colours.of_class[33] == "others"
    empty = colours_of(Gallery("t", "n", "r", [[Strip("m", [Picture(np.full((2, 2), -1))])]], ["a"]))
    assert empty.legend == [("none", "no class")]


def test_a_large_map_is_thinned():
    cells = np.kron(np.arange(4).reshape(2, 2), np.ones((300, 300), int))
    made = Gallery("t", "n", "r", [[Strip("m", [Picture(cells)])]], [*"abcd"])
    svg = class_map(cells, "alt", colours_of(made), made.classes)
    assert len(svg) < 5000
    assert set(cells_of(svg, (120, 120)).ravel()) == {"k0", "k1", "k2", "k3"}


def test_heat_is_yellow_where_most_is_and_grey_where_least_is():
    shares = np.full((2, 2), 0.2)
    shares[1, 0] = 0.4
    out = heated(image(8), shares).astype(int)
    assert (out[0, :4] == out[2, :4]).all()  # red and blue alike: grey
    assert (out[0, 4:, :4] - out[2, 4:, :4] > 100).all()
    assert (out[1, 4:, :4] - out[2, 4:, :4] > 100).all()
    even = heated(image(8, channels=1), np.full((2, 2), 0.25))
    assert (even[0] == even[2]).all()


@pytest.mark.parametrize(("pool", "says"), [("class", "class token"), ("mean", "on average")])
def test_attention_says_where_it_looks_from(pool, says):
    torch.manual_seed(0)
    config = EncoderConfig("vit_tiny", 0.17, (1, 16, 16), (0.5,), (0.25,), {"patch": 4, "depth": 1, "pool": pool})
    encoder, x = Encoder(config).eval(), torch.rand(3, 1, 16, 16)
    made = attention_gallery(encoder, x)
    assert says in made.note
    assert len(made.rows) == 3
    most = encoder.attention_map(x).mean(1).flatten(1).max(1).values * 16
    assert [row[1].pictures[0].about for row in made.rows] == [f"{m:.1f}\N{NO-BREAK SPACE}×" for m in most.tolist()]


def test_scenes_say_how_much_of_them_is_right():
    truth = np.zeros((2, 4, 4), np.int16)
    truth[0, :2], truth[1] = -1, -1
    predicted = np.zeros((2, 4, 4), np.int16)
    predicted[0, 3] = 1
    pictures = DensePictures(np.stack([image(4), image(4)]), truth, predicted, ["cat", "dog"])
    made = dense_gallery(pictures)
    assert [row[2].pictures[0].about for row in made.rows] == ["50 % right", ""]
    assert "cat" in render(Page("t", galleries=[made]))


def test_a_gallery_of_nothing_is_left_out():
    assert "This report holds no measurements." in render(Page("t", galleries=[Gallery("t", "n", "r", [])]))
