"""The documents, piece by piece: what they say to run is run as they say it, in their order, in a fresh folder.

A budget in a command is made small and data are a few samples; nothing else of it is changed. What no test runs stands
in NOT_RUN with the reason.
"""

import glob
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import swell
from packing import shards
from swell.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FILES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SHELL = (
    "swell ",
    "torchrun ",
    "sbatch ",
    "for ",
    "python ",
    "pip ",
    "make ",
    "mkdocs ",
)  # what a line of it begins with

NOT_RUN = {  # page and beginning of the piece: why
    ("README.md", "make demo"): "minutes; tests/test_demo.py runs it with few steps",
    ("README.md", "make test"): "runs these tests",
    ("adapt-theory.md", "g(beta) ="): "a formula",
    ("adapt.md", "run/ "): "a list of files; the page's check looks for every one",
    ("cells.md", "pip install"): "changes the machine",
    ("cells.md", "layer="): "arguments and what they mean",
    ("clusters.md", "torchrun --nnodes"): "two machines; test_two_hosts_train_one_run joins two network namespaces",
    ("clusters.md", "#!/bin/bash"): "a script for Slurm; what it starts is parsed",
    ("clusters.md", "apiVersion"): "a manifest for Kubernetes; what it starts is parsed",
    ("diffaug.md", "L    ="): "formulas",
    ("diffaug.md", "phase  trains"): "what a command prints; test_the_phases_are_those_shown compares it",
    ("evaluation.md", "swell: run1 ("): "an error's text; tests/evaluation/test_paired.py provokes it",
    (
        "export.md",
        "import json, timm",
    ): "timm needs a torchvision that fits torch; tests/nets/test_timm_*.py look at the names",
    ("reproducing.md", "python benchmarks/demo.py"): "minutes; tests/test_demo.py runs it with few steps",
    ("start.md", "pip install"): "changes the machine",
}


# ---- what a document holds -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A fenced block, an indented one, or one command of an indented one."""

    page: str
    line: int
    kind: str  # shell, text, or the language of a fence
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def why_not(self) -> str:
        """Why no test runs it; empty where one does."""
        found = (why for (page, start), why in NOT_RUN.items() if page == self.page and self.text.startswith(start))
        return next(found, "")


PARTS = re.compile(
    r"^```(?P<kind>\w*)\n(?P<fenced>(?s:.*?))^```$|(?<=\n\n)(?P<indented>(?:    .*\n|\n(?=    ))+)", re.M
)


def pieces(path: Path, section: str = "") -> list[Piece]:
    """What `path` holds, or the section of that heading in it, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in PARTS.finditer(text):
        line = text[: match.start()].count("\n") + 1
        if section and re.findall(r"^## (.*)$", text[: match.start()], re.M)[-1:] != [section]:
            continue
        if match["fenced"] is not None:
            found.append(Piece(path.name, line, match["kind"], match["fenced"]))
            continue
        lines = [one[4:].rstrip() for one in match["indented"].splitlines()]
        if any(one.startswith(SHELL) for one in lines):
            found += [Piece(path.name, line + i, "shell", one) for i, one in enumerate(lines) if one]
        else:
            found.append(Piece(path.name, line, "text", "\n".join(lines).strip()))
    return found


def everything() -> list[Piece]:
    return [piece for path in FILES for piece in pieces(path)]


def sections() -> list[str]:
    """What is walked in one folder: whole documents, and the README's parts, each of which is for itself."""
    names = []
    for path in FILES:
        headings = (
            re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.M) if path.name == "README.md" else [""]
        )
        for heading in headings:
            if any(not piece.why_not for piece in pieces(path, heading)):
                names.append(f"{path.name}#{heading}" if heading else path.name)
    return names


def words_of(command: str) -> list[str]:
    """As a shell splits them: without the comment, with patterns as the files they match."""
    command = re.sub(r"\s+(#.*|&\s*(#.*)?)$", "", command)
    words = []
    for word in shlex.split(command, posix=False):
        (bare,) = shlex.split(word)
        words += (sorted(glob.glob(bare)) if bare == word and "*" in word else []) or [bare]
    return words


# ---- what it takes to run them ---------------------------------------------------------------------------

LESS = {"--steps": "2", "--epochs": "0.1", "--minutes": "0.001", "--patches": "64", "--count": "100", "--seeds": "1"}
LESS_OPTIONS = {"generator_steps": 2, "count": 100, "steps": 2}
BUDGETS = {"--steps", "--epochs", "--minutes", "--patches", "--recipe"}
UNTRAINED = {"neighbours", "kde", "mixup", "--from"}
MORE: dict[str, dict[str, str]] = {
    "pretrain": {"--width": "0.25", "--batch-size": "8"},
    "adapt": {"--width": "0.25", "--batch-size": "8", "--steps": "78", "--generator-steps": "2", "--count": "100"},
}


def shorter(words: list[str]) -> list[str]:
    """The same command with budgets that are small."""
    verb = words[0]
    bags = verb == "evaluate"  # whose --patches are no budget
    for i, word in enumerate(words[:-1]):
        if word in LESS and not (bags and word == "--patches"):
            words[i + 1] = LESS[word]
        if word == "--options":
            words[i + 1] = re.sub(
                r"(\w+)=\d+", lambda m: f"{m[1]}={LESS_OPTIONS.get(m[1], m[0].split('=')[1])}", words[i + 1]
            )
    suite = verb == "compare" and "--data" in words and not Path(words[1]).is_dir()  # an earlier one is as it was
    trains = verb == "pretrain" or suite or (verb == "generate" and not UNTRAINED & {*words})
    more = {**MORE.get(verb, {}), **({"--steps": "2"} if trains and not BUDGETS & {*words} else {})}
    more |= {"--seeds": "1"} if suite else {}
    more |= {"--workers": "0"} if verb == "compare" and "--data" in words else {}
    more |= {"--options": "generator_steps=2,count=100"} if {"adainf", "scarce"} & {*words} else {}
    more |= {"--count": "100"} if verb == "generate" else {}
    if verb == "evaluate" and "--finetune" in words:
        more["--finetune-epochs"] = "0.1"
    return [*words, *(w for name, value in more.items() if name not in words for w in (name, value))]


def run(piece: Piece, command: str, done: dict[str, Path]) -> None:
    """Carry out one line of a shell. What takes seconds and was `done` for another page, but for its --out, is copied."""
    words = words_of(command)
    if loop := re.fullmatch(r"for (\w+) in (\S+); do (.*); done", command):
        for value in sorted(glob.glob(loop[2])):
            run(piece, loop[3].replace(f"${loop[1]}", value), done)
    elif words[0] == "sbatch":
        for number in ("0", "1"):
            run(piece, words[words.index("--wrap") + 1].replace("$SLURM_ARRAY_TASK_ID", number), done)
    elif words[0] == "torchrun" and "pretrain" in words:
        words = [sys.executable, "-m", "torch.distributed.run", *words[1 : words.index("pretrain")]]
        words += shorter(shlex.split(command)[shlex.split(command).index("pretrain") :])
        ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert ended.returncode == 0, f"{piece.where}: {ended.stderr}"
    else:
        words = shorter(words[words.index("swell") + 1 :])  # of `torchrun ... -m swell generate` too
        out = Path(words[words.index("--out") + 1]) if "--out" in words else None
        same = " ".join(words).replace(f" --out {out}", "").replace(" --budget 2x", "")  # which is the default
        if same in done and out is not None:
            shutil.copytree(done[same], out)
            return
        assert main(words) == 0, piece.where
        if words[0] == "adapt" or "adainf" in words:
            done[same] = out.absolute()


def walk(name: str, edit: Callable[[str], str] = lambda text: text, done: dict[str, Path] | None = None):
    """Run the pieces of a document (`page.md`, or `page.md#Heading`) that can be run.

    Args:
        edit: of code and files, to make them shorter.
        done: what earlier pages have left, by command.

    Returns:
        The names that its code has left.
    """
    page, _, section = name.partition("#")
    path = ROOT / page if page == "README.md" else DOCS / page
    known: dict[str, object] = {"__name__": "__main__"}
    done = {} if done is None else done
    for piece in pieces(path, section):
        file = re.match(r"# (\S+\.\w+)\n", piece.text)
        if piece.why_not:
            continue
        if piece.kind in ("python", "toml") and file:
            Path(file[1]).write_text(edit(piece.text), encoding="utf-8")
        elif piece.kind == "python":
            exec(compile("\n" * piece.line + edit(piece.text), piece.where, "exec"), known)
        elif piece.kind == "shell":
            run(piece, piece.text, done)
        else:
            raise AssertionError(f"{piece.where} is neither run by a test nor named in NOT_RUN: {piece.text[:60]!r}")
    return known


# ---- what the reader has ---------------------------------------------------------------------------------


def _pictures(folder: Path, first: int, count: int, classes: bool = True) -> None:
    """Digits 0, 1 and 2 as PNG files, in a folder for each."""
    from PIL import Image

    every = swell.open("builtin:digits", labels=True)
    chosen = np.flatnonzero(every.labels < 3)[first : first + count]
    for i in chosen:
        place = folder / every.classes[every.labels[i]] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(every.samples[i][0]).save(place / f"{i:04d}.png")


def _masks(folder: Path, photos: Path) -> None:
    """Of every picture, what of it is bright."""
    from PIL import Image

    for path in photos.rglob("*.png"):
        place = folder / path.relative_to(photos)
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            Image.fromarray((np.asarray(picture) > 100).astype(np.uint8)).save(place)


def _cells(path: Path) -> None:
    import anndata
    import pandas

    rng = np.random.default_rng(0)
    kind = np.arange(120) % 3
    counts = rng.poisson(rng.gamma(1.0, 2.0, (3, 40))[kind]).astype(np.float32)
    obs = pandas.DataFrame({"cell_type": [f"type {k}" for k in kind]}, index=[f"cell{i}" for i in range(120)])
    anndata.AnnData(counts, obs=obs, layers={"counts": counts.copy()}).write_h5ad(path)


def _rows(path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 3
    rows = rng.normal(size=(120, 8)) + kind[:, None]
    text = [",".join([f"x{i}" for i in range(8)] + ["kind"])]
    text += [",".join([*(f"{x:.4f}" for x in row), f"type {k}"]) for row, k in zip(rows, kind, strict=True)]
    path.write_text("\n".join(text) + "\n")


def _shards(folder: Path) -> None:
    """A hundred of them, of one picture each."""
    every = swell.open("builtin:digits").samples[:100, 0]
    shards(folder, list(every), each=1)
    for i, path in enumerate(sorted(folder.glob("*.tar"))):
        path.rename(folder / f"train-{i:03d}.tar")


def _dataset(folder: Path) -> None:
    """As `Dataset.save_to_disk` leaves it."""
    import pyarrow as pa

    from packing import png

    folder.mkdir(parents=True)
    rows = [{"bytes": png(x), "path": None} for x in swell.open("builtin:digits").samples[:60, 0]]
    table = pa.table({"image": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    features = {"image": {"_type": "Image"}}
    table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")


def _pipeline(folder: Path) -> None:
    import diffusers
    import torch

    with torch.random.fork_rng():
        unet = diffusers.UNet2DModel(
            8, 1, 1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(num_train_timesteps=10)).save_pretrained(folder)


def _run(folder: Path, photos: Path, seed: int = 0, evaluated: bool = False) -> None:
    made = swell.pretrain(
        photos, folder, recipe="digits", steps=2, batch_size=8, width=0.25, seed=seed, quiet=True, report=False
    )
    if evaluated:
        made.evaluate(photos, baselines=False)


def _own_method() -> str:
    (text,) = (piece.text for piece in pieces(DOCS / "methods.md") if piece.text.startswith("# aligned.py"))
    return text.replace("Aligned", "Mine")


class Things:
    """What documents take for granted, made once in `store` and put into the folders in which they are walked."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.done: dict[str, Path] = {}

    def put(self, name: str, folder: Path, place: str = "") -> None:
        """A copy of it, as what lies there may be written to; of mere data, a link."""
        target = folder / (place or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        made = self.made(name)
        if name.endswith("run") or name == "runs":
            shutil.copytree(made, target)
        else:
            target.symlink_to(made)

    def made(self, name: str) -> Path:
        path = self.store / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make(name, path)
        return path

    def _make(self, name: str, path: Path) -> None:
        kinds: Mapping[str, Callable[[], object]] = {
            "photos": lambda: _pictures(path, 0, 60),
            "labelled": lambda: _pictures(path, 60, 60),
            "held-out": lambda: _pictures(path, 120, 30),
            "their-images": lambda: _pictures(path, 150, 100, classes=False),
            "photo-masks": lambda: _masks(path, self.made("photos")),
            "cells.h5ad": lambda: _cells(path),
            "rows.csv": lambda: _rows(path),
            "shards": lambda: _shards(path),
            "dataset/train": lambda: _dataset(path),
            "ddpm-folder": lambda: _pipeline(path),
            "run": lambda: _run(path, self.made("photos")),
            "runs": lambda: [_run(path / f"seed{i}", self.made("photos"), i, evaluated=True) for i in range(2)],
            "made": lambda: swell.generate(self.made("photos"), path, count=100, steps=2, quiet=True),
            "cells_run": lambda: swell.pretrain(self.made("cells.h5ad"), path, steps=2, quiet=True, report=False),
            "vit_run": lambda: swell.pretrain(
                self.made("photos"),
                path,
                steps=1,
                backbone="vit_tiny",
                width=1 / 3,
                batch_size=8,
                quiet=True,
                report=False,
            ),
            "mine.py": lambda: path.write_text(_own_method()),
        }
        kinds[name]()
