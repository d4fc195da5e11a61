"""Features in files: the same as in memory, in every format, whole or not at all, with what a reader needs beside them."""

import numpy as np
import pytest
import torch
from PIL import Image

from swell.data import stream as streams
from swell.data.preparation import Preparation
from swell.errors import InputError
from swell.exporting.embeddings import write_embeddings


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "images" / f"{i:02d}é.png")
    return tmp_path / "images"


def test_npz_of_a_folder(resnet, folder, tmp_path, monkeypatch):
    expected = resnet.encode(folder)
    monkeypatch.setattr(streams, "ROWS", 8)
    monkeypatch.setattr(streams, "BYTES", 1)
    done = write_embeddings(resnet, folder, tmp_path / "z.npz", quiet=True)
    assert (done.shape, done.left_out) == ((20, 64), 0)
    assert 0 < done.forward_seconds <= done.seconds
    assert done.rate == pytest.approx(20 / done.seconds)
    assert set(done.to_dict()) == {"shape", "left_out", "seconds", "samples_per_second", "forward_share"}
    with np.load(tmp_path / "z.npz") as stored:
        np.testing.assert_allclose(stored["features"], expected, rtol=1e-5, atol=1e-6)
        assert stored["features"].dtype == np.float32
        assert stored["id"].tolist() == list(range(20))
        assert stored["path"].tolist() == [f"{i:02d}é.png" for i in range(20)]
    first = (tmp_path / "z.npz").read_bytes()
    write_embeddings(resnet, folder, tmp_path / "z.npz", quiet=True)
    assert (tmp_path / "z.npz").read_bytes() == first


def test_files_left_out_leave_a_gap_in_the_ids(resnet, folder, tmp_path):
    for i in range(20, 400):
        Image.new("RGB", (32, 32)).save(folder / f"{i}.png")
    (folder / "05é.png").write_bytes(b"damaged")
    done = write_embeddings(resnet, folder, tmp_path / "z.npz", quiet=True)
    assert (done.shape, done.left_out) == ((399, 64), 1)
    with np.load(tmp_path / "z.npz") as stored:
        assert 5 not in stored["id"]
        assert len(stored["id"]) == len(stored["path"]) == 399


def test_parquet_holds_id_path_and_vector(resnet, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    write_embeddings(resnet, folder, tmp_path / "z.parquet", quiet=True)
    table = parquet.read_table(tmp_path / "z.parquet")
    assert table.column_names == ["id", "path", "vector"]
    assert table["path"].to_pylist()[3] == "03é.png"
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), resnet.encode(folder))
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    write_embeddings(resnet, images, tmp_path / "z.parquet", quiet=True)
    assert parquet.read_table(tmp_path / "z.parquet")["path"].to_pylist() == [""] * 4


def test_random_patches_in_parts_are_those_of_the_whole(resnet, tmp_path, monkeypatch):
    from swell.evaluation.bag import bag_of_features

    images = np.random.default_rng(0).integers(0, 256, (1030, 3, 32, 32), np.uint8)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setattr(streams, "BYTES", 1)  # parts of 512
    drawn = resnet.encode(tmp_path / "images.npy", 1, "random", seed=3)
    with torch.no_grad():
        expected = bag_of_features(resnet.encoder, images, 1, "random", resnet.patch, 3)
    np.testing.assert_array_equal(drawn, expected)


def test_nothing_is_left_behind_where_data_do_not_fit(resnet, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 3, 16, 20), np.float32) + np.linspace(0, 400, 9)[:, None, None, None])
    for data, says in ((tmp_path / "x.npy", "0 to 400"), (np.zeros((4, 5)), "size 32 for vectors")):
        with pytest.raises(InputError, match=says):
            write_embeddings(resnet, data, tmp_path / "z.npz", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_cells_keep_all_else_of_their_file(make, tmp_path):
    anndata = pytest.importorskip("anndata", reason="needs the extra omics")
    counts = np.random.default_rng(0).poisson(1.0, (50, 10)).astype(np.float32)
    adata = anndata.AnnData(counts, obsm={"X_pca": counts[:, :2], "X_swell": counts})
    adata.write_h5ad(tmp_path / "cells.h5ad")
    learnt = Preparation.fit(counts, [str(i) for i in range(10)], "counts")
    model = make("mlp", (len(learnt.features),), preparation=learnt)
    write_embeddings(model, tmp_path / "cells.h5ad", tmp_path / "out.h5ad", quiet=True)
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(out.obsm["X_swell"], model.encode(tmp_path / "cells.h5ad"))
    np.testing.assert_array_equal(out.obsm["X_pca"], counts[:, :2])
    assert out.uns["swell"]["method"] == "simclr"
