"""The report in a real browser, headless, at desktop and phone width."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from swell.report.page import Chart, Column, EmbeddingMap, Page, Pairs, Series, Table, render

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1400,1000",
]

# Runs in a page that holds the report in one frame per width (a headless window cannot be made as narrow as a phone).
DRIVER = """
const done = { };
for (const frame of document.querySelectorAll("iframe")) {
  const doc = frame.contentDocument, win = frame.contentWindow, plot = doc.querySelector(".plot");
  const data = JSON.parse(doc.querySelector("figure.map script").textContent);
  const tip = plot.querySelector(".tip"), picture = plot.querySelector(".picture");
  const at = (i, kind, pointer) => {
    const box = plot.getBoundingClientRect(), scale = box.width / plot.querySelector("svg").viewBox.baseVal.width;
    plot.dispatchEvent(new win.PointerEvent(kind, { bubbles: true, pointerType: pointer,
      clientX: box.left + data.xy[2 * i] * scale, clientY: box.top + data.xy[2 * i + 1] * scale }));
    const t = tip.getBoundingClientRect(), r = plot.querySelector(".ring").getBoundingClientRect();
    return { hidden: tip.hidden, text: tip.textContent.trim(), position: picture.style.backgroundPosition,
      tile: [picture.clientWidth, picture.clientHeight], left: t.left - box.left, right: t.right - box.left,
      width: box.width, ringX: (r.left + r.right) / 2 - box.left, dotX: data.xy[2 * i] * scale,
      ringY: (r.top + r.bottom) / 2 - box.top, dotY: data.xy[2 * i + 1] * scale };
  };
  const out = { scroll: doc.documentElement.scrollWidth, client: doc.documentElement.clientWidth };
  out.over = [...doc.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, pre, .tip, svg")
    && e.getBoundingClientRect().right > out.client + 1).map((e) => e.tagName + "." + e.className);
  out.table = doc.querySelector(".scroll").scrollWidth > doc.querySelector(".scroll").clientWidth;
  out.before = tip.hidden;
  out.hover = [...Array(data.xy.length / 2).keys()].map((i) => at(i, "pointermove", "mouse"));
  plot.dispatchEvent(new win.PointerEvent("pointerleave", { pointerType: "mouse" }));
  out.left = tip.hidden;
  out.tap = at(5, "pointerdown", "touch");
  plot.dispatchEvent(new win.PointerEvent("pointerleave", { pointerType: "touch" }));
  out.stays = !tip.hidden;
  plot.dispatchEvent(new win.KeyboardEvent("keydown", { key: "Escape" }));
  out.escaped = tip.hidden;
  plot.dispatchEvent(new win.KeyboardEvent("keydown", { key: "ArrowRight", cancelable: true }));
  out.key = tip.textContent.trim();
  const key = doc.querySelectorAll(".chart .legend button")[1];
  key.click();
  const svg = doc.querySelector(".chart > svg");
  out.lit = [...svg.querySelectorAll(".mark")].map((m) => m.classList.contains("lit"));
  out.pressed = key.getAttribute("aria-pressed");
  out.textPixels = 0.001 * Math.round(1000 * parseFloat(win.getComputedStyle(svg.querySelector("text")).fontSize)
    * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
  done[frame.id] = out;
}
document.body.textContent = JSON.stringify(done);
"""

DIGITS = load_digits()
IMAGES = (DIGITS.images[:40, None] * 15).astype(np.uint8)


def digits_page() -> Page:
    angle = np.arange(40) / 40 * 2 * np.pi
    steps = np.arange(400)
    arms = [f"SimCLR with generated samples, arm {i}" for i in range(6)]
    columns = [Column("name", "Arm")] + [Column(f"c{i}", f"A rather long column {i}", unit="%") for i in range(12)]
    rows = [{"name": arm, **{f"c{i}": (80.0 + i + k, 1.2) for i in range(12)}} for k, arm in enumerate(arms)]
    curves = [
        Chart("Loss", "step", "loss", [Series(a, steps, np.exp(-steps / (50 + 9 * k))) for k, a in enumerate(arms)])
    ]
    return Page(
        title="A-title-without-any-space-in-it-" * 6,
        verdict="Yes: generated data help.",
        facts=[("Folder", "/a/very/long/path/without/spaces" * 8)],
        notices=["</script><script>console.error('escaped')</script>" * 3],
        tables=[Table("Arms", columns, rows)],
        curves=curves,
        spectra=curves * 2,
        pairs=Pairs("Pairs", IMAGES[:8], IMAGES[8:16], np.arange(8.0)),
        maps=[
            EmbeddingMap(
                "Map", np.stack([np.cos(angle), np.sin(angle)], 1), IMAGES, [str(t) for t in DIGITS.target[:40]]
            )
        ],
        recipe="long = '" + "x" * 400 + "'",
        footer="f" * 300,
    )


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The DOM after the scripts ran, and what the console said."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    environment = {**os.environ, "HOME": str(profile)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_report_works_at_both_widths(tmp_path):
    text = render(digits_page())
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    dom, console = browse(tmp_path / "report.html", tmp_path / "profile1")
    assert console == []
    assert "Yes: generated data help." in dom

    frames = "".join(
        f'<iframe id="w{width}" style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(text)}"></iframe>'
        for width in (1280, 390)
    )
    driven = f"<!DOCTYPE html><body>{frames}<script>onload = () => {{ {DRIVER} }}</script></body>"
    (tmp_path / "driven.html").write_text(driven, encoding="utf-8")
    dom, console = browse(tmp_path / "driven.html", tmp_path / "profile2")
    assert console == []
    body = re.search(r"<body[^>]*>(.*)</body>", dom, re.S)
    assert body is not None
    found = json.loads(html.unescape(body[1]))

    for name, width in (("w1280", 1280), ("w390", 390)):
        out = found[name]
        assert out["client"] >= width - 20  # a scroll bar may take its part
        assert out["scroll"] <= out["client"], out["over"]
        assert out["over"] == []
        assert out["before"]
        assert out["left"]
        assert out["stays"]
        assert out["escaped"]
        assert out["key"] == str(DIGITS.target[0])
        assert out["pressed"] == "true"
        assert out["lit"] == [False, True, False, False, False, False]
        assert out["textPixels"] >= 10
        for i, seen in enumerate([*out["hover"], out["tap"]]):
            i = i if i < 40 else 5
            columns = 7  # of the sprite sheet: the smallest square that holds 40
            wide, high = seen["tile"]
            assert not seen["hidden"]
            assert seen["text"] == str(DIGITS.target[i])
            assert seen["position"] == f"{-(i % columns) * wide}px {-(i // columns) * high}px"
            assert seen["left"] >= -1
            assert seen["right"] <= seen["width"] + 1
            assert abs(seen["ringX"] - seen["dotX"]) < 1
            assert abs(seen["ringY"] - seen["dotY"]) < 1
    assert found["w390"]["table"]  # the wide table scrolls inside its own box
