"""Built-in sets: digits with its fixed split, Fashion-MNIST from idx files."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from swell.data import open_data
from swell.data.builtin import BUILTINS, digits_rows
from swell.errors import InputError


def test_digits_are_scikit_learns_scaled() -> None:
    raw = load_digits()
    source = open_data("builtin:digits:all", labels=True)
    assert source.samples.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(source.samples[:, 0], np.floor(raw.images * 255 / 16 + 0.5))
    np.testing.assert_array_equal(source.labels, raw.target)
    assert source.classes == list("0123456789")
    assert source.provenance.origin == "builtin:digits:all"


def test_digits_split_is_stratified_and_complete() -> None:
    train, test = (open_data(f"builtin:digits:{split}", labels=True) for split in ("train", "test"))
    assert (len(train), len(test)) == (1257, 540)
    labels = load_digits().target
    rows = [digits_rows(labels, split) for split in ("train", "test")]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(1797))
    assert train.labels is not None
    assert test.labels is not None
    share = np.bincount(test.labels) / np.bincount(labels)
    assert np.abs(share - 540 / 1797).max() < 1 / 170  # within one row of each class


def test_digits_split_never_changes() -> None:
    rows = digits_rows(load_digits().target, "test")
    digest = hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest()
    assert digest == "31c4a09bf1d9716cf22d981bbed33d233daa0c17bed475f9cb5336ab120efb48"


def test_bare_name_is_train_without_labels() -> None:
    source = open_data("builtin:digits")
    assert len(source) == 1257
    assert source.labels is None
    assert source.classes == ()
    assert open_data("builtin:digits", size=16).shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("builtin:digit", "did you mean 'digits'"),
        ("builtin:digits:tset", "did you mean 'test'"),
        ("builtin:", "fashion"),
    ],
)
def test_unknown_names_come_with_a_suggestion(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_data(name)


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes())


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny set in the files of the Debian package: train images are 10, 11, ...; test images 200, 201, ..."""
    for part, first, n in (("train", 10, 6), ("t10k", 200, 4)):
        images = np.arange(first, first + n, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    monkeypatch.setenv("SWELL_FASHION_MNIST", str(tmp_path))
    return tmp_path


def test_fashion_mnist_splits(fashion: Path) -> None:
    for split, first in (("", [10, 11, 12, 13, 14, 15]), (":test", [200, 201, 202, 203]),
                         (":all", [10, 11, 12, 13, 14, 15, 200, 201, 202, 203])):  # fmt: skip
        source = open_data(f"builtin:fashion-mnist{split}", labels=True)
        assert source.shape == (1, 28, 28)
        assert source.samples[:, 0, 27, 3].tolist() == first
        assert source.classes[9] == "Ankle boot"
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_absent_or_damaged_fashion_mnist_says_what_to_install(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = fashion / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    flat = idx(np.zeros((2, 2), np.uint8))
    for damaged in (whole[:-20], b"", b"text", flat, gzip.compress(gzip.decompress(whole)[:-9])):
        images.write_bytes(damaged)
        with pytest.raises(InputError, match="apt reinstall dataset-fashion-mnist"):
            open_data("builtin:fashion-mnist")
    monkeypatch.setenv("SWELL_FASHION_MNIST", str(fashion / "nowhere"))
    with pytest.raises(InputError, match="sudo apt install dataset-fashion-mnist"):
        open_data("builtin:fashion-mnist")


def test_real_fashion_mnist() -> None:
    if not Path(os.environ.get("SWELL_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")).is_dir():
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    source = open_data("builtin:fashion-mnist:test", labels=True)
    assert source.samples.shape == (10000, 1, 28, 28)
    assert np.bincount(source.labels).tolist() == [1000] * 10


def test_every_builtin_is_described() -> None:
    assert set(BUILTINS) == {"digits", "fashion-mnist"}
    assert all(BUILTINS.values())
