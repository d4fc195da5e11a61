"""The documents as a site: everything is in its navigation, it builds without a warning, and the short pages run."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import swell
from test_tutorial import DOCS, walk

ROOT = DOCS.parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {path.name for path in DOCS.glob("*.md")}


def test_the_reference_names_what_there_is():
    from importlib import import_module

    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for module, members in re.findall(r"^::: (\S+)\n(?:    options:\n      members: \[(.*)\])?", text, re.M):
        found = import_module(module)
        assert [name for name in members.split(", ") if name and not hasattr(found, name)] == []
    assert [name for name in swell.__all__ if name not in text and name not in ("open", "sc")] == []


def test_it_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "pre-trained" in page or "Train an encoder" in page
    assert "https://fonts" not in page


def test_start(here):
    known = walk("start.md", edit=lambda text: text.replace("--steps 200", "--steps 20"))
    assert known["z"].shape[0] == 1257
    assert {"run", "inflated", "made", "compared"} <= {path.name for path in here.iterdir()}


def test_export(here):
    """Its data are those of start.md; what needs onnx runs where it is installed."""
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    pytest.importorskip("h5py", reason="needs the extra omics")
    from PIL import Image

    images = swell.open("builtin:digits:test").samples[:40]
    (here / "photos").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(here / "photos" / f"{i:03d}.png")
    swell.pretrain("photos", "run", recipe="digits", steps=2, batch_size=16, width=0.25, quiet=True, report=False)

    def pictures_only(text):
        return "\n".join(line for line in text.splitlines() if "cells" not in line and "--timm" not in line) + "\n"

    known = walk("export.md", edit=pictures_only)
    import torch

    loaded = known["encode"](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(loaded, swell.load("run").encode("photos"), rtol=1e-4, atol=1e-5)
    assert known["z"].shape == (5, 32)


def test_reproducing(here):
    known = walk("reproducing.md")
    assert known["first"]


def test_adding(here):
    walk("adding.md")
