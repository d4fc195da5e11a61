"""The page of a comparison of five runs with a map of ten thousand samples: how long it takes to build, to open and to answer.

    python benchmarks/page.py [--points 10000] [--repeats 5] [--moves 200]

Needs a Chromium on the PATH. Five tiny encoders of handwritten digits are trained for a moment and probed with shifted digits
as the test samples. Then, timed: the map of each run, from its encoder and the samples to map.npz, and the comparison
itself. Then the page is opened in a headless Chromium, and a mouse is moved over its map: from the moment that the browser
got the movement to the end of the frame that shows the answer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import swell
from _browser import CHROMIUM, Browser, Tab
from _common import Load, claim, write_result
from swell.report.map_making import embedding_map, encode_some, keep_map
from swell.run import Run

METHODS = ("simclr", "dcl", "vicreg", "barlow_twins", "byol")
TARGETS = {"built_seconds": 20.0, "opened_seconds": 2.0, "answered_milliseconds": 50.0, "megabytes": 8.0}
OPTIONS = {"hidden": 64, "outputs": 32}

# From the browser's own stamp of the input to the end of the frame that holds the answer.
WATCH = """(() => { window.answers = []; const plot = document.querySelector(".map .plot");
  plot.scrollIntoView({ block: "center" });
  window.addEventListener("pointermove", (event) => { if (!plot.contains(event.target)) return;
    const stamp = event.timeStamp;
    requestAnimationFrame(() => { const channel = new MessageChannel();
      channel.port1.onmessage = () => window.answers.push(performance.now() - stamp);
      channel.port2.postMessage(0); }); }, { capture: true });
  const frame = plot.getBoundingClientRect(); return [frame.left, frame.top, frame.width, frame.height]; })()"""


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The digits over and over, shifted by up to a pixel and with a little noise: uint8 [count, 1, 8, 8], labels [count]."""
    data, rng = load_digits(), np.random.default_rng(0)
    images = data.images[:, None] * 15.9
    times = -(-count // len(images))
    shifted = [np.roll(images, (i % 3 - 1, i // 3 % 3 - 1), (2, 3)) for i in range(times)]
    samples = np.concatenate(shifted)[:count]
    return np.clip(samples + rng.normal(0, 6, samples.shape), 0, 255).astype(np.uint8), np.tile(data.target, times)[
        :count
    ]


def trained(place: Path, test: tuple[np.ndarray, np.ndarray]) -> list[Path]:
    runs = []
    for method in METHODS:
        run = swell.pretrain(
            "builtin:digits", place / method, recipe="digits", method=method, steps=20, width=0.25, quiet=True, report=False,
            batch_size=64, method_options=OPTIONS if method in ("simclr", "dcl") else {},
        )  # fmt: skip
        run.evaluate("builtin:digits", test, baselines=False)
        runs.append(run.path)
    return runs


def build(runs: list[Path], test: tuple[np.ndarray, np.ndarray], out: Path) -> dict[str, float]:
    """Seconds to make the maps of all runs from their encoders, and the comparison with its page from these."""
    source = swell.open(test, labels=True)
    begun = time.perf_counter()
    for path in runs:
        some = encode_some(Run(path).encoder, source, len(source))
        keep_map(path, embedding_map(path.name, some), some)
    mapped = time.perf_counter()
    swell.compare(runs, out, budget="samples", force=True)
    return {"maps": mapped - begun, "comparison": time.perf_counter() - mapped}


def open_once(browser: Browser, page: Path) -> dict[str, float]:
    """Seconds from the start of the navigation to the end of the load, after which every script has run."""
    with browser.open(page) as tab:
        tab.wait("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        timing = "performance.getEntriesByType('navigation')[0].toJSON()"
        told = {key: tab.run(f"{timing}.{key}") / 1000 for key in ("domInteractive", "loadEventEnd")}
        assert tab.complaints == []
    return told


def hover(tab: Tab, moves: int) -> tuple[list[float], int]:
    """Milliseconds to answer each of so many movements along a spiral over the map, and how many met a dot."""
    left, top, wide, high = tab.run(WATCH)
    met = 0
    for i in range(moves):
        angle, reach = 0.35 * i, 0.05 + 0.33 * i / moves
        tab.move(left + wide * (0.5 + reach * np.cos(angle)), top + high * (0.5 + reach * np.sin(angle)))
        tab.wait(f"window.answers.length > {i}")
        met += not tab.run("document.querySelector('.map .tip').hidden")
    return tab.run("window.answers"), met


def main(points: int, repeats: int, moves: int) -> None:
    if CHROMIUM is None:
        raise SystemExit("no chromium, chromium-browser or google-chrome on the PATH")
    begun, load = time.perf_counter(), Load()
    with tempfile.TemporaryDirectory() as scratch:
        place, test = Path(scratch), digits(points)
        runs = trained(place, test)
        page = place / "compared" / "report.html"
        built = [build(runs, test, page.parent) for _ in range(repeats)]
        with Browser(place / "profile") as browser:
            opened = [open_once(browser, page) for _ in range(repeats)]
            with browser.open(page) as tab:
                answers, met = hover(tab, moves)
                complaints = tab.complaints
        megabytes = page.stat().st_size / 1e6
    totals = [sum(part.values()) for part in built]
    slow = float(np.quantile(answers, 0.95))
    rows: dict[str, Any] = {
        "built_seconds": statistics.median(totals),
        "opened_seconds": statistics.median(one["loadEventEnd"] for one in opened),
        "opened_seconds_at_worst": max(one["loadEventEnd"] for one in opened),
        "answered_milliseconds": slow,
        "answered_milliseconds_median": statistics.median(answers),
        "met_a_dot": met,
        "megabytes": megabytes,
        "builds": built,
        "opens": opened,
        "complaints": complaints,
        "reached": {key: bool(value < TARGETS[key]) for key, value in
                    (("built_seconds", statistics.median(totals)), ("answered_milliseconds", slow), ("megabytes", megabytes),
                     ("opened_seconds", statistics.median(one["loadEventEnd"] for one in opened)))},
    }  # fmt: skip
    detail = (
        f"maps {statistics.median(one['maps'] for one in built):.1f} s of it (target {TARGETS['built_seconds']:g}); opens in "
        f"{rows['opened_seconds']:.2f} s (target {TARGETS['opened_seconds']:g}), a hover is answered in {slow:.0f} ms at the 95th "
        f"percentile of {moves} (target {TARGETS['answered_milliseconds']:g}), {megabytes:.1f} MB (target {TARGETS['megabytes']:g}); "
        f"{len(complaints)} complaints in the console"
    )
    elapsed = time.perf_counter() - begun
    spread = statistics.stdev(totals) if len(totals) > 1 else None
    name = f"page of a comparison of {len(METHODS)} runs with a map of {points:,} samples, built in"
    line = claim(name, rows["built_seconds"], spread, repeats, elapsed, "s", detail)
    print(line)
    settings = {"points": points, "repeats": repeats, "moves": moves}
    told = {"claim": line, **rows, "targets": TARGETS, "settings": settings, "load": load.read(), "seconds": elapsed}
    print(write_result("page", told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--moves", type=int, default=200)
    main(**vars(parser.parse_args()))
