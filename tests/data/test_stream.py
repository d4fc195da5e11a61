"""Samples in parts: the same as opened as a whole, one part at a time, whatever the file."""

import tarfile
import time

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csc_array, csr_array

from swell.data import stream as streams
from swell.data.gen import write_gen, write_shards
from swell.data.open import open_data
from swell.data.preparation import Preparation
from swell.data.source import Provenance
from swell.data.stream import Share, ahead, of_source, stream_of
from swell.errors import InputError


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 8 samples, where they would be thousands."""
    monkeypatch.setattr(streams, "ROWS", 8)
    monkeypatch.setattr(streams, "BYTES", 1)


def whole(stream):
    """All samples, ids and paths; every part but the last has the full length."""
    parts = list(stream.parts)
    assert [len(p.samples) for p in parts[:-1]] == [8] * (len(parts) - 1)
    paths = [path for p in parts for path in p.paths]
    return np.concatenate([p.samples for p in parts]), np.concatenate([p.ids for p in parts]).tolist(), paths


@pytest.fixture
def folder(tmp_path):
    """Thirty colour pictures of several sizes, one of them grey, two of them no pictures."""
    rng = np.random.default_rng(0)
    for i in range(30):
        shape = (12 + i % 3, 12) if i == 5 else (12 + i % 3, 12, 3)
        path = tmp_path / "images" / f"{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    for i in (7, 20):
        (tmp_path / "images" / f"{i % 2}" / f"{i:02d}.png").write_bytes(b"no picture")
    return tmp_path / "images"


def test_a_folder_from_its_files_and_from_the_cache(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))
    straight = whole(stream_of(folder, (3, 8, 8), max_bad=0.1))
    assert not (tmp_path / "cache").exists()  # nothing is kept
    assert "2 of 30 files left out, the first 0/20.png" in capsys.readouterr().err
    time.sleep(0.06)  # older than a tick of the clock: the listing may be trusted
    source = open_data(folder, size=8, max_bad=0.1, quiet=True)
    np.testing.assert_array_equal(straight[0], source.samples)
    monkeypatch.setattr(streams, "decode_files", None)  # from now on there is no decoding
    cached = whole(stream_of(folder, (3, 8, 8), max_bad=0.1))
    np.testing.assert_array_equal(cached[0], source.samples)
    assert cached[1:] == straight[1:]
    ids, paths = straight[1:]
    assert len(ids) == 28
    assert paths == sorted(paths)
    assert paths[:2] == ["0/00.png", "0/02.png"]
    assert [i for i in range(30) if i not in ids] == [10, 18]  # places in the sorted listing


def test_too_many_unreadable_files_are_refused(folder):
    with pytest.raises(InputError, match="of 30 images are unreadable"):
        list(stream_of(folder, (3, 8, 8), max_bad=0.01).parts)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        stream_of(folder / "empty", (3, 8, 8))


def test_colour_is_refused_where_the_encoder_saw_grey_and_grey_is_made_colour(folder, tmp_path):
    with pytest.raises(InputError, match=r"in colour: samples of shape \[3, 8, 8\]"):
        list(stream_of(folder, (1, 8, 8), max_bad=0.1).parts)
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "one.png")
    (tmp_path / "grey").mkdir()
    (tmp_path / "one.png").rename(tmp_path / "grey" / "one.png")
    assert whole(stream_of(tmp_path / "grey", (1, 8, 8)))[0].shape == (1, 1, 8, 8)
    assert (whole(stream_of(tmp_path / "grey", (3, 8, 8)))[0] == 9).all()


@pytest.mark.parametrize(
    "a",
    [
        np.arange(20 * 64, dtype=np.uint8).reshape(20, 1, 8, 8),
        np.arange(20 * 192).reshape(20, 8, 8, 3) % 256,
        np.linspace(0, 1, 20 * 64).reshape(20, 8, 8),  # its first part alone looks as if it were dark
        np.linspace(0, 255, 20 * 64, dtype=np.float32).reshape(20, 8, 8),
        np.asfortranarray(np.arange(20 * 100, dtype=np.uint8).reshape(20, 10, 10)),
        np.arange(20 * 64).reshape(20, 8, 8) % 2 == 0,
    ],
    ids=["uint8", "last", "unit", "floats", "fortran", "bool"],
)
def test_images_of_an_array_file(a, tmp_path):
    np.save(tmp_path / "a.npy", a)
    shape = (3 if a.shape[-1] == 3 else 1, 8, 8)
    samples, ids, _ = whole(stream_of(tmp_path / "a.npy", shape))
    np.testing.assert_array_equal(samples, open_data(tmp_path / "a.npy", size=8).samples)
    assert ids == list(range(20))


def test_vectors_of_an_array_file_are_prepared_in_parts(tmp_path):
    x = np.random.default_rng(0).normal([5, 0, -3], [1, 9, 0.1], (21, 3))
    np.save(tmp_path / "x.npy", x)
    learnt = Preparation.fit(x.astype(np.float32), kind="table")
    samples, _, _ = whole(stream_of(tmp_path / "x.npy", (3,), learnt))
    np.testing.assert_array_equal(samples, open_data(tmp_path / "x.npy", preparation=learnt).samples)
    plain, _, _ = whole(stream_of(tmp_path / "x.npy", (3,)))
    np.testing.assert_array_equal(plain, x.astype(np.float32))
    with pytest.raises(InputError, match=r"x\.npy: vectors of 3 features"):
        list(stream_of(tmp_path / "x.npy", (2,), Preparation.fit(x[:, :2].astype(np.float32), kind="table")).parts)


def test_only_all_parts_together_tell_counts_from_logged_values(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (24, 6)).astype(np.float32)
    logs = np.log1p(counts)
    logs[8:16] = 0  # a part of empty cells, whole numbers all of them
    of_logs, of_counts = (Preparation.fit(csr_array(a), kind=k) for a, k in ((logs, "logged"), (counts, "counts")))
    np.save(tmp_path / "logs.npy", logs)
    np.save(tmp_path / "counts.npy", counts)
    samples, _, _ = whole(stream_of(tmp_path / "logs.npy", (6,), of_logs))
    np.testing.assert_array_equal(samples, of_logs.apply(logs))
    for file, learnt in (("counts", of_logs), ("logs", of_counts)):
        with pytest.raises(InputError, match="as in pre-training"):
            whole(stream_of(tmp_path / f"{file}.npy", (6,), learnt))


def test_generated_shards(tmp_path, monkeypatch):
    from swell.data import gen

    monkeypatch.setattr(gen, "write_shards", lambda folder, samples: write_shards(folder, samples, 7))
    samples = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), np.uint8)
    write_gen(tmp_path / "gen", samples, Provenance("generated", "array", generator="vae"))
    assert len(list((tmp_path / "gen").glob("shard-*"))) == 5
    found, ids, _ = whole(stream_of(tmp_path / "gen", (1, 8, 8)))
    np.testing.assert_array_equal(found, samples)
    assert ids == list(range(30))
    (tmp_path / "gen" / "shard-00003.npz").write_bytes(b"x")
    parts = stream_of(tmp_path / "gen", (1, 8, 8)).parts
    next(parts)
    with pytest.raises(InputError, match="shard-00003"):
        list(parts)
    with pytest.raises(InputError, match=r"samples of shape \[1, 8, 8\]"):
        stream_of(tmp_path / "gen", (4,))


def test_what_is_opened_as_a_whole():
    assert stream_of(np.zeros((4, 2)), (2,)) is None
    assert stream_of("builtin:digits", (1, 8, 8)) is None
    source = open_data("builtin:digits:test")
    samples, ids, _ = whole(of_source(source))
    np.testing.assert_array_equal(samples, source.samples)
    assert ids == list(range(540))


def test_the_next_part_is_made_ahead_and_its_errors_come_in_their_turn():
    def parts():
        yield 1
        yield 2
        raise InputError("the third", "another")

    seen = []
    with pytest.raises(InputError, match="the third"):
        seen.extend(ahead(parts()))
    assert seen == [1, 2]


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_cells_of_a_file(kind, tmp_path, monkeypatch):
    anndata = pytest.importorskip("anndata", reason="needs the extra omics")
    monkeypatch.setattr(streams, "CELLS", 8)
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (30, 12)).astype(np.float32)
    counts[9] = 0
    stored = {"csr": csr_array, "csc": csc_array, "dense": np.asarray}[kind](counts)
    adata = anndata.AnnData(np.zeros((30, 12), np.float32), layers={"counts": stored})
    adata.obs["batch"] = np.array(["a", "b", "c"])[rng.integers(0, 3, 30)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    source = open_data(tmp_path / "cells.h5ad", layer="counts", batch_key="batch")
    stream = stream_of(tmp_path / "cells.h5ad", source.shape, source.preparation)
    if kind == "csc":
        assert stream is None  # no rows to read apart
        return
    samples = np.concatenate([p.samples[:] for p in stream.parts])
    np.testing.assert_array_equal(samples, source.samples[:])
    adata.layers.pop("counts")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"cells\.h5ad: no layer 'counts'"):
        stream_of(tmp_path / "cells.h5ad", source.shape, source.preparation)


# ---- shares ----------------------------------------------------------------------------------------------


def in_turn(make, count):
    """The parts of `count` shares, taken in turn as processes would: samples, ids and paths; how many each decoded."""
    shares = [list(make(Share(rank, count)).parts) for rank in range(count)]
    parts = [shares[i % count][i // count] for i in range(sum(map(len, shares)))]
    paths = [path for p in parts for path in p.paths]
    return np.concatenate([p.samples for p in parts]), np.concatenate([p.ids for p in parts]).tolist(), paths


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_in_turn_are_the_whole(folder, tmp_path, monkeypatch, count):
    monkeypatch.setenv("SWELL_CACHE", str(tmp_path / "cache"))
    names = sorted(path for path in folder.rglob("*.png"))
    for path in names[8:16]:
        path.write_bytes(b"no picture either")  # a whole window of files
    images = np.random.default_rng(0).integers(0, 256, (41, 3, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    x = np.random.default_rng(0).normal(size=(37, 3))
    np.save(tmp_path / "x.npy", x)
    learnt = Preparation.fit(x.astype(np.float32), kind="table")
    write_tar(tmp_path / "images.tar", names)
    made = {
        "files": lambda share: stream_of(folder, (3, 8, 8), max_bad=0.5, share=share),
        "shards": lambda share: stream_of(tmp_path / "images.tar", (3, 8, 8), max_bad=0.5, share=share),
        "array": lambda share: stream_of(tmp_path / "images.npy", (3, 8, 8), share=share),
        "vectors": lambda share: stream_of(tmp_path / "x.npy", (3,), learnt, share=share),
        "source": lambda share: of_source(open_data(images), share),
    }
    for name, make in made.items():
        samples, ids, paths = in_turn(make, count)
        expected = whole(make(Share()))
        np.testing.assert_array_equal(samples, expected[0], err_msg=name)
        assert (ids, paths) == expected[1:], name
    time.sleep(0.06)
    open_data(folder, size=8, max_bad=0.5, quiet=True)
    monkeypatch.setattr(streams, "decode_files", None)  # from the cache
    assert in_turn(made["files"], count)[1:] == whole(made["files"](Share()))[1:]


def test_images_of_other_shares_are_not_decoded(folder, monkeypatch):
    decoded = []
    original = streams.decode_files
    monkeypatch.setattr(
        streams, "decode_files", lambda root, files, *more: (decoded.extend(files), original(root, files, *more))[1]
    )
    for rank in range(2):
        list(stream_of(folder, (3, 8, 8), max_bad=0.5, share=Share(rank, 2)).parts)
    assert len(decoded) == len(set(decoded)) == 30


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for file in files:
            archive.add(file, file.relative_to(file.parents[1]).as_posix())
