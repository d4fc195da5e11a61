"""The documents as a site: everything is in its navigation, and it builds without a warning."""

import os
import re
import subprocess
import sys

import pytest

import swell
from documents import DOCS

ROOT = DOCS.parent


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
