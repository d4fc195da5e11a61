"""Real data already on the machine: ``builtin:NAME[:SPLIT]`` with SPLIT train (the default), test or all."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from swell.data.source import Provenance, Source
from swell.errors import InputError, suggest

__all__ = ["BUILTINS", "open_builtin"]

BUILTINS: dict[str, str] = {
    "digits": "handwritten digits of scikit-learn, grey 8x8, 10 classes, 1,257 train + 540 test",
    "fashion-mnist": "clothes (apt install dataset-fashion-mnist), grey 28x28, 10 classes, 60,000 + 10,000",
}
_SPLITS = ("train", "test", "all")
_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]  # fmt: skip
_FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"


def open_builtin(name: str) -> Source:
    """The labelled source behind ``builtin:NAME[:SPLIT]``.

    Raises:
        InputError: unknown name or split, or data that are not installed (with the line that installs them).
    """
    _, _, rest = name.partition(":")
    which, _, split = rest.partition(":")
    split = split or "train"
    if which not in BUILTINS:
        raise InputError(f"builtin {which!r}", "a known built-in set", suggest(which, BUILTINS))
    if split not in _SPLITS:
        raise InputError(f"split {split!r} of {which}", "train, test or all", suggest(split, _SPLITS))
    samples, labels, classes = _digits(split) if which == "digits" else _fashion(split)
    return Source(samples, Provenance("real", f"builtin:{which}:{split}"), labels, classes)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """1,797 digits 8x8 with levels 0..16, scaled to 0..255."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    samples = np.rint(raw.images[:, None] * (255 / 16)).astype(np.uint8)  # [N, 1, 8, 8]
    labels = raw.target.astype(np.int64)
    if split != "all":
        rows = digits_rows(labels, split)
        samples, labels = samples[rows], labels[rows]
    return samples, labels, [str(k) for k in range(10)]


def digits_rows(labels: np.ndarray, split: str) -> np.ndarray:
    """Rows of the official train (1,257) or test (540) split, ascending: stratified 70/30, fixed for ever.

    Each class gives its share of the 540 test rows, rounded down; the rows still missing come from the
    classes with the largest remainders. Which rows: RandomState(0), whose stream NumPy's own policy freezes.
    """
    rng = np.random.RandomState(0)
    share = np.bincount(labels) * 540 / 1797  # test rows of each class, before rounding
    n_test = np.floor(share).astype(int)
    n_test[np.argsort(n_test - share, kind="stable")[: 540 - n_test.sum()]] += 1
    test = np.concatenate([rng.permutation(np.flatnonzero(labels == k))[: n_test[k]] for k in range(len(n_test))])
    return np.setdiff1d(np.arange(len(labels)), test) if split == "train" else np.sort(test)


def _fashion(split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    folder = Path(os.environ.get("SWELL_FASHION_MNIST", _FASHION_FOLDER))
    parts = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}[split]
    images = np.concatenate([_idx(folder / f"{part}-images-idx3-ubyte.gz", 3) for part in parts])
    labels = np.concatenate([_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1) for part in parts])
    return images[:, None], labels.astype(np.int64), _CLOTHES


def _idx(path: Path, ndim: int) -> np.ndarray:
    """A gzipped idx file: two zero bytes, 8 (for bytes), number of axes, their big-endian lengths, values."""
    try:
        with gzip.open(path) as file:
            raw = file.read()
        zeros, kind, axes = struct.unpack_from(">HBB", raw)
        shape = struct.unpack_from(f">{ndim}I", raw, 4)
        if (zeros, kind, axes) != (0, 8, ndim):
            raise ValueError("not an idx file of bytes")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there",
            "Fashion-MNIST on this machine",
            "sudo apt install dataset-fashion-mnist, or set SWELL_FASHION_MNIST to its folder",
        ) from None
    except (OSError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise InputError(
            f"{path} ({error})", "a whole gzipped idx file", "sudo apt reinstall dataset-fashion-mnist"
        ) from None
