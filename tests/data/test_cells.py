"""Cells: what anndata wrote is read as it is, dense or sparse; layers, raw, batches, labels; and damage is one line."""

from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra omics")
anndata = pytest.importorskip("anndata", reason="needs the extra omics")
pandas = pytest.importorskip("pandas", reason="comes with anndata")
from scipy.sparse import coo_matrix, csc_matrix, csr_array, csr_matrix  # noqa: E402

from swell.data import open_data  # noqa: E402
from swell.data.cells import canonical, open_anndata, open_h5ad, write_h5ad  # noqa: E402
from swell.data.sparse import SparseRows  # noqa: E402
from swell.errors import InputError  # noqa: E402

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def cells(n=40, d=12, seed=0, kind=csr_matrix):
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.5, (n, d)).astype(np.float32)
    made = anndata.AnnData(kind(x))
    made.var_names = [f"g{j}" for j in range(d)]
    made.obs["label"] = pandas.Categorical(np.array(["T", "B", "NK"])[np.arange(n) % 3])
    made.obs["donor"] = np.array(["one", "two"])[np.arange(n) % 2]
    made.obs["age"] = np.arange(n) % 5
    made.layers["counts"] = kind(x + 1)
    made.uns["kept"] = {"a": 1}
    made.obsm["X_pca"] = rng.normal(size=(n, 3))
    return made


@pytest.fixture
def path(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_a_file_is_what_anndata_wrote(kind, tmp_path):
    made = cells(kind=kind)
    made.raw = made[:, :7].copy()
    made.write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    for layer, expected in (("", made.X), ("counts", made.layers["counts"]), ("raw", made.raw.X)):
        full = np.asarray(expected.todense() if hasattr(expected, "todense") else expected)
        for raw in (
            open_h5ad(tmp_path / "x.h5ad", "label", layer, "donor"),
            open_anndata(made, "label", layer, "donor"),
        ):
            values = raw.values if isinstance(raw.values, np.ndarray) else raw.values.toarray()
            np.testing.assert_array_equal(values, full)
            assert isinstance(raw.values, np.ndarray) == (kind is np.asarray)
            assert raw.names == tuple(f"g{j}" for j in range(full.shape[1]))
            assert raw.kind == "counts"
            assert raw.labels.tolist() == made.obs["label"].tolist()
            assert raw.batches.tolist() == made.obs["donor"].tolist()


def test_file_object_dense_and_sparse_end_in_the_same_bits(path):
    sparse, dense = cells(), cells(kind=np.asarray)
    sources = [open_data(data, labels="label") for data in (path, str(path), sparse, dense)]
    assert len({s.fingerprint for s in sources}) == 1
    assert [isinstance(s.samples, SparseRows) for s in sources] == [True, True, True, False]
    assert {s.preparation.fingerprint for s in sources} == {sources[0].preparation.fingerprint}
    assert sources[0].classes == ["B", "NK", "T"]
    assert open_data(path).labels is None
    assert open_data(path, labels=True).labels.tolist() == sources[0].labels.tolist()
    assert open_data(path, labels="age").classes == ["0", "1", "2", "3", "4"]


def test_highly_variable_genes_and_batches_are_honoured(tmp_path):
    made = cells()
    made.var["highly_variable"] = np.arange(12) % 3 == 0
    made.write_h5ad(tmp_path / "x.h5ad")
    for data in (made, tmp_path / "x.h5ad"):
        source = open_data(data, layer="counts", batch_key="donor")
        assert source.preparation.features == ("g0", "g3", "g6", "g9")
        assert (source.preparation.layer, source.preparation.batch) == ("counts", "donor")
        for batch in ("one", "two"):
            rows = source.samples[(made.obs["donor"] == batch).to_numpy()]
            np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
        again = open_data(data, preparation=source.preparation)  # the layer and the batch are known by then
        assert again.fingerprint == source.fingerprint
    made.var["highly_variable"] = False  # nobody chose any
    assert open_data(made).shape == (12,)


def test_scaled_values_stay_as_they_are():
    made = cells(kind=np.asarray)
    made.X = (made.X - made.X.mean(0)) / made.X.std(0)
    source = open_data(made)
    assert source.preparation.kind == "none"
    np.testing.assert_array_equal(source.samples, made.X.astype(np.float32))


def test_columns_of_every_kind(tmp_path):
    made = cells()
    made.obs["score"] = pandas.array(np.arange(40) % 2, dtype="Int64")
    made.obs["flag"] = np.arange(40) % 2 == 0
    made.write_h5ad(tmp_path / "x.h5ad")
    for key, classes in (("score", ["0", "1"]), ("flag", ["False", "True"]), ("donor", ["one", "two"])):
        for data in (made, tmp_path / "x.h5ad"):
            assert open_data(data, labels=key).classes == classes
    made.obs["label"] = made.obs["label"].where(np.arange(40) > 1)
    made.obs["score"] = made.obs["score"].where(np.arange(40) > 1)
    made.write_h5ad(tmp_path / "x.h5ad")
    for key in ("label", "score"):
        for data in (made, tmp_path / "x.h5ad"):
            with pytest.raises(InputError, match="2 cells without a value"):
                open_data(data, labels=key)


@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix, coo_matrix, csr_array])
def test_matrices_of_scipy(kind):
    x = np.random.default_rng(0).poisson(1.0, (30, 8))
    source, pair = open_data(kind(x)), open_data((kind(x), np.arange(30) % 2), labels=True)
    assert source.preparation.kind == "counts"
    assert source.fingerprint == pair.fingerprint == open_data(csr_matrix(x)).fingerprint
    assert pair.labels.sum() == 15
    twice = coo_matrix((np.ones(4), ([0, 0, 1, 2], [1, 1, 0, 2])), shape=(3, 3))  # a place that is given twice
    assert canonical(twice, "x").toarray().tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 1]]


def edited(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(file, name, value):
    attributes = dict(file[name].attrs) if name in file else {}
    if name in file:
        del file[name]
    file[name] = value
    file[name].attrs.update(attributes)


DAMAGE = {
    "pointers that run backwards": (lambda f: put(f, "X/indptr", np.roll(f["X/indptr"][:], 3)), "pointers"),
    "pointers beyond the values": (lambda f: put(f, "X/indptr", f["X/indptr"][:] * 2), "pointers do not fit"),
    "pointers in the wrong order": (
        lambda f: put(f, "X/indptr", np.r_[0, f["X/indptr"][1:-1][::-1], f["X/indptr"][-1]]), "run backwards"),
    "a column beyond the width": (lambda f: put(f, "X/indices", f["X/indices"][:] + 1), "beyond its width"),
    "a column below 0": (lambda f: put(f, "X/indices", f["X/indices"][:] - 1), "beyond its width"),
    "too few values": (lambda f: put(f, "X/data", f["X/data"][:-1]), "do not fit"),
    "words for values": (lambda f: put(f, "X/data", np.array([b"x"] * f["X/data"].size)), "sparse"),
    "pointers with fractions": (lambda f: put(f, "X/indptr", f["X/indptr"][:] + 0.5), "whole numbers"),
    "NaN": (lambda f: put(f, "X/data", f["X/data"][:] * np.nan), "NaN or infinite"),
    "genes of the same name": (lambda f: f["var/_index"].__setitem__(1, f["var/_index"][0]), "'g0'"),
    "fewer genes than columns": (lambda f: put(f, "var/_index", f["var/_index"][:-1]), "11 genes"),
    "no obs": (lambda f: f.__delitem__("obs"), "no obs and var"),
    "no X": (lambda f: f.__delitem__("X"), "no X"),
    "another kind of matrix": (lambda f: f["X"].attrs.__setitem__("encoding-type", "bsr"), "stored as bsr"),
    "no kind of index": (lambda f: f["obs"].attrs.__delitem__("_index"), "_index"),
    "a file elsewhere": (
        lambda f: (f.__delitem__("X/data"), f["X"].create_dataset("data", (9,), "f4", external="/etc/hostname")),
        "lies in another file"),
    "a claim of terabytes": (
        lambda f: (f.__delitem__("X/data"), f["X"].create_dataset("data", (10**12,), "f4", chunks=(1000,))),
        "decompression bomb"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_one_line(name, path):
    change, words = DAMAGE[name]
    with pytest.raises(InputError, match=words) as error:
        open_data(edited(path, change))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_files_cut_short(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"a whole \.h5ad file"):
        open_data(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": "count"}, "did you mean 'counts'"),
        ({"layer": "raw"}, "no raw"),
        ({"batch_key": "doner"}, "did you mean 'donor'"),
        ({"labels": "labl"}, "did you mean 'label'"),
        ({"size": 8}, "size 8 for vectors"),
        ({"prepare": "table"}, "prepared as a table"),
    ],
)
def test_options_that_do_not_fit(path, options, words):
    for data in (path, cells()):
        with pytest.raises(InputError, match=words):
            open_data(data, **options)


def test_layers_are_of_cells_only():
    with pytest.raises(InputError, match="h5ad"):
        open_data(csr_matrix(np.eye(4)), layer="counts")
    with pytest.raises(InputError, match="h5ad"):
        open_data(np.eye(4), batch_key="donor")


def test_features_are_added_and_all_else_stays(path, tmp_path):
    features, about = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), {"method": "simclr", "seed": 3}
    write_h5ad(tmp_path / "out.h5ad", path, features, about)
    before, after = anndata.read_h5ad(path), anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(after.obsm["X_swell"], features)
    assert {k: v.item() if hasattr(v, "item") else v for k, v in after.uns["swell"].items()} == about
    assert after.uns["kept"] == before.uns["kept"]
    np.testing.assert_array_equal(after.obsm["X_pca"], before.obsm["X_pca"])
    pandas.testing.assert_frame_equal(after.obs, before.obs)
    assert (after.X != before.X).nnz == 0
    write_h5ad(tmp_path / "out.h5ad", tmp_path / "out.h5ad", features[:, :2], {"seed": 4})  # again, in its own place
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert again.obsm["X_swell"].shape == (40, 2)
    assert set(again.uns["swell"]) == {"seed"}
    with pytest.raises(InputError, match="not the 39 cells"):
        write_h5ad(tmp_path / "no.h5ad", path, features[:39], about)
    assert not (tmp_path / "no.h5ad").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the six single-cell sets lie in ../shared/data")
def test_a_real_set():
    file = SHARED / "pbmc68k_reduced.h5ad"
    source = open_data(file, labels="label")
    assert (len(source), source.shape, len(source.classes)) == (700, (765,), 10)
    assert source.fingerprint == open_data(anndata.read_h5ad(file)).fingerprint
    assert (np.abs(source.samples[:].std(0) - 1) < 1e-4).mean() > 0.9  # the others were clipped
