"""Names that want to be more than text, on every page; and no connection unless somebody asks for one.

One process does the whole work, from files with hostile names to the pages, and may not open a connection meanwhile.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

NAME = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}\u2028<!--"  # of a folder, which may hold no slash
WORD = f"</script><script>alert(2)</script>{NAME}"  # of a class
HERE = Path(__file__).resolve().parent
VOID = {"meta", "link", "img", "br", "hr", "input"}

WORK = """
import sys
def refuse(event, told):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise RuntimeError(f"the network was asked for: {event} {told}")
sys.addaudithook(refuse)
import os
import numpy as np
from PIL import Image
import swell
from swell.watching import look
NAME, WORD = sys.argv[1:]
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), np.arange(60) % 3
images[labels == 1, :, :4] //= 4
np.savez(f"{NAME}.npz", images=images, labels=np.array([f"{WORD}{k}" for k in range(3)])[labels])
for k, image in enumerate(images[:30]):
    os.makedirs(f"{NAME}/{NAME}{k % 3}", exist_ok=True)
    Image.fromarray(image[0]).save(f"{NAME}/{NAME}{k % 3}/{NAME}{k}.png")
assert len(swell.open(NAME, labels=True, quiet=True)) == 30
made = swell.generate(f"{NAME}.npz", f"gen {NAME}", generator="kde", count=30, quiet=True)
small = dict(steps=2, batch_size=16, width=0.1, method_options={"hidden": 8, "outputs": 4}, quiet=True)
for name in ("one", "two"):
    run = swell.pretrain(f"{NAME}.npz", f"{name} {NAME}", inflate=made if name == "two" else None, **small)
    run.evaluate(f"{NAME}.npz", baselines=False)
    swell.load(run.path).encode(images)
    swell.export(run, f"{name}.safetensors")
swell.compare([f"one {NAME}", f"two {NAME}"], out=f"both {NAME}")
assert look(run.path).state == "finished"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the pages of samples, runs, a comparison and a search, every name in them hostile."""
    out = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-c", WORK, NAME, WORD]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    search = load("report/test_adapt_page.py")
    (out / "search").mkdir()
    search.NAMES = ("none", "weak_only", "adainf", WORD)
    text = Path(search.__file__).read_text(encoding="utf-8").replace('"weight3<b>"', "NAMES[3]")
    leave = {**vars(search)}
    exec(compile(text[text.index("def leave") : text.index("def test_it_says_what")], search.__file__, "exec"), leave)
    leave["leave"](out / "search", {"none": [0, 0.1], "weak_only": [1, 1.1], "adainf": [3, 3.1]}, copies=WORD)
    return out


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem + "_", HERE / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.islands, self._script = [], [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("type")

    def handle_data(self, data):
        (self.islands if self._script else self.text).append(data)

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None


def pages(place):
    return sorted(place.rglob("*.html"))


def test_no_connection_is_made_and_every_page_is_there(place):
    named = [str(path.relative_to(place)) for path in pages(place)]
    assert [name.replace(NAME, "X") for name in named] == [
        "both X/report.html", "gen X/report.html", "one X/report.html", "search/adapt/report.html", "two X/report.html"
    ]  # fmt: skip


def test_hostile_names_are_text_on_every_page(place):
    for path in pages(place):
        html = path.read_text(encoding="utf-8")
        page = Tags()
        page.feed(html)
        assert not [tag for tag in page.tags if any(name.startswith("on") for name in tag[1])], path
        assert all(dict(tag[1]).get("src", "data:").startswith("data:") for tag in page.tags), path
        scripts = [attributes for tag, attributes in page.tags if tag == "script"]
        assert [attributes for attributes in scripts if attributes.get("type") != "application/json"] == [{}], (
            path
        )  # ours
        assert "script-src 'sha256-" in html
        assert "unsafe-eval" not in html
        for island in page.islands:
            assert not re.search("<|\u2028", island), path  # nothing in data that could end it
            json.loads(island)
    shown = (place / f"one {NAME}" / "report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "{{ 7*7 }}" in shown  # no template is made of a name
    assert "\\u003c/script\\u003e" in shown  # classes, in the data of the map


@pytest.mark.browser
def test_no_page_does_anything_in_a_browser(place, tmp_path):
    chromium = load("../benchmarks/_browser.py")
    if chromium.CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH")
    with chromium.Browser(tmp_path / "profile") as browser:
        for path in pages(place):
            with browser.open(path) as tab:
                assert tab.run("document.querySelectorAll('img[onerror], img[src=x]').length") == 0
                assert tab.complaints == []
        assert not [event for event in browser.events if event.get("method") == "Page.javascriptDialogOpening"]
