"""From a file of cells or rows to a run and back: the run's own preparation, embedding by ending, refusals."""

import numpy as np
import pytest

import swell
from swell.data.preparation import Preparation
from swell.errors import InputError
from swell.files import read_json
from swell.recipes import Recipe
from swell.verbs import embed

TINY = Recipe(steps=2, batch_size=16, backbone_options={"hidden": 16, "depth": 1, "outputs": 8}, precision="fp32")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A table with a label, and a run on it."""
    root = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    kind = np.arange(80) % 2
    lines = [f"{rng.normal(3 * k):.4f},{rng.lognormal():.4f},{'rg'[k]},{'AB'[k]}" for k in kind]
    (root / "x.csv").write_text("\n".join(["width,price,colour,label", *lines]))
    run = swell.pretrain(root / "x.csv", root / "run", recipe=TINY, quiet=True, report=False)
    return root / "x.csv", run


def test_a_run_keeps_the_preparation_and_applies_it(rows, tmp_path):
    path, run = rows
    source = swell.open(path)
    stored = Preparation.load(run.path / "preparation.safetensors")
    assert stored.fingerprint == source.preparation.fingerprint
    assert stored.describe() in (run.path / "run.log").read_text()
    text = path.read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join([text[0], *text[5:25]]))  # by themselves they have another mean
    np.testing.assert_array_equal(run.encode(tmp_path / "some.csv"), run.encode(path)[4:24])
    np.testing.assert_array_equal(run.encode(source), run.encode(path))
    again = swell.load(run.path)
    np.testing.assert_array_equal(again.encode(path), run.encode(path))


def test_a_source_prepared_by_itself_is_refused(rows, tmp_path):
    path, run = rows
    text = path.read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(text[:30]))
    with pytest.raises(InputError, match="prepared by what it holds itself"):
        run.encode(swell.open(tmp_path / "some.csv"))
    assert run.encode(run.open(tmp_path / "some.csv")).shape == (29, 8)


def test_labels_are_read_for_the_probe_only(rows):
    path, run = rows
    result = run.evaluate(path, labels="label", baselines=False)
    assert result["linear"]["accuracy"] == 1.0  # the colour tells
    assert result["data"]["train_seen_in_pretraining"] is False  # of a part of them
    assert read_json(run.path / "evaluation.json")["n_train"] == 56
    with pytest.raises(InputError, match="'colour'"):
        run.evaluate(path, labels="colour")


def test_resuming_goes_on_with_the_same_data_only(rows, tmp_path):
    path, run = rows
    (tmp_path / "x.csv").write_text(path.read_text().replace("r,A", "g,A"))
    with pytest.raises(InputError, match="changed run"):
        swell.pretrain(tmp_path / "x.csv", run.path, recipe=TINY, resume=True, quiet=True, report=False)


def test_arrays_are_standardised_and_sources_without_a_preparation_are_taken_as_they_are(tmp_path):
    x = np.random.default_rng(0).normal([5, 0, -3], [1, 9, 0.1], (40, 3))
    run = swell.pretrain(x, tmp_path / "array", recipe=TINY, quiet=True, report=False)
    z = run.open(x).samples
    np.testing.assert_allclose(z, (x - x.mean(0)) / x.std(0), atol=1e-5)
    plain = swell.Source(z, swell.Provenance("real", "array"))
    np.testing.assert_array_equal(run.encode(plain), run.encode(x))
    other = swell.pretrain(plain, tmp_path / "plain", recipe=TINY, quiet=True, report=False)
    assert other.preparation is None
    np.testing.assert_array_equal(other.encode(z), run.encode(x))  # nothing is done to what comes to it
    with pytest.raises(InputError, match="vectors of 2 features"):
        run.encode(x[:, :2])


def test_embedding_goes_by_the_ending(rows, tmp_path):
    path, run = rows
    assert embed(run.path, path, tmp_path / "z.npz").shape == (80, 8)
    with np.load(tmp_path / "z.npz") as stored:
        np.testing.assert_array_equal(stored["features"], run.encode(path))
    with pytest.raises(InputError, match=r"no \.h5ad file"):
        embed(run.path, path, tmp_path / "z.h5ad")
    with pytest.raises(InputError, match=r"\.npz, \.h5ad or \.parquet"):
        embed(run.path, path, tmp_path / "z.txt")


def test_embedding_to_parquet(rows, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path, run = rows
    embed(run.path, path, tmp_path / "z.parquet")
    table = parquet.read_table(tmp_path / "z.parquet")
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), run.encode(path))


def test_embedding_to_h5ad(tmp_path):
    anndata = pytest.importorskip("anndata", reason="needs the extra omics")
    adata = anndata.AnnData(np.random.default_rng(0).poisson(1.0, (50, 10)).astype(np.float32))
    adata.layers["counts"] = adata.X + 1
    adata.write_h5ad(tmp_path / "cells.h5ad")
    source = swell.open(tmp_path / "cells.h5ad", layer="counts")
    run = swell.pretrain(source, tmp_path / "run", recipe=TINY, quiet=True, report=False)
    embed(run.path, tmp_path / "cells.h5ad", tmp_path / "out.h5ad")  # the layer is known to the run
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(out.obsm["X_swell"], run.encode(source))
    assert out.uns["swell"]["preparation_fingerprint"] == source.preparation.fingerprint
    assert out.uns["swell"]["trained_on"] == source.fingerprint
    assert out.uns["swell"]["method"] == "simclr"


def test_a_damaged_preparation_is_told(rows, tmp_path):
    import shutil

    shutil.copytree(rows[1].path, tmp_path / "run")
    (tmp_path / "run" / "preparation.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="the preparation swell wrote"):
        swell.load(tmp_path / "run")
