"""Arrays, tensors, .npy and .npz: layouts, ranges, labels, and files that are not what they claim to be."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swell.data import open_data
from swell.errors import InputError

RNG = np.random.RandomState(3)
HWC = RNG.randint(0, 256, (5, 6, 7, 3), np.uint8)
CHW = np.ascontiguousarray(HWC.transpose(0, 3, 1, 2))


def test_layouts_come_out_channels_first() -> None:
    for given in (HWC, CHW, np.asfortranarray(HWC), HWC.astype(">i4"), HWC.astype(np.uint64), HWC.astype(np.float64)):
        source = open_data(given)
        np.testing.assert_array_equal(source.samples, CHW)
        assert source.samples.flags.c_contiguous
        assert source.provenance.origin == "array"
        assert source.provenance.kind == "real"
    np.testing.assert_array_equal(open_data(HWC[..., 0]).samples, CHW[:, :1])  # [N, H, W]
    np.testing.assert_array_equal(open_data(HWC[..., :1]).samples, CHW[:, :1])  # [N, H, W, 1]


def test_where_both_layouts_fit_channels_come_first() -> None:
    both = RNG.randint(0, 256, (4, 3, 9, 1), np.uint8)
    assert open_data(both).shape == (3, 9, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_floats_are_scaled_and_rounded(dtype: type) -> None:
    np.testing.assert_array_equal(open_data((CHW / 255).astype(dtype)).samples, CHW)


def test_floats_to_255_are_rounded_and_booleans_are_black_and_white() -> None:
    np.testing.assert_array_equal(open_data(CHW.clip(1, 254) + 0.3).samples, CHW.clip(1, 254))
    np.testing.assert_array_equal(open_data(CHW > 100).samples, (CHW > 100) * 255)


def test_large_arrays_are_converted_in_pieces_without_seams() -> None:
    big = RNG.randint(0, 256, (9001, 1, 2, 2), np.uint8)
    np.testing.assert_array_equal(open_data(big / 255).samples, big)


def test_vectors() -> None:
    rows = RNG.randn(20, 4)
    source = open_data(rows, prepare="none")
    assert source.samples.dtype == np.float32
    np.testing.assert_array_equal(source.samples, rows.astype(np.float32))
    plain = open_data(np.arange(6).reshape(3, 2), prepare="none")
    np.testing.assert_array_equal(plain.samples, [[0, 1], [2, 3], [4, 5]])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 3)), "0 samples"),
        (np.zeros((1, 3)), "1 samples"),
        (np.zeros((4, 0)), "shape"),
        (np.zeros(5), "shape"),
        (np.zeros((2, 2, 2, 2, 2)), "shape"),
        (np.zeros((4, 8, 8, 4), np.uint8), "1 or 3 channels"),
        (np.zeros((32, 32, 3), np.uint8), "one image"),
        (np.full((2, 4, 4), 256), "from 256 to 256"),
        (np.full((2, 4, 4), -1), "from -1 to -1"),
        (np.full((2, 4, 4), -0.5), "from -0.5"),
        (np.full((2, 4, 4), 255.5), "to 255.5"),
        (np.zeros((2, 4), complex), "complex"),
        (np.array([["a", "b"], ["c", "d"]]), "numbers"),
        (np.array([[{}], [{}]], object), "object"),
        (np.zeros((3, 2), "datetime64[s]"), "datetime"),
    ],
)
def test_wrong_arrays_are_told_in_one_line(array: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        open_data(array)
    assert "\n" not in str(told.value)


def test_nan_and_infinity_are_counted_and_placed() -> None:
    rows = np.zeros((5000, 3))
    rows[4200, 1], rows[4300, 2] = np.nan, -np.inf
    with pytest.raises(InputError, match=r"in 2 of 5,000 rows, first row 4200"):
        open_data(rows)
    too_large = np.zeros((3, 2))
    too_large[1] = 1e300  # infinite as float32
    with pytest.raises(InputError, match="in 1 of 3 rows, first row 1"):
        open_data(too_large)
    images = np.zeros((3, 2, 2))
    images[2, 0, 0] = np.nan
    with pytest.raises(InputError, match="first row 2"):
        open_data(images)


def test_size_resizes_images_like_pillow_and_refuses_vectors() -> None:
    made = open_data(HWC, size=3).samples
    for got, image in zip(made, HWC, strict=True):
        whole = Image.fromarray(image)
        expected = whole.resize((3, 3), Image.BICUBIC, box=(0.5, 0, 6.5, 6))
        np.testing.assert_array_equal(got, np.asarray(expected).transpose(2, 0, 1))
    assert open_data(HWC[..., 0], size=12).shape == (1, 12, 12)
    with pytest.raises(InputError, match="vectors"):
        open_data(np.zeros((4, 3)), size=8)


def test_tensors() -> None:
    np.testing.assert_array_equal(open_data(torch.from_numpy(CHW)).samples, CHW)
    grad = torch.tensor(CHW / 255, requires_grad=True)
    np.testing.assert_array_equal(open_data(grad).samples, CHW)
    ones = open_data(torch.ones(3, 2, dtype=torch.bfloat16), prepare="none")
    np.testing.assert_array_equal(ones.samples, np.ones((3, 2)))
    with pytest.raises(InputError, match="sparse"):
        open_data(torch.eye(3).to_sparse())


def test_pair_of_samples_and_labels() -> None:
    y = np.array(["dog", "cat", "dog", "ant", "cat"])
    source = open_data((CHW, y), labels=True)
    assert source.labels is not None
    assert source.labels.tolist() == [2, 1, 2, 0, 1]
    assert source.classes == ["ant", "cat", "dog"]
    assert open_data((CHW, y)).labels is None
    assert open_data((CHW, y.astype(object)), labels=True).classes == ["ant", "cat", "dog"]
    assert open_data((CHW, torch.tensor([5, 5, 7, 5, 7])), labels=True).classes == ["5", "7"]


@pytest.mark.parametrize(
    ("labels", "codes", "classes"),
    [
        (np.array([30, 10, 20, 10, 30], np.int8), [2, 0, 1, 0, 2], ["10", "20", "30"]),
        (np.array([[1], [0], [1], [0], [0]], np.uint64), [1, 0, 1, 0, 0], ["0", "1"]),
        (np.array([2.0, -1.0, 2.0, 2.0, -1.0]), [1, 0, 1, 1, 0], ["-1", "2"]),
        (np.array([True, False, True, True, False]), [1, 0, 1, 1, 0], ["False", "True"]),
        (np.array([b"b", b"a", b"b", b"b", b"b"]), [1, 0, 1, 1, 1], ["a", "b"]),
    ],
)
def test_labels_of_any_type(labels: np.ndarray, codes: list[int], classes: list[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=HWC, label=labels)
    source = open_data(tmp_path / "a.npz", labels=True)
    assert source.labels is not None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == codes
    assert source.classes == classes


@pytest.mark.parametrize(
    "labels", [np.eye(5), np.array([0.5, 1, 2, 3, 4]), np.array([np.nan, 1, 2, 3, 4]), np.arange(4), np.array(1)]
)
def test_wrong_labels(labels: np.ndarray) -> None:
    with pytest.raises(InputError):
        open_data((CHW, labels), labels=True)


def test_npz_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for key in ("images", "image", "x", "X", "data", "samples", "anything"):
        np.savez(path, **{key: HWC, "y": np.arange(5), "kinds": np.arange(5) % 2, "note": np.array("hello")})
        assert open_data(path).labels is None
        source = open_data(path, labels="kinds")
        np.testing.assert_array_equal(source.samples, CHW)
        assert source.classes == ["0", "1"]
        assert len(open_data(path, labels=True).classes) == 5
        assert source.provenance.origin == str(path)
    with pytest.raises(InputError, match="did you mean 'kinds'"):
        open_data(path, labels="kind")
    np.savez(path, p=HWC, q=HWC)
    with pytest.raises(InputError, match="p, q"):
        open_data(path)
    with pytest.raises(InputError, match="no labels"):
        open_data(path, labels=True)
    np.savez(path)
    with pytest.raises(InputError, match="none"):
        open_data(path)


def test_npz_samples_may_be_called_x_and_labels_be_two_dimensional_elsewhere(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", y=np.arange(5)[:, None], features=np.ones((5, 3)))
    assert open_data(tmp_path / "a.npz", labels=True).shape == (3,)


def test_npy_is_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for given in (HWC, CHW):
        np.save(path, given)
        source = open_data(path)
        np.save(path, np.zeros_like(given))  # overwriting the file must not change what was opened
        np.testing.assert_array_equal(source.samples, CHW)
    with pytest.raises(InputError, match="without labels"):
        open_data(path, labels=True)


class Trap:
    """Unpickling this would raise an error that is no InputError."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def object_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Trap(), 1], object), allow_pickle=True)
    return file.getvalue()


def object_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, images=np.array([Trap(), 1], object))
    return file.getvalue()


def whole_npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=RNG.randint(0, 256, (50, 8, 8), np.uint8))
    return file.getvalue()


def whole_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, HWC)
    return file.getvalue()


def pickle_in_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", pickle.dumps(Trap()))
    return file.getvalue()


def huge_header() -> bytes:
    return whole_npy().replace(b"(5, 6, 7, 3), }" + b" " * 10, b"(50000000000, 6, 7, 3), }")


def open_header() -> bytes:
    return whole_npy().replace(b"(5, 6, 7, 3), }", b"(5, 6, 7, 3), (")


def flipped_npz() -> bytes:
    content = bytearray(whole_npz())
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"PK\x03\x04", b"hello, this is text", pickle.dumps(Trap()), object_npy(), object_npz(),
     pickle_in_zip(), whole_npz()[:-30], whole_npz()[:200], whole_npy()[:-1], whole_npy()[:50], huge_header(),
     open_header(), flipped_npz()],
    ids=["empty", "magic", "zip-magic", "text", "pickle", "object-npy", "object-npz", "pickle-in-zip", "cut-npz",
         "short-npz", "cut-npy", "cut-header", "huge-header", "open-header", "flipped-npz"],
)  # fmt: skip
def test_malformed_files_are_one_input_error(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as told:
        open_data(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    if b"exec" in content:
        words = ("never loads", "name it", "is not an array")
        assert any(word in str(told.value) for word in words)
