"""The cases of `malformed.py` about the dense probe and fine-tuning: masks beside images, and options of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from malformed_inputs import Build, Case, cut, images, ready, saved, written


def pictures(folder: str, kind: str = "L", side: int = 8, of: int = 6, top: int = 3) -> Build:
    """A folder of `of` PNGs of mode `kind` with values below `top`."""

    def build(at: Path, _: Path) -> None:
        (at / folder).mkdir()
        for i in range(of):
            values = np.random.default_rng(i).integers(0, top, (side, side), np.uint8)
            Image.fromarray(values).convert(kind).save(at / folder / f"{i:03d}.png")

    return build


def scenes() -> Iterator[Case]:
    run, street = ready("run"), pictures("photos", top=256)
    masks = partial(pictures, "masks")
    evaluate, masked = ("evaluate", "run", "data.npz"), ("evaluate", "run", "photos", "--dense", "--masks", "masks")
    bad = "masks/000.png"
    for name, names, builds in (
        ("no masks", "masks (no folder)", ()),
        ("a file for the masks", "masks (no folder)", (written("masks", "x"),)),
        ("a mask that is missing", "1 of 6 masks are missing, the first 005.png", (masks(of=5),)),
        ("masks of another size", "16 x 16 pixels", (masks(side=16),)),
        ("masks in colour", "mode RGB", (masks("RGB"),)),
        ("masks of 16 bits", "16 bits", (masks("I;16"),)),
        ("masks of one class", "the class 0 alone", (masks(top=1),)),
        ("a mask cut short", bad, (masks(), cut(bad))),
        ("a mask without a byte", bad, (masks(), written(bad, ""))),
        ("text for a mask", bad, (masks(), written(bad, "road"))),
        ("a cut image with a mask", "photos/000.png", (masks(), cut("photos/000.png"))),
    ):
        yield Case(name, masked, names, (run, street, *builds))
    both = (run, street, masks())
    one = saved("data.npz", images=images(), same=np.zeros(40, int))
    for name, argv, names, builds in (
        ("masks of an array", (*evaluate, "--dense", "--masks", "masks"), "data.npz (no folder)", both),
        ("masks without the dense probe", ("evaluate", "run", "photos", "--masks", "masks"), "--dense beside it", both),
        ("masks and tiles", (*masked, "--tiles", "2"), "mosaics or masks", both),
        ("masks of one of two sets", (*masked, "--test", "photos"), "--test-masks", both),
        ("test masks without masks", (*evaluate, "--dense", "--test-masks", "masks"), "test masks masks", (run,)),
        ("tiles without the dense probe", (*evaluate, "--tiles", "2"), "tiles 2 without", (run,)),
        ("mosaics of unlabelled images", ("evaluate", "run", "photos", "--dense"), "lie outside", (run, street)),
        ("mosaics of one class", (*evaluate, "--dense", "--labels", "same"), "all 0", (run, one)),
        ("a label fraction alone", (*evaluate, "--label-fraction", "0.5"), "--finetune beside it", (run,)),
        ("fine-tuning epochs alone", (*evaluate, "--finetune-epochs", "2"), "--finetune beside it", (run,)),
        ("fine-tuning on masked images", (*masked, "--finetune"), "without labels", both),
    ):
        yield Case(name, argv, names, builds)
    for option, values in (
        ("--tiles", "0 1 5 2.5 -2"),
        ("--label-fraction", "0 -0.1 1.5 nan"),
        ("--finetune-epochs", "0 -1 nan inf"),
    ):
        for value in values.split():
            argv = (*evaluate, "--dense", "--finetune", option, value)
            yield Case(f"evaluate {option} {value}", argv, option.rpartition("-")[2], (run,))
