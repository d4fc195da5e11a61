from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from swell.errors import InputError
from swell.report.page import (
    Chart,
    Column,
    EmbeddingMap,
    Page,
    Pairs,
    Series,
    Table,
    render,
    write_report,
)

VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&{{ 7*7 }}\u2028--><!--"


class Reader(HTMLParser):
    """Checks that every tag closes in order, and collects elements, text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def sample_page(word: str = "sample") -> Page:
    rng = np.random.default_rng(0)
    steps = np.arange(400)
    images = rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    arms = [f"{word} {i}" for i in range(6)]
    columns = [
        Column("name", word),
        Column("few_shot_1", "1-shot", word, "%"),
        Column("seconds", "Time", unit="s", better="low"),
        Column("odd", "odd", unit=word),
    ]
    rows = [{"name": arm, "few_shot_1": (40.0 + i, 0.3), "seconds": 60.0 + i, "odd": i} for i, arm in enumerate(arms)]
    rows += [{"name": f"{word} pixels", "group": f"{word} baselines", "few_shot_1": 30.0, "odd": word}]
    lines = [Series(arm, steps, np.exp(-steps / 90) + 0.05 * rng.normal(size=400)) for arm in arms]
    spectrum = Chart(word, word, word, [Series(word, range(1, 65), 0.8 ** np.arange(64))], log_y=True, note=word)
    return Page(
        title=f"{word} title",
        verdict=f"{word} verdict",
        facts=[(f"{word} fact", word * 30)],
        notices=[f"{word} notice"],
        tables=[Table(f"{word} table", columns, rows, f"{word} note")],
        curves=[Chart(f"{word} loss", "step", "loss", lines), Chart("rate", "step", word, lines[:1])],
        spectra=[spectrum],
        pairs=Pairs(f"{word} pairs", images[:5], images[5:10], [5.0, 1.0, math.nan, 3.0, 2.0], word),
        maps=[
            EmbeddingMap(f"{word} map", rng.normal(size=(30, 2)), images, [f"{word} {i % 3}" for i in range(30)], word),
            EmbeddingMap("vectors", rng.normal(size=(5, 2))),
        ],
        recipe=f'seed = 0\nname = "{word * 40}"\n',
        footer=f"{word} footer",
    )


def test_every_part_is_there_and_the_tags_balance():
    page = sample_page()
    reader = read(render(page))
    text = "".join(reader.text)
    for part in ["title", "verdict", "fact", "notice", "table", "note", "loss", "pairs", "map", "footer", "baselines"]:
        assert f"sample {part}" in text
    sections = [a["id"] for tag, a in reader.tags if tag == "section"]
    assert sections == ["run", "results", "pairs", "maps", "curves", "spectra", "recipe"]
    assert [a["href"] for tag, a in reader.tags if tag == "a"] == [f"#{name}" for name in sections]
    assert text.index("sample verdict") < text.index("sample notice") < text.index("What was run")


def test_accessible_markup():
    reader = read(render(sample_page()))
    heads = [a for tag, a in reader.tags if tag == "th"]
    assert heads
    assert all(a["scope"] in {"col", "row", "rowgroup"} for a in heads)
    pictures = [a for tag, a in reader.tags if tag == "img"]
    assert len(pictures) == 10
    assert all(a["alt"] and int(a["width"]) == int(a["height"]) == 64 for a in pictures)
    drawings = [a for tag, a in reader.tags if tag == "svg"]
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in drawings)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("figure") == tags.count("figcaption") == 6
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched_from_anywhere():
    html = render(sample_page())
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    reader = read(html)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert all(target.startswith("data:image/png;base64,") for target in re.findall(r"url\(([^)]*)\)", html))
    (policy,) = [a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:")


def test_hostile_names_stay_text_everywhere():
    harmless, hostile = read(render(sample_page("x"))), read(render(sample_page(HOSTILE)))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert "{{ 7*7 }}" in "".join(hostile.text)
    assert len([t for t, _ in hostile.tags if t == "script"]) == 3  # two data islands and our own


def test_the_data_island_comes_back_as_it_went_in():
    page = sample_page(HOSTILE)
    islands = re.findall(r'<script type="application/json">(.*?)</script>', render(page), re.S)
    data = json.loads(islands[0])
    assert data["names"] == [f"{HOSTILE} {i}" for i in range(3)]
    assert data["label"] == [i % 3 for i in range(30)]
    assert len(data["xy"]) == 60
    assert json.loads(islands[1])["label"] is None


def test_charts_are_well_formed_svg():
    html = render(sample_page(HOSTILE))
    drawings = re.findall(r'<svg viewBox="0 0 520.*?</svg>', html, re.S)
    assert len(drawings) == 3
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert any("mark line" in e.get("class", "") for e in root.iter("path"))


def test_closest_pairs_come_first():
    html = render(sample_page())
    shown = re.findall(r'class="distance"[^>]*>([^<]*)<', html)
    assert shown == ["1", "2", "3", "5", "nan"]


def test_more_pairs_than_fit_are_counted():
    images = np.zeros((30, 1, 4, 4), np.uint8)
    html = render(Page("t", pairs=Pairs("p", images, images, np.arange(30.0))))
    assert html.count('class="distance"') == 24
    assert "6 pairs further apart are not shown" in html


def test_many_labels_are_not_coloured_but_still_named():
    labels = [f"class {i}" for i in range(25)]
    html = render(Page("t", maps=[EmbeddingMap("m", np.random.default_rng(0).normal(size=(25, 2)), None, labels)]))
    assert "25 different labels" in html
    assert len(re.findall(r"mark dots s0 k0", html)) == 1
    assert "class 24" in html
    few = render(Page("t", maps=[EmbeddingMap("m", np.zeros((3, 2)), None, ["10", "9", "b"])]))
    assert re.findall(r"</svg> (\w+)</button>", few) == ["9", "10", "b"]


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="5 places for 4"):
        render(Page("t", maps=[EmbeddingMap("m", np.zeros((5, 2)), None, ["a"] * 4)]))
    images = np.zeros((3, 1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="3 generated, 2 nearest"):
        render(Page("t", pairs=Pairs("p", images, images[:2], [1.0, 2.0, 3.0])))


def test_an_empty_page_and_empty_parts():
    reader = read(render(Page("Nothing")))
    assert "This report holds no measurements." in "".join(reader.text)
    none = np.zeros((0, 1, 4, 4), np.uint8)
    page = Page(
        "t",
        tables=[Table("no rows", [Column("name", "Arm")], [])],
        curves=[Chart("no series", "x", "y", [])],
        pairs=Pairs("p", none, none, []),
        maps=[EmbeddingMap("m", np.zeros((0, 2)), none, [])],
    )
    text = "".join(read(render(page)).text)
    assert "Generated samples" not in text
    assert "no samples" in text


def test_same_page_same_bytes_and_a_reasonable_size(tmp_path):
    write_report(tmp_path / "a.html", sample_page())
    write_report(tmp_path / "b" / "report.html", sample_page())
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "b" / "report.html").read_bytes()
    assert len(first) < 120_000
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.html"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", Page("t"))
