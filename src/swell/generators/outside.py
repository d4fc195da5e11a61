"""Samples of a generator outside Swell: a folder of images or an array file, and what its owner says of their origin.

A folder of pictures does not tell whether labels helped to make it, and a comparison that is blind to it is worth
nothing. So the answers are asked for, and they travel with the samples as their provenance.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from swell.console import warn
from swell.data.arrays import LABEL_KEYS
from swell.data.gen import is_gen
from swell.data.open import open_data
from swell.data.source import Provenance, Source
from swell.errors import InputError

if TYPE_CHECKING:
    from swell.data.preparation import Preparation

__all__ = ["asked_provenance", "open_outside", "refuse_label_leak"]

ChannelOrder = Literal["rgb", "bgr"]


def open_outside(
    path: Path | str,
    *,
    shape: tuple[int, ...],
    size: int | None = None,
    trained_on: str | None = None,
    labels_used: bool | None = None,
    filtered: bool | None = None,
    conditional: bool | None = None,
    channel_order: ChannelOrder = "rgb",
    allow_label_leak: bool = False,
    quiet: bool = False,
    preparation: Preparation | None = None,
) -> Source:
    """Open generated samples that Swell did not make, as a source that says where they come from.

    A folder made by `swell generate` keeps its own provenance: there the answers are not needed, and can only add that
    labels or filters were used, never take it back.

    Args:
        path: a folder of images, .npz or .npy, or a folder made by `swell generate`.
        shape: of one real sample, (C, H, W) or (D,), which these must have too.
        size: side that images are resized to on the way in; None keeps them as they are.
        trained_on, labels_used, filtered, conditional: see `asked_provenance`.
        channel_order: of the stored images; bgr is turned into RGB, which the provenance then says.
        allow_label_leak: accept samples that were made with labels.
        quiet: no progress and no warnings.
        preparation: that of the real samples, if they are vectors.

    Raises:
        InputError: answers that are missing, samples made with labels, another shape, anything that cannot be opened.
    """
    if channel_order not in ("rgb", "bgr"):
        raise InputError(f"--channel-order {channel_order}", "rgb or bgr")
    path = Path(path).expanduser()
    if is_gen(path):
        source = open_data(path, size=size, quiet=quiet)
        provenance = _tainted(source.provenance, labels_used, filtered, conditional)
    else:
        provenance = asked_provenance(str(path), "outside", trained_on, labels_used, filtered, conditional)
        refuse_label_leak(provenance, allow_label_leak)  # before a million images are decoded
        source = open_data(path, size=size, quiet=quiet, prepare="none", preparation=preparation)
        if not provenance.labels_used and not quiet and (key := _label_key(path)):
            warn(f"{path} holds labels (array {key!r}): a generator that gives labels has usually learnt from labels")
    refuse_label_leak(provenance, allow_label_leak)
    _require_shape(source, shape)
    if channel_order == "bgr":
        source, provenance = _as_rgb(source), replace(provenance, channel_order="RGB (read as BGR)")
    return replace(source, provenance=provenance, labels=None, classes=())


def asked_provenance(
    origin: str,
    generator: str,
    trained_on: str | None,
    labels_used: bool | None,
    filtered: bool | None,
    conditional: bool | None = None,
) -> Provenance:
    """The provenance of generated samples from the answers of the person who has them.

    Args:
        origin: where the samples or the generator lie.
        trained_on: the data the generator learnt from, in words.
        labels_used: whether it saw labels, or a supervised model chose among its samples.
        filtered: whether anything chose among its samples.
        conditional: whether it was told what to draw; None takes the cautious guess, the answer to `labels_used`.

    Raises:
        InputError: all answers that are missing, with the options that give them.
    """
    questions = {
        "what it was trained on": ("--trained-on TEXT", not (trained_on or "").strip()),
        "whether labels or a supervised model helped": ("--labels-used yes|no", labels_used is None),
        "whether its samples were filtered": ("--filtered yes|no", filtered is None),
    }
    missing = {question: option for question, (option, unanswered) in questions.items() if unanswered}
    if missing:
        raise InputError(
            f"{origin} (a generator from outside, its origin unknown)",
            "to be told " + ", ".join(missing),
            "give " + " ".join(missing.values()),
        )
    return Provenance(
        "generated",
        origin,
        generator,
        (trained_on or "").strip(),
        conditional=bool(labels_used) if conditional is None else conditional,
        filtered=bool(filtered),
        labels_used=bool(labels_used),
    )


def refuse_label_leak(provenance: Provenance, allow_label_leak: bool) -> None:
    """Raises InputError for samples made with labels, unless the user insists."""
    if provenance.labels_used and not allow_label_leak:
        raise InputError(
            f"{provenance.origin} (made with labels)",
            "samples made without labels",
            "give --allow-label-leak to use them all the same; the report will say so",
        )


def _tainted(own: Provenance, labels_used: bool | None, filtered: bool | None, conditional: bool | None) -> Provenance:
    return replace(
        own,
        labels_used=own.labels_used or bool(labels_used),
        filtered=own.filtered or bool(filtered),
        conditional=own.conditional or bool(conditional),
    )


def _label_key(path: Path) -> str:
    """The array of labels in an .npz that has one, else an empty string."""
    if path.suffix.lower() != ".npz":
        return ""
    with np.load(path, allow_pickle=False) as archive:  # reads the names only
        return next((key for key in LABEL_KEYS if key in archive.files), "")


def _require_shape(source: Source, shape: tuple[int, ...]) -> None:
    if source.shape == tuple(shape):
        return
    todo = "generate samples of that shape"
    if source.is_images and len(shape) == 3 and source.shape[0] == shape[0] and shape[1] == shape[2]:
        todo = f"give --size {shape[1]}"
    elif source.is_images and len(shape) == 3 and source.shape[0] != shape[0]:
        todo = "save both in grey, or both in colour"
    raise InputError(
        f"{source.provenance.origin}: samples {list(source.shape)}", f"{list(shape)}, as the real ones", todo
    )


def _as_rgb(source: Source) -> Source:
    if not source.is_images or source.shape[0] != 3:
        given = f"--channel-order bgr for samples {list(source.shape)}"
        raise InputError(given, "images with three channels", "leave it out")
    return replace(source, samples=np.ascontiguousarray(source.samples[:, ::-1]))
