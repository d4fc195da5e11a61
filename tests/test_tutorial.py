"""The documents are true: what they say to run runs, piece by piece in their order, in a fresh folder."""

import json
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import swell
from documents import DOCS, FILES, NOT_RUN, ROOT, Things, everything, pieces, sections, walk, words_of
from swell.cli import COMMANDS, parse
from swell.options import parser_of
from swell.suites.plan import _call as arms_of
from swell.training.phases import default_phases, phase_table
from swell.watching import look


@dataclass(frozen=True)
class Page:
    """What it takes to walk a document: what the reader has (name, or name:place), packages, shorter budgets in its
    code, and what has to hold in the end, told the names that its code has left."""

    things: str = ""
    packages: str = ""
    less: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Mapping[str, object], str], None] = lambda known, printed: None


def adapted(known, printed):
    """The files that the page lists are there."""
    (listed,) = (piece.text for piece in pieces(DOCS / "adapt.md") if piece.text.startswith("run/ "))
    for line in listed.splitlines():
        assert Path(line.split()[0]).exists(), line


def cells(known, printed):
    adata, later = known["adata"], known["later"]
    assert adata.obsm["X_swell"].shape == (700, 128)
    assert "765 of 765 genes" in adata.uns["swell"]["preparation"]
    np.testing.assert_allclose(later.obsm["X_swell"], adata.obsm["X_swell"][:100], rtol=1e-4, atol=1e-4)
    import anndata
    from PIL import Image

    out = anndata.read_h5ad("cells_out.h5ad")
    assert set(out.obsm) - set(anndata.read_h5ad("cells.h5ad").obsm) == {"X_swell"}
    np.testing.assert_array_equal(out.obsm["X_swell"], swell.load("run").encode("cells.h5ad"))
    with Image.open("cells.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10  # ten types and their edges


def diffaug(known, printed):
    for name, generator in (("run", "conditional"), ("plus", "conditional"), ("zeros", "zeros"), ("hand", "none")):
        assert swell.load(name).recipe.generator_positives == generator


def evaluation(known, printed):
    """The keys of the file are those of the table, and runs evaluated otherwise are refused with the line shown."""
    found, told = known["found"], known["told"]
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert {*found} >= keys - {"corruptions", "bag_of_features", "dense", "finetune"}
    assert {*json.loads(Path("RUN/evaluation.json").read_text())} >= keys & {"bag_of_features", "knn", "calibration"}
    assert told["n"] == found["n_test"]


def exported(known, printed):
    samples = swell.open("photos").samples
    loaded = known["encode"](torch.from_numpy(samples)).numpy()
    np.testing.assert_allclose(loaded, swell.load("run").encode("photos"), rtol=1e-4, atol=1e-5)
    assert known["z"].shape == (5, 32)


def live(known, printed):
    assert "2 finished in runs" in printed
    (told,) = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [run["state"] for run in told["runs"]] == ["finished"] * 2
    assert look(Path("runs/logged")).state == "finished"
    assert {"tensorboard", "wandb", "mlflow"} <= {path.name for path in Path("runs/logged").iterdir()}


def started(known, printed):
    assert known["z"].shape[0] == 1257
    assert {"run", "inflated", "made", "compared"} <= {path.name for path in Path().iterdir()}


def vectors(known, printed):
    assert swell.load("table_run").preparation.kind == "table"
    assert known["as_they_are"].preparation.kind == "none"
    assert swell.load("plain_run2").preparation.kind == "none"
    with np.load("features.npz") as stored:
        assert stored["features"].shape == (569, 128)


TRAINED = {"epochs=100": "epochs=1", "epochs=20": "epochs=1", "epochs=5": "epochs=0.1"}
README = {**TRAINED, "count=100_000": "count=100, steps=2", 'strength="weak")': 'strength="weak", steps=2, width=0.25)',
          ".fit(X).transform(X)": ".fit(z).transform(z)"}  # fmt: skip
PAGES = {
    "README.md#Your own images": Page("photos labelled shards", "onnxscript onnxruntime", README),
    "README.md#Adaptive inflation": Page("photos"),
    "README.md#Cells, tables, any vectors": Page(
        "cells.h5ad rows.csv", "scanpy anndata", {'layer="counts")': 'layer="counts", steps=2)'}
    ),
    "README.md#Positives from a generator (DiffAug)": Page("photos cells.h5ad", "anndata"),
    "README.md#Methods": Page("photos labelled mine.py"),
    "README.md#Masked images and dense features": Page("photos labelled made"),
    "README.md#Comparing": Page("photos runs"),
    "README.md#Generators": Page("photos their-images"),
    "adapt.md": Page("photos", check=adapted),
    "cells.md": Page(packages="scanpy anndata", less={'out="cells_run")': 'out="cells_run", epochs=4)'}, check=cells),
    "clusters.md": Page("photos labelled"),
    "compare.md": Page("photos labelled held-out cells.h5ad runs", less={"10_000": "100", "1500": "2"}),
    "diffaug.md": Page("cells.h5ad", "anndata", {f"steps = {n}": "steps = 2" for n in (60, 200, 30)}, diffaug),
    "evaluation.md": Page("run:RUN photos:DATA labelled:OTHER held-out:THIRD their-images:STRANGE", check=evaluation),
    "export.md": Page(
        "photos run cells.h5ad cells_run vit_run", "onnxscript onnxruntime pyarrow h5py anndata", check=exported
    ),
    "generators.md": Page("photos their-images ddpm-folder", "diffusers"),
    "images.md": Page("photos"),
    "large.md": Page("shards dataset/train made", "pyarrow"),
    "live.md": Page(packages="tensorboard wandb mlflow", check=live),
    "masked.md": Page("photos labelled made photo-masks"),
    "methods.md": Page("photos labelled made"),
    "scores.md": Page("photos", less={'(rest, "run")': '(rest, "run", steps=2, width=0.25, batch_size=8)'}),
    "start.md": Page(check=started),
    "vectors.md": Page(packages="pandas pyarrow", less=TRAINED, check=vectors),
}


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    return Things(tmp_path_factory.mktemp("things"))


@pytest.fixture
def quick(monkeypatch):
    """Less of what is the same for every run and tested elsewhere; of a suite the first arm and the last."""

    def two_arms(*given):
        arms = [*arms_of(*given).items()]
        return dict([arms[0], arms[-1]])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of so little work each more is a loss
    monkeypatch.setattr("swell.suites.plan._call", two_arms)
    monkeypatch.setattr("swell.suites.work.SNAPSHOTS", (0.5,))
    monkeypatch.setattr("swell.evaluation.few_shot.DRAWS", 2)
    monkeypatch.setattr("swell.generators.generate.MOST_FRECHET", 200)
    monkeypatch.setattr("swell.generators.reference.default_steps", lambda shape, count: 2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", sections())
def test_what_it_says_runs(name, tmp_path, monkeypatch, things, capsys, quick):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    page = PAGES.get(name, Page())
    for package in page.packages.split():
        pytest.importorskip(package)
    for thing in page.things.split():
        things.put(*thing.split(":")[:1], tmp_path, thing.partition(":")[2])

    def shorter(text):
        for long, short in page.less.items():
            text = text.replace(long, short)
        return text

    known = walk(name, shorter, things.done)
    page.check(known, capsys.readouterr().out)


def test_every_piece_is_run_or_says_why_not():
    """Whatever is neither Python nor a file nor a command that `walk` knows is named in NOT_RUN, and that is up to date."""
    walked = {(piece.page, piece.line) for name in sections() for piece in _of(name)}
    left = [piece for piece in everything() if not piece.why_not and (piece.page, piece.line) not in walked]
    assert left == []
    unused = [key for key in NOT_RUN if not any(p.page == key[0] and p.text.startswith(key[1]) for p in everything())]
    assert unused == []
    assert set(PAGES) <= set(sections())


def _of(name):
    page, _, section = name.partition("#")
    return pieces(ROOT / page if page == "README.md" else DOCS / page, section)


@pytest.mark.parametrize(
    "piece", [p for p in everything() if re.search(r"\bswell ", p.text)], ids=lambda piece: piece.where
)
def test_every_command_parses(piece):
    """As it stands, whether a test runs it or not."""
    text = re.sub(r"\\\n", " ", piece.text).replace("$SLURM_ARRAY_TASK_ID", "0")
    if text.startswith("swell ") and piece.kind == "shell":
        assert parse(words_of(text)[1:])
        return
    for command in re.findall(r"(?:-m |wrap [\"']|do |\n *)swell ((?:pretrain|generate|evaluate)\b[^\"';\n]*)", text):
        assert parse(shlex.split(command))


def test_options_named_in_passing_exist():
    """`swell evaluate RUN DATA --dense` and `--label-fraction 0.1` in the text: of that command, or of any."""
    known = {name: set(parser_of(name, command)._option_string_actions) for name, command in COMMANDS.items()}
    known["demo"] |= {"--nproc-per-node", "--nnodes", "--max-restarts", "--backend-store-uri", "--logdir"}  # of others
    wrong = []
    for path in FILES:
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for code in re.findall(r"`([^`\n]+)`", text):
            verb = match[1] if (match := re.match(r"swell (\w+)", code)) else ""
            if verb and verb not in COMMANDS:
                wrong.append(f"{path.name}: {code}")
            allowed = known.get(verb) or set().union(*known.values())
            wrong += [
                f"{path.name}: {code}" for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code) if flag not in allowed
            ]
    assert wrong == []


def test_the_phases_are_those_shown():
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
