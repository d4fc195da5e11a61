"""The documents are true: what they say to run runs, piece by piece in their order, in a fresh folder."""

import re
import shlex
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import swell
from swell.cli import main, parse
from swell.training.phases import default_phases, phase_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
COMMAND = r"^    swell ([^\n]*?)(?:\s+#[^\n]*)?$"
PIECE = re.compile(
    rf"^```python\n(?P<code>.*?)^```$|^```toml\n# (?P<file>\S+)\n(?P<toml>.*?)^```$|{COMMAND}", re.M | re.S
)
BUDGETS = {"--steps", "--epochs", "--minutes", "--recipe"}


def commands():
    """Every command of every document; a shell's ampersand is none of them."""
    for path in sorted(DOCS.glob("*.md")):
        for line in re.findall(COMMAND, path.read_text(encoding="utf-8"), re.M):
            yield pytest.param(line.removesuffix("&"), id=f"{path.stem}: {line}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_parses(line):
    assert parse(shlex.split(line))


def walk(name, short=(), edit=lambda text: text):
    """Run the pieces of a document, after an `edit` that makes them shorter.

    Pre-training without a budget of its own gets the options `short`.
    """
    known = {}
    text = edit((DOCS / name).read_text(encoding="utf-8"))
    for match in PIECE.finditer(text):
        where = f"{name}, line {text[: match.start()].count(chr(10)) + 1}"
        if match["code"] is not None:
            exec(compile(match["code"], where, "exec"), known)
        elif match["file"]:
            Path(match["file"]).write_text(match["toml"], encoding="utf-8")
        else:
            words = shlex.split(match[4])
            own = words[0] != "pretrain" or BUDGETS & set(words)
            assert main([*words, *(() if own else short)]) == 0, where
    return known


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_cells(here, monkeypatch):
    pytest.importorskip("scanpy", reason="needs scanpy, which the tutorial is about and the data are in")
    anndata = pytest.importorskip("anndata", reason="needs the extra omics")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before, started = time.process_time(), time.perf_counter()
    known = walk("cells.md", ["--steps", "20"])  # the four lines in full; the same from a shell is short
    seconds = min(time.process_time() - before, time.perf_counter() - started)  # a busy machine is not our doing
    assert seconds < 60
    adata, later = known["adata"], known["later"]
    assert adata.obsm["X_swell"].shape == (700, 128)
    assert "765 of 765 genes" in adata.uns["swell"]["preparation"]
    np.testing.assert_allclose(later.obsm["X_swell"], adata.obsm["X_swell"][:100], rtol=1e-4, atol=1e-4)
    out = anndata.read_h5ad(here / "cells_out.h5ad")
    assert set(out.obsm) - set(anndata.read_h5ad(here / "cells.h5ad").obsm) == {"X_swell"}
    np.testing.assert_array_equal(out.obsm["X_swell"], swell.load(here / "run").encode(here / "cells.h5ad"))
    from PIL import Image

    with Image.open(here / "cells.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert len(colours) > 10  # ten types and their edges


def test_vectors(here):
    pytest.importorskip("pandas", reason="needs pandas, whose frame the example writes to files")
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    known = walk("vectors.md", ["--epochs", "2"])
    assert swell.load(here / "table_run").preparation.kind == "table"
    assert known["as_they_are"].preparation.kind == "none"
    assert swell.load(here / "plain_run2").preparation.kind == "none"
    with np.load(here / "features.npz") as stored:
        assert stored["features"].shape == (569, 128)


def test_diffaug(here):
    anndata = pytest.importorskip("anndata", reason="needs the extra omics")
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 3
    counts = rng.poisson(rng.gamma(1.0, 2.0, (3, 40))[kind]).astype(np.float32)
    anndata.AnnData(counts).write_h5ad(here / "cells.h5ad")
    walk("diffaug.md", ["--steps", "10"])
    for name, generator in (("run", "conditional"), ("plus", "conditional"), ("zeros", "zeros"), ("hand", "none")):
        assert swell.load(here / name).recipe.generator_positives == generator
    shown = phase_table(default_phases("steps", 274, 274), "conditional")
    assert textwrap.indent(shown, "    ") in (DOCS / "diffaug.md").read_text(encoding="utf-8")


def test_documents_name_what_there_is():
    """View presets of vectors and options of the backbone and the loss."""
    from dataclasses import fields

    from swell.methods.diffaug import DiffAug
    from swell.nets.mlp import Options
    from swell.views import VIEWS

    vectors, diffaug = ((DOCS / name).read_text(encoding="utf-8") for name in ("vectors.md", "diffaug.md"))
    assert [e.name for e in VIEWS if not e.make().of_images and f"`{e.name}`" not in vectors] == []
    assert [f.name for f in fields(Options) if f"`{f.name}`" not in vectors] == []
    assert [f.name for f in fields(DiffAug) if f"`{f.name}`" not in diffaug] == []
