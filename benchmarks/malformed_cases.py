"""The cases of `malformed.py`, by what is wrong: (name, command line, what the one line must hold, what lies there)."""
# fmt: off

from __future__ import annotations

import io
import resource
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from malformed_inputs import (
    LABELS,
    PICKLE,
    Build,
    Case,
    changed,
    changed_bytes,
    checkpoint,
    cut,
    disk,
    folder,
    generate,
    images,
    link,
    photos,
    pipe,
    pretrain,
    ready,
    replaced,
    saved,
    shard,
    weights,
    written,
)
from malformed_scenes import scenes
from malformed_vectors import vectors

Row: TypeAlias = tuple[str, tuple[str, ...], str, tuple[Build, ...]]


def folders() -> Iterator[Case]:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
        yield Case(f"truncated {kind} files", pretrain("photos"), "of 6 images are unreadable", (photos(kind),))
    for kind in ("JPEG", "PNG"):
        yield Case(f"zero-byte {kind} files", generate("photos"), "empty file", (photos(kind, keep=0.0),))
    for name, content in (("text", b"dear diary"), ("HTML", b"<html>"), ("a pickle", PICKLE), ("a GIF", b"GIF89a")):
        yield Case(f"{name} named .jpg", pretrain("photos"), "(a.jpg: not a JPEG", (written("photos/a.jpg", content),))
    header = b"IHDR" + (10**6).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big")
    one = photos("PNG", 0, 1)
    table: tuple[Row, ...] = (
        ("a PNG that claims a terapixel", pretrain("photos"), "photos: 1 of 1", (written("photos/a.png", bomb),)),
        ("three of a hundred files cut", pretrain("photos"), "photos: 3 of 100", (photos("PNG", 3, 100),)),
        ("a folder without images", pretrain("photos"), "photos holds no images", (written("photos/a.txt", "x"),)),
        ("a folder of hidden images", pretrain("photos"), "photos holds no images", (written("photos/.a.png", "x"),)),
        ("an empty folder", generate("photos"), "photos holds no images", (folder("photos"),)),
        ("a missing path", pretrain("nowhere"), "nowhere (no such file", ()),
        ("an empty path", pretrain(""), "an empty name", ()),
        ("one image only", pretrain("photos"), "photos: 1 samples", (one,)),
        ("an image instead of its folder", pretrain("photos/000.png"), "photos/000.png", (one,)),
        ("broken links", pretrain("photos"), "broken link", (folder("photos"), link("photos/a.png", "nowhere.png"))),
        ("a link to itself", pretrain("photos"), "photos", (link("photos", "photos"),)),
        ("a pipe named .png", pretrain("photos"), "photos", (folder("photos"), pipe("photos/a.png"))),
        ("images outside class folders", ("evaluate", "run", "photos"), "photos: 4 of 4 images lie outside",
         (ready("run"), photos("PNG", 0, 4, side=8))),
        ("truncated files to embed", ("embed", "run", "photos", "--out", "z.npz"), "photos: 6 of 6",
         (ready("run"), photos("WEBP"))),
    )
    yield from (Case(*row) for row in table)


def arrays() -> Iterator[Case]:
    for shape in ((), (40,), (6, 2, 1, 8, 8), (40, 8, 8, 2), (40, 4, 8, 8), (40, 0), (64, 96, 3), (0, 8, 8), (1, 8, 8)):
        yield Case(f"shape {list(shape)}", pretrain("x.npy"), "x.npy: ", (saved("x.npy", np.zeros(shape, np.uint8)),))
    for kind in ("complex64", "datetime64[s]", "U3", "V8"):
        yield Case(f"an array of {kind}", pretrain("x.npy"), "x.npy", (saved("x.npy", np.zeros((40, 8, 8), kind)),))
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    for value in (np.nan, np.inf):
        bad = rows.copy()
        bad[[7, 9]] = value
        yield Case(f"{value} in two vectors", generate("x.npy"), "in 2 of 40 rows, first row 7", (saved("x.npy", bad),))
        bad = np.ones((40, 8, 8))
        bad[3, 0, 0] = value
        yield Case(f"{value} in an image", pretrain("x.npz"), "x.npz: NaN or inf", (saved("x.npz", images=bad),))
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)})
    empty, plain, objects = io.BytesIO(), io.BytesIO(), np.array([{}, []] * 20, object)
    zipfile.ZipFile(empty, "w").close()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("images.npy", "no array")
    two = {"images": images(), "labels": LABELS}
    middle = changed_bytes("x.npz", 2000)
    table: tuple[Row, ...] = (
        ("negative image values", pretrain("x.npy"), "x.npy: image values", (saved("x.npy", images() - 300.0),)),
        ("image values above 255", pretrain("x.npy"), "x.npy: image values", (saved("x.npy", images() * 256.0),)),
        ("samples all the same", generate("x.npy"), "all the same", (saved("x.npy", images()[:1].repeat(40, 0)),)),
        ("too few samples for a generator", generate("x.npy"), "9 samples", (saved("x.npy", images(9)),)),
        ("vectors for a net of images", pretrain("x.npy"), "conv6", (saved("x.npy", rows),)),
        ("a size for vectors", generate("x.npy", "--size", "8"), "size 8", (saved("x.npy", rows),)),
        ("an object array", pretrain("x.npy"), "x.npy", (saved("x.npy", objects),)),
        ("an object array in an .npz", pretrain("x.npz"), "x.npz", (saved("x.npz", images=objects),)),
        ("labels that are objects", ("evaluate", "run", "x.npz"), "x.npz",
         (ready("run"), saved("x.npz", images=images(), labels=objects))),
        ("a pickle named .npy", pretrain("x.npy"), "x.npy", (written("x.npy", PICKLE),)),
        ("a pickle named .npz", pretrain("x.npz"), "x.npz", (written("x.npz", PICKLE),)),
        ("a pickle to generate from", generate("x.npz"), "x.npz", (written("x.npz", PICKLE),)),
        ("a truncated .npz", pretrain("x.npz"), "x.npz", (saved("x.npz", **two), cut("x.npz"))),
        ("an .npz without its last bytes", pretrain("x.npz"), "x.npz", (saved("x.npz", **two), cut("x.npz", 0.99))),
        ("an .npz with a changed byte", pretrain("x.npz"), "x.npz", (saved("x.npz", **two), middle)),
        ("a truncated .npy", pretrain("x.npy"), "x.npy", (saved("x.npy", images()), cut("x.npy"))),
        ("an .npy cut in its header", pretrain("x.npy"), "x.npy", (saved("x.npy", images()), cut("x.npy", 0.02))),
        ("a header that claims 8 PB", pretrain("x.npy"), "x.npy", (written("x.npy", huge.getvalue()),)),
        ("a zero-byte .npz", pretrain("x.npz"), "x.npz", (written("x.npz", ""),)),
        ("a zero-byte .npy", pretrain("x.npy"), "x.npy", (written("x.npy", ""),)),
        ("an .npz without arrays", pretrain("x.npz"), "x.npz", (written("x.npz", empty.getvalue()),)),
        ("an .npz of other files", pretrain("x.npz"), "x.npz", (written("x.npz", plain.getvalue()),)),
        ("two arrays, neither named", pretrain("x.npz"), "x.npz: arrays a, b", (saved("x.npz", a=images(), b=images()),)),
        ("a pipe named .npz", pretrain("x.npz"), "x.npz", (pipe("x.npz"),)),
        ("a text file", pretrain("x.txt"), "x.txt", (written("x.txt", "1 2 3"),)),
        ("a Hugging Face name", pretrain("hf:cifar10"), "hf:cifar10", ()),
        ("tar shards", pretrain("x-{000..099}.tar"), "x-{000..099}.tar", ()),
    )
    yield from (Case(*row) for row in table)
    yield Case("a built-in set that is not there", pretrain("builtin:fashion-mnist"), "train-images-idx3-ubyte.gz",
               environment={"SWELL_FASHION_MNIST": "."})


def generated() -> Iterator[Case]:
    """Damage to a GEN folder that is mixed in, opened as data, or in the way."""
    manifest = "gen/manifest.json"
    pixels = {"images": images(30, (1, 8, 8))}
    damage: tuple[tuple[str, str, Build], ...] = (
        ("a shard with a changed byte", "shard-00000.npz (checksum", changed_bytes("gen/shard-00000.npz", 999)),
        ("a shard cut short", "shard-00000.npz (checksum", cut("gen/shard-00000.npz")),
        ("a missing shard", "shard-00000.npz (missing)", lambda at, _: (at / "gen/shard-00000.npz").unlink()),
        ("a shard that is a pickle", "shard-00000.npz", shard(PICKLE)),
        ("a shard of objects", "shard-00000.npz", shard({"images": np.array([{}, []], object)})),
        ("a shard without the key", "shard-00000.npz", shard({"pictures": pixels["images"]})),
        ("a shard of another shape", "shard-00000.npz (uint8", shard({"images": images(30, (1, 4, 4))})),
        ("a shard of another type", "shard-00000.npz (float64", shard({"images": pixels["images"] / 2})),
        ("a wrong count", manifest, changed(manifest, lambda m: m.update(count=31))),
        ("a count that no memory holds", "gen", changed(manifest, lambda m: (m.update(count=10**15), m["shards"][0].update(count=10**15)))),
        ("a count in words", manifest, changed(manifest, lambda m: m.update(count="thirty"))),
        ("a later version", "swell-gen-9", changed(manifest, lambda m: m.update(format="swell-gen-9"))),
        ("a manifest without shards", manifest, changed(manifest, lambda m: m.pop("shards"))),
        ("a manifest without provenance", manifest, changed(manifest, lambda m: m.pop("provenance"))),
        ("an unknown word in the provenance", manifest, changed(manifest, lambda m: m["provenance"].update(colour="red"))),
        ("real samples in a GEN", manifest, changed(manifest, lambda m: m["provenance"].update(kind="real"))),
        ("a shape below zero", manifest, changed(manifest, lambda m: m.update(shape=[1, -8, 8]))),
        ("a shard outside the folder", manifest, changed(manifest, lambda m: m["shards"][0].update(file="../data.npz"))),
        ("a manifest cut short", manifest, cut(manifest)),
        ("a manifest that is a list", "gen", written(manifest, "[]")),
        ("a manifest nested too deep", manifest, written(manifest, "[" * 100_000)),
        ("a ledger that is a list", "gen/ledger.json", written("gen/ledger.json", "[]")),
        ("a ledger in words", "gen/ledger.json", changed("gen/ledger.json", lambda v: v["sampling"].update(seconds="x"))),
    )
    for name, names, build in damage:
        yield Case(name, pretrain("data.npz", "--inflate", "gen", "--weight", "2"), names, (ready("gen"), build))
    gen = ready("gen")
    table: tuple[Row, ...] = (
        ("a cut manifest as data", pretrain("gen"), manifest, (gen, cut(manifest))),
        ("a damaged GEN as data to embed", ("embed", "run", "gen", "--out", "z.npz"), "shard-00000.npz",
         (gen, ready("run"), cut("gen/shard-00000.npz"))),
        ("a missing GEN", pretrain("data.npz", "--inflate", "made"), "made", ()),
        ("photos as a GEN", pretrain("data.npz", "--inflate", "photos"), "photos", (photos("PNG", 0),)),
        ("a RUN as a GEN", pretrain("data.npz", "--inflate", "run"), "run", (ready("run"),)),
        ("samples of another shape", pretrain("builtin:digits", "--inflate", "gen", "--size", "6"), "[1, 8, 8]", (gen,)),
        ("samples made with labels", pretrain("data.npz", "--inflate", "gen"), "used labels",
         (gen, changed(manifest, lambda m: m["provenance"].update(labels_used=True)))),
        ("a GEN in the way", generate("data.npz", "--out", "gen"), "gen (holds other", (gen,)),
        ("a cut GEN in the way", generate("data.npz", "--out", "gen"), "gen", (gen, cut(manifest))),
        ("a GEN without settings in the way", generate("data.npz", "--out", "gen"), "gen",
         (gen, changed(manifest, lambda m: m.pop("settings")))),
        ("--force over a RUN", generate("data.npz", "--out", "run", "--force"), "run", (ready("run"),)),
    )
    yield from (Case(*row) for row in table)


def runs() -> Iterator[Case]:
    """Damage to a RUN folder that is evaluated, used or resumed."""
    evaluate, embed = ("evaluate", "run", "data.npz", "--no-baselines"), ("embed", "run", "data.npz", "--out", "z.npz")
    resume = pretrain("data.npz", "--out", "begun", "--resume")
    recipe, encoder = "run/recipe.toml", "run/encoder.json"
    used: tuple[tuple[str, tuple[str, ...], str, Build], ...] = (
        ("recipe.toml is no TOML", evaluate, recipe, replaced(recipe, "^steps = .*", "steps = = 3")),
        ("an unknown key in recipe.toml", evaluate, "'stepz'", replaced(recipe, "^steps", "stepz")),
        ("text for a number in recipe.toml", evaluate, "steps", replaced(recipe, "^steps = .*", 'steps = "two"')),
        ("a number for a name in recipe.toml", evaluate, "backbone", replaced(recipe, "^backbone = .*", "backbone = 3")),
        ("views that are a number", evaluate, "views", written(recipe, "views = 3")),
        ("a broken view plan", evaluate, "flip", replaced(recipe, "^flip = .*", "flip = 7")),
        ("a recipe.toml that is not text", evaluate, recipe, written(recipe, bytes(range(128, 256)))),
        ("no recipe.toml", evaluate, recipe, lambda at, _: (at / recipe).unlink()),
        ("data that are no table in recipe.toml", evaluate, recipe, replaced(recipe, r"^\[data\](.|\n)*", "[[data]]\n")),
        ("encoder.json cut short", embed, encoder, cut(encoder)),
        ("encoder.json is a list", embed, encoder, written(encoder, "[]")),
        ("encoder.json of another format", embed, "swell-encoder-7", replaced(encoder, "swell-encoder-1", "swell-encoder-7")),
        ("an unknown backbone in encoder.json", embed, "conv7", replaced(encoder, "conv6", "conv7")),
        ("a list for the backbone", embed, encoder, changed(encoder, lambda v: v.update(backbone=[]))),
        ("a shape of two numbers", embed, encoder, changed(encoder, lambda v: v.update(shape=[1, 8]))),
        ("no mean in encoder.json", embed, "mean", changed(encoder, lambda v: v.pop("mean"))),
        ("options of a net that has none", embed, encoder, changed(encoder, lambda v: v.update(options={"patch": 4}))),
        ("options that are a list", embed, encoder, changed(encoder, lambda v: v.update(options=[4]))),
        ("a ViT of endless depth", embed, encoder, changed(encoder, lambda v: v.update(backbone="vit_tiny", options={"depth": 10**9}))),
        ("a ViT whose patch does not divide", embed, encoder, changed(encoder, lambda v: v.update(backbone="vit_tiny", options={"patch": 3}))),
        ("a width that no memory holds", embed, encoder, changed(encoder, lambda v: v.update(width=1e7))),
        ("weights cut short", embed, "encoder.safetensors", cut("run/encoder.safetensors")),
        ("weights of zero bytes", evaluate, "encoder.safetensors", cut("run/encoder.safetensors", 0.0)),
        ("weights that are a pickle", embed, "encoder.safetensors", written("run/encoder.safetensors", PICKLE)),
        ("a weight too few", embed, "encoder.safetensors", weights(lambda w: w.pop("mean"))),
        ("a weight of another shape", evaluate, "encoder.safetensors", weights(lambda w: w.update(mean=np.zeros(9, np.float32)))),
        ("weights that are NaN", embed, "encoder.safetensors", weights(lambda w: w.update(mean=w["mean"] * np.nan))),
        ("a ledger.json cut short", evaluate, "run/ledger.json", cut("run/ledger.json")),
        ("no weights", evaluate, "run", lambda at, _: (at / "run/encoder.safetensors").unlink()),
        ("metrics.jsonl without a line", evaluate, "metrics.jsonl", cut("run/metrics.jsonl", 0.0)),
    )
    for name, argv, names, build in used:
        yield Case(name, argv, names, (ready("run"), build))
    begun: tuple[tuple[str, tuple[str, ...], str, Build], ...] = (
        ("a checkpoint cut short", resume, "checkpoint.pt", cut("begun/checkpoint.pt")),
        ("a checkpoint of zero bytes", resume, "checkpoint.pt", cut("begun/checkpoint.pt", 0.0)),
        ("a checkpoint that is a pickle", resume, "checkpoint.pt", written("begun/checkpoint.pt", PICKLE)),
        ("a checkpoint without the optimiser", resume, "checkpoint.pt", checkpoint(lambda s: s.pop("optimizer"))),
        ("a checkpoint of another net", resume, "checkpoint.pt", checkpoint(lambda s: s["encoder"].popitem())),
        ("a checkpoint with a broken ledger", resume, "checkpoint.pt", checkpoint(lambda s: s.update(ledger="{"))),
        ("a checkpoint with a broken state", resume, "checkpoint.pt", checkpoint(lambda s: s["state"].update(step="two"))),
        ("a checkpoint of a later format", resume, "checkpoint.pt", checkpoint(lambda s: s.update(format="swell-checkpoint-7"))),
        ("a resumed recipe that is no TOML", resume, "begun/recipe.toml", written("begun/recipe.toml", "steps = = 2")),
        ("a changed option", (*resume, "--learning-rate", "0.5"), "learning_rate", folder("x")),
        ("a changed method", (*resume, "--method", "dcl"), "method: ", folder("x")),
        ("changed data", pretrain("builtin:digits", "--out", "begun", "--resume"), "real: ", folder("x")),
        ("a run in the way", pretrain("data.npz", "--out", "begun"), "--out begun (holds", folder("x")),
        ("--resume of a folder that is no run", pretrain("data.npz", "--out", "x", "--resume"), "--out x",
         written("x/thesis.txt", "dear")),
    )
    for name, argv, names, build in begun:
        yield Case(name, argv, names, (ready("begun"), build))
    run = ready("run")
    table: tuple[Row, ...] = (
        ("a RUN that is not there", evaluate, "run", ()),
        ("a RUN that is a file", ("embed", "data.npz", "data.npz", "--out", "z.npz"), "data.npz", ()),
        ("an unfinished RUN", ("evaluate", "begun", "data.npz"), "begun", (ready("begun"),)),
        ("unlabelled data to evaluate on", ("evaluate", "run", "x.npz"), "x.npz: no labels", (run, saved("x.npz", images=images()))),
        ("a label key that is not there", (*evaluate, "--labels", "colour"), "colour", (run,)),
        ("a label key for a built-in set", ("evaluate", "run", "builtin:digits", "--labels", "y"), "'y'", (run,)),
        ("fewer labels than samples", ("evaluate", "run", "x.npz"), "x.npz: 39 labels", (run, saved("x.npz", images=images(), y=LABELS[:39]))),
        ("labels in two columns", ("evaluate", "run", "x.npz"), "x.npz: labels", (run, saved("x.npz", images=images(), y=np.eye(40)))),
        ("labels that are NaN", ("evaluate", "run", "x.npz"), "x.npz: labels", (run, saved("x.npz", images=images(), y=LABELS * np.nan))),
        ("one class only", (*evaluate, "--labels", "same"), "labels that are all 0", (run, saved("data.npz", images=images(), same=LABELS * 0))),
        ("too few labelled samples", ("evaluate", "run", "x.npz"), "2 labelled samples", (run, saved("x.npz", images=images(2), y=LABELS[:2]))),
        ("test classes that differ", (*evaluate, "--test", "x.npz"), "test classes", (run, saved("x.npz", images=images(), y=LABELS + 9))),
        ("a test set that is not there", (*evaluate, "--test", "x.npz"), "x.npz", (run,)),
        ("a test set of another shape", (*evaluate, "--test", "x.npz"), "[3, 8, 8]", (run, saved("x.npz", images=images(40, (3, 8, 8)), y=LABELS))),
        ("data of another shape", ("embed", "run", "x.npy", "--out", "z.npz"), "shape [3, 8, 8]", (run, saved("x.npy", images(40, (3, 9, 8))))),
        ("vectors to embed", ("embed", "run", "x.npy", "--out", "z.npz"), "x.npy", (run, saved("x.npy", np.ones((40, 6))))),
        ("features to a text file", ("embed", "run", "data.npz", "--out", "z.txt"), "z.txt", (run,)),
    )
    yield from (Case(*row) for row in table)


NUMBERS = {  # option -> values that are none for it
    "pretrain": {
        "--weight": "0 -1 nan 1e999 heavy", "--strength": "-0.1 1.5 nan wek", "--steps": "0 -1 2.5 many 1" + 30 * "0",
        "--epochs": "0 -1 nan inf 1e300", "--minutes": "0 nan 1e999 soon", "--batch-size": "0 -1 1 1e3 99999999999",
        "--width": "0 -1 nan inf", "--learning-rate": "-1 nan 1e999 fast", "--size": "0 -1 1000000",
        "--max-bad": "-1 nan 2", "--seed": "-1 1.5 1" + 30 * "0", "--checkpoint-seconds": "-1 nan inf",
        "--patches": "0 -1 1.5 1" + 30 * "0", "--flops": "0 -1 nan inf", "--view-count": "0 -1 2.5", "--view-chunk": "0 few",
        "--weight-decay": "-1 nan",
    },
    "generate": {
        "--count": "0 -1 nan 1" + 30 * "0", "--steps": "0 -1 1" + 30 * "0", "--minutes": "0 -1 nan inf",
        "--size": "0 5000", "--max-bad": "nan", "--seed": "x -1 1" + 30 * "0",
    },
    "demo": {"--seeds": "0 -1 nan 1000000000", "--steps": "-1 1 1" + 30 * "0"},
}


def numbers() -> Iterator[Case]:
    base = {"pretrain": pretrain, "generate": generate, "demo": lambda _, *more: ("demo", "--out", "out", *more)}
    for command, options in NUMBERS.items():
        for option, values in options.items():
            for value in values.split():
                inflated = option == "--weight"
                more = (option, value, "--inflate", "gen") if inflated else (option, value)
                shown = value if len(value) < 12 else f"{value[0]}e{len(value) - 1}"
                yield Case(f"{command} {option} {shown}", base[command]("data.npz", *more), option.strip("-"),
                           (ready("gen"),) if inflated else ())


def words() -> Iterator[Case]:
    table: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("an unknown command", ("pretrian", "data.npz"), "did you mean 'pretrain'?"),
        ("an option for a command", ("--jsn",), "--jsn"),
        ("an unknown option", pretrain("data.npz", "--wieght", "3"), "did you mean '--weight'?"),
        ("an unknown option with =", generate("data.npz", "--cuont=3"), "did you mean '--count'?"),
        ("an option of another command", ("embed", "run", "data.npz", "--weight", "2"), "--weight"),
        ("an abbreviated option", pretrain("data.npz", "--infl", "gen"), "--infl"),
        ("an unknown short option", pretrain("data.npz", "-n"), "-n"),
        ("an option without its value", ("pretrain", "data.npz", "--out"), "--out"),
        ("no --out", ("pretrain", "data.npz"), "--out"),
        ("no DATA", ("generate", "--out", "out"), "DATA"),
        ("one argument too many", ("evaluate", "run", "data.npz", "more"), "more"),
        ("an unknown method", pretrain("data.npz", "--method", "simclrr"), "did you mean 'simclr'?"),
        ("an unknown generator", generate("data.npz", "--generator", "difusion"), "did you mean 'diffusion'?"),
        ("an unknown recipe", pretrain("data.npz", "--recipe", "digitz"), "did you mean 'digits'?"),
        ("a recipe file that is not there", pretrain("data.npz", "--recipe", "my.toml"), "my.toml"),
        ("a folder for a recipe", pretrain("data.npz", "--recipe", "."), "."),
        ("data for a recipe", pretrain("data.npz", "--recipe", "data.npz"), "data.npz"),
        ("an unknown built-in set", pretrain("builtin:digitz"), "did you mean 'digits'?"),
        ("an unknown split", pretrain("builtin:digits:tset"), "did you mean 'test'?"),
        ("unknown views", pretrain("data.npz", "--views", "simclrx"), "did you mean 'simclr'?"),
        ("a view without another", pretrain("data.npz", "--view-count", "1"), "1 view"),
        ("an unknown preset", pretrain("data.npz", "--preset", "shrt"), "did you mean 'short'?"),
        ("an unknown optimizer", pretrain("data.npz", "--optimizer", "adam"), "did you mean 'adamw'?"),
        ("an unknown setting of a method", pretrain("data.npz", "--options", "temprature=1"), "temprature"),
        ("a setting that is no number", pretrain("data.npz", "--options", "hidden=wide"), "hidden"),
        ("a temperature of zero", pretrain("data.npz", "--options", "temperature=0"), "temperature"),
        ("a setting of another method", pretrain("data.npz", "--method", "byol", "--options", "temperature=1"), "temperature"),
        ("a method file that is not there", pretrain("data.npz", "--method", "mine.py:Mine"), "mine.py"),
        ("a method file without the method", pretrain("data.npz", "--method", "mine.py:Mine"), "mine.py",
         (written("mine.py", "x = 1"),)),
        ("a method file that fails", pretrain("data.npz", "--method", "mine.py:Mine"), "mine.py",
         (written("mine.py", "import nothing_of_that_name"),)),
        ("something else for a method", pretrain("data.npz", "--method", "mine.py:Mine"), "a subclass of",
         (written("mine.py", "Mine = 3"),)),
        ("budgets in patches and FLOPs", pretrain("data.npz", "--patches", "9", "--flops", "1e9"), "patches and flops"),
        ("an unknown backbone", pretrain("data.npz", "--backbone", "resnet19"), "resnet19"),
        ("an unknown option of a backbone", pretrain("data.npz", "--backbone", "vit_tiny", "--backbone-options", "ptch=4"), "did you mean 'patch'?"),
        ("a patch that does not divide", pretrain("data.npz", "--backbone", "vit_tiny", "--backbone-options", "patch=3"), "patch, 3"),
        ("an option of a backbone that has none", pretrain("data.npz", "--backbone-options", "patch=4"), "conv6 has no options"),
        ("an option of a backbone without a value", pretrain("data.npz", "--backbone-options", "patch"), "--backbone-options"),
        ("an unknown precision", pretrain("data.npz", "--precision", "fp8"), "fp8"),
        ("an unknown device", pretrain("data.npz", "--device", "gpu"), "gpu"),
        ("a device without memory", pretrain("data.npz", "--device", "meta"), "meta"),
        ("two budgets", pretrain("data.npz", "--steps", "2", "--epochs", "1"), "steps and epochs"),
        ("three budgets", pretrain("data.npz", "--steps", "2", "--epochs", "1", "--minutes", "1"), "steps and epochs"),
        ("two budgets of a generator", generate("data.npz", "--steps", "2", "--minutes", "1"), "steps and minutes"),
        ("a weight without generated samples", pretrain("data.npz", "--weight", "2"), "weight 2"),
    )
    yield from (Case(*row) for row in table)
    recipes = (
        ("an unknown key in a recipe file", "epoch = 3", "did you mean 'epochs'?"),
        ("an unknown method option", "[method_options]\ntemprature = 1.0", "temprature"),
        ("an unknown option of a ViT", 'backbone = "vit_tiny"\n[backbone_options]\npatches = 4', "did you mean 'patch'?"),
        ("a negative hidden width", "[method_options]\nhidden = -5", "hidden"),
        ("a view group without a scale", "[[views.groups]]\nscale = [1.0]", "scale"),
        ("true for a number", "learning_rate = true", "learning_rate"),
    )
    for name, text, names in recipes:
        yield Case(name, pretrain("data.npz", "--recipe", "my.toml"), names, (written("my.toml", text),))


def outputs() -> Iterator[Case]:
    run, begun = ready("run"), ready("begun")
    long = 300 * "x"
    for place, named in (("data.npz/x", "data.npz"), ("/proc/swell", "/proc"), ("/sys/swell", "/sys"), (long, long[:99])):
        yield Case(f"a run in {place[:12]}", pretrain("data.npz", "--out", place), named)
    for place, named in (("data.npz", "data.npz"), ("/proc/swell", "/proc"), (long, long[:99])):
        yield Case(f"samples in {place[:12]}", generate("data.npz", "--out", place), named)
    for place, named in (("data.npz/z.npz", "data.npz"), ("/sys/z.npz", "/sys"), (long + ".npz", long[:99]), ("d.npz", "d.npz")):
        yield Case(f"features in {place[:12]}", ("embed", "run", "data.npz", "--out", place), named, (run, folder("d.npz")))
    yield Case("a run in a file", pretrain("data.npz", "--out", "data.npz"), "data.npz (a file)")
    yield Case("a demo among other things", ("demo", "--out", "run"), "--out run (not empty)", (run,))
    small = {resource.RLIMIT_FSIZE: 100_000}
    yield Case("a quota of 100 kB for a file", pretrain(), "checkpoint.pt", limits=small)
    yield Case("a batch that no memory holds", pretrain("data.npz", "--batch-size", "9000000"), "9,000,000",
               limits={resource.RLIMIT_AS: 6 << 30})
    yield Case("stdout on a full disk", ("methods", "--json"), "standard output", stdout="/dev/full")
    embed, probe = ("embed", "run", "data.npz", "--out", "disk/z.npz"), ("evaluate", "disk/run", "data.npz", "--no-baselines")
    resume = pretrain("data.npz", "--out", "disk/begun", "--resume")
    full, shut = disk(4000, full=True), disk(4000, read_only=True)
    table: tuple[Row, ...] = (
        ("a run on a full disk", pretrain("data.npz", "--out", "disk/run"), "disk/run", (full,)),
        ("a run on a disk of 300 kB", pretrain("data.npz", "--out", "disk/run"), "disk/run", (disk(300),)),
        ("samples on a full disk", generate("data.npz", "--out", "disk/gen"), "disk/gen", (full,)),
        ("samples on a disk of 2 MB", generate("data.npz", "--out", "disk/gen"), "disk/gen", (disk(2000),)),
        ("features on a full disk", embed, "disk/z.npz", (full, run)),
        ("scores on a full disk", probe, "disk/run", (disk(4000, run, full=True),)),
        ("going on, on a full disk", resume, "disk/begun", (disk(4000, begun, full=True),)),
        ("a demo on a full disk", ("demo", "--out", "disk/demo"), "disk/demo", (full,)),
        ("a run on a read-only disk", pretrain("data.npz", "--out", "disk/run"), "disk/run", (shut,)),
        ("samples on a read-only disk", generate("data.npz", "--out", "disk/gen"), "disk/gen", (shut,)),
        ("features on a read-only disk", embed, "disk/z.npz", (shut, run)),
        ("scores on a read-only disk", probe, "disk/run", (disk(4000, run, read_only=True),)),
        ("going on, on a read-only disk", resume, "disk/begun", (disk(4000, begun, read_only=True),)),
        ("a demo on a read-only disk", ("demo", "--out", "disk/demo"), "disk/demo", (shut,)),
    )
    yield from (Case(*row, mounts=True) for row in table)


def every_case() -> list[Case]:
    """All cases; every tenth as a command of its own."""
    cases = [*folders(), *arrays(), *generated(), *runs(), *numbers(), *words(), *outputs(), *scenes(), *vectors()]
    return [replace(case, command=i % 10 == 0 and not case.limits) for i, case in enumerate(cases)]
