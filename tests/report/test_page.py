from __future__ import annotations

import base64
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from swell.errors import InputError
from swell.report.maps import Colouring, EmbeddingMap, Layout
from swell.report.page import (
    Chart,
    Charts,
    Column,
    Page,
    Pairs,
    Series,
    Table,
    render,
    write_report,
)
from swell.report.pictures import sprite

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


def layout(n: int, name: str = "encoder") -> Layout:
    rng = np.random.default_rng(n)
    return Layout(name, rng.normal(size=(n, 2)), (np.arange(n)[:, None] + [1, 2]) % max(n, 1), np.arange(n) % 4)


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
        sections=[Charts("more", f"{word} section", f"{word} explanation", [spectrum])],
        spectra=[spectrum],
        pairs=Pairs(f"{word} pairs", images[:5], images[5:10], [5.0, 1.0, math.nan, 3.0, 2.0], word),
        maps=[
            EmbeddingMap(
                f"{word} map",
                [layout(30, word), layout(30, f"{word} 2")],
                [Colouring("label", [f"{word} {i}" for i in range(3)], np.arange(30) % 3)],
                sprite(images),
                word,
            ),
            EmbeddingMap("vectors", [layout(5)]),
        ],
        recipe=f'seed = 0\nname = "{word * 40}"\n',
        recipes=[(f"{word} recipe", word)],
        commands=[(f"{word} again", f"swell {word}")],
        environment=[(f"{word} cpu", word)],
        footer=f"{word} footer",
    )


def test_every_part_is_there_and_the_tags_balance():
    page = sample_page()
    reader = read(render(page))
    text = "".join(reader.text)
    for part in ["title", "verdict", "fact", "notice", "table", "note", "loss", "pairs", "map", "footer", "baselines",
                 "section", "explanation", "recipe", "again", "cpu"]:  # fmt: skip
        assert f"sample {part}" in text
    sections = [a["id"] for tag, a in reader.tags if tag == "section"]
    assert sections == ["run", "results", "more", "maps", "pairs", "curves", "spectra", "recipe"]
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    assert links == ["#results", *(f"#{name}" for name in sections)]
    assert text.index("sample verdict") < text.index("sample notice") < text.index("What was run")


def test_accessible_markup():
    reader = read(render(sample_page()))
    heads = [a for tag, a in reader.tags if tag == "th"]
    assert heads
    assert all(a["scope"] in {"col", "row", "rowgroup"} for a in heads)
    pictures = [a for tag, a in reader.tags if tag == "img" and "hidden" not in a]
    assert len(pictures) == 10
    assert all(a["alt"] and int(a["width"]) == int(a["height"]) == 64 for a in pictures)
    drawings = [a for tag, a in reader.tags if tag == "svg"]
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in drawings)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("figure") == tags.count("figcaption") == 7
    labelled = [a for _, a in reader.tags if a.get("role") in ("application", "region")]
    assert len(labelled) == 4 + 2 + 1
    assert all(a.get("aria-label") or a.get("aria-labelledby") for a in labelled)
    assert all(a.get("tabindex") == "0" for a in labelled)
    assert all(a.get("type") == "button" for tag, a in reader.tags if tag == "button")
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
    assert len([t for t, _ in hostile.tags if t == "script"]) == 7  # six data islands and our own


def islands(html: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)]


def words(text: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), "<u2").tolist()


def test_the_data_islands_come_back_as_they_went_in():
    found = islands(render(sample_page(HOSTILE)))
    first, second = [data for data in found if "layouts" in data]
    (label,) = first["colourings"]
    assert label["names"] == [f"{HOSTILE} {i}" for i in range(3)]
    assert words(label["codes"]) == [i % 3 for i in range(30)]
    assert [len(words(one["xy"])) for one in first["layouts"]] == [60, 60]
    assert words(first["layouts"][0]["near"]) == [(i + j) % 30 for i in range(30) for j in (1, 2)]
    assert words(first["layouts"][0]["cluster"]) == [i % 4 for i in range(30)]
    assert (second["colourings"], second["sheet"]) == ([], None)
    (line,) = next(data for data in found if "lines" in data)["lines"]
    assert (line["name"], line["x"][:3], line["y"][:3]) == (HOSTILE, [1, 2, 3], [0.8**0, 0.8, 0.64])


def test_charts_are_well_formed_svg():
    html = render(sample_page(HOSTILE))
    drawings = re.findall(r'<svg viewBox="0 0 520.*?</svg>', html, re.S)
    assert len(drawings) == 4
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


def test_suspicious_pairs_are_marked_and_counted():
    images = np.zeros((3, 1, 4, 4), np.uint8)
    html = render(Page("t", pairs=Pairs("p", images, images, [0.0, 2.0, 1.0], flags=["a copy", "", "close"])))
    assert re.findall(r"<b>([^<]*)</b></span>", html) == ["a copy", "close"]
    assert "2 of these 3 lie suspiciously close" in html
    none = render(Page("t", pairs=Pairs("p", images, images, [1.0, 2.0, 1.0], flags=["", "", ""])))
    assert "None of these 3 lie suspiciously close" in none
    assert "suspiciously" not in render(Page("t", pairs=Pairs("p", images, images, [1.0, 2.0, 1.0])))


def test_many_labels_are_not_coloured_but_still_named():
    labels = Colouring("label", [f"class {i}" for i in range(25)], np.arange(25))
    html = render(Page("t", maps=[EmbeddingMap("m", [layout(25)], [labels])]))
    assert "25 different labels" in html
    assert re.findall(r'<option value="(\w+)">', html) == ["cluster"]
    assert "class 24" in html


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="5 places"):
        render(Page("t", maps=[EmbeddingMap("m", [layout(5)], [Colouring("label", ["a"], np.zeros(4, int))])]))
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
        maps=[EmbeddingMap("m", [layout(0)])],
    )
    text = "".join(read(render(page)).text)
    assert "Generated samples" not in text
    assert "no samples" in text


def test_same_page_same_bytes_and_a_reasonable_size(tmp_path):
    write_report(tmp_path / "a.html", sample_page())
    write_report(tmp_path / "b" / "report.html", sample_page())
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "b" / "report.html").read_bytes()
    assert len(first) < 200_000
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.html"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", Page("t"))


def test_words_between_backticks_are_code_and_nothing_else_is():
    html = render(Page("t", verdict="Try `swell evaluate <b>`.", notices=["`a` & <i>"], facts=[("x", "y")]))
    assert "Try <code>swell evaluate &lt;b&gt;</code>." in html
    assert "<li><code>a</code> &amp; &lt;i&gt;</li>" in html
