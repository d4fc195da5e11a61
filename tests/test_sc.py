"""Four lines for a biologist: what is written to an AnnData, and that nothing else is touched."""

import subprocess
import sys

import numpy as np
import pytest

import swell
from swell.errors import InputError
from swell.recipes import Recipe

anndata = pytest.importorskip("anndata", reason="needs the extra omics")
from scipy.sparse import csr_matrix  # noqa: E402

TINY = Recipe(steps=2, batch_size=16, backbone_options={"hidden": 16, "depth": 1, "outputs": 8}, precision="fp32")


def cells(seed=0):
    rng = np.random.default_rng(seed)
    adata = anndata.AnnData(csr_matrix(rng.poisson(1.5, (60, 20)).astype(np.float32)))
    adata.var_names = [f"g{j}" for j in range(20)]
    adata.obs["donor"] = np.array(["a", "b"])[np.arange(60) % 2]
    adata.obs["label"] = np.arange(60) % 3
    adata.layers["counts"] = adata.X * 2
    adata.obsm["X_pca"] = rng.normal(size=(60, 3))
    adata.uns["note"] = "kept"
    return adata


def same_but_for_ours(a, b):
    assert (a.X != b.X).nnz == 0
    assert a.obs.equals(b.obs)
    assert a.var.equals(b.var)
    assert set(a.layers) == set(b.layers) == {"counts"}
    assert set(a.obsm) - {"X_swell"} == set(b.obsm) - {"X_swell"} == {"X_pca"}
    assert set(a.uns) - {"swell"} == set(b.uns) - {"swell"} == {"note"}
    assert not a.varm
    assert not a.obsp


def test_features_and_provenance_are_written_and_nothing_else():
    adata, before = cells(), cells()
    assert swell.sc.pretrain(adata, recipe=TINY, quiet=True) is None
    same_but_for_ours(adata, before)
    assert adata.obsm["X_swell"].shape == (60, 8)
    assert adata.obsm["X_swell"].dtype == np.float32
    about = adata.uns["swell"]
    assert about["method"] == "simclr"
    assert about["preparation"].startswith("counts: library size")
    assert len(about["trained_on"]) == 16
    again = cells()
    swell.sc.pretrain(again, recipe=TINY, quiet=True)
    np.testing.assert_array_equal(again.obsm["X_swell"], adata.obsm["X_swell"])


def test_a_copy_leaves_the_original_alone():
    adata = cells()
    made = swell.sc.pretrain(adata, recipe=TINY, copy=True, quiet=True)
    assert "X_swell" in made.obsm
    assert "X_swell" not in adata.obsm
    assert "swell" not in adata.uns
    same_but_for_ours(made, adata)


def test_layer_chosen_genes_and_batches_are_honoured(tmp_path):
    adata = cells()
    adata.var["highly_variable"] = np.arange(20) < 9
    swell.sc.pretrain(adata, layer="counts", batch_key="donor", out=tmp_path / "run", recipe=TINY, quiet=True)
    about = adata.uns["swell"]
    assert "of layer counts" in about["preparation"]
    assert "9 of 20 genes" in about["preparation"]
    assert "within 2 batches of donor" in about["preparation"]
    later = cells(1)
    swell.sc.embed(later, tmp_path / "run")
    np.testing.assert_array_equal(later.obsm["X_swell"], swell.load(tmp_path / "run").encode(later))
    assert later.uns["swell"]["run"] == about["run"] == str(tmp_path / "run")
    no_donor = cells(1)
    del no_donor.obs["donor"]
    with pytest.raises(InputError, match="no column 'donor'"):
        swell.sc.embed(no_donor, tmp_path / "run")


def test_labels_make_no_difference():
    adata, blind = cells(), cells()
    del blind.obs["label"]
    for one in (adata, blind):
        swell.sc.pretrain(one, recipe=TINY, quiet=True)
    np.testing.assert_array_equal(adata.obsm["X_swell"], blind.obsm["X_swell"])


def test_scaled_values_beside_others_are_told(tmp_path, capsys):
    adata = cells()
    adata.X = adata.X.toarray() - 1
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for data in (adata, tmp_path / "cells.h5ad"):
        assert swell.open(data).preparation.kind == "none"
        assert "give their layer: counts" in capsys.readouterr().err
        assert swell.open(data, layer="counts").preparation.kind == "counts"
        swell.open(data, prepare="none")  # who says so knows
        assert capsys.readouterr().err == ""


def test_what_is_no_anndata_is_refused():
    for thing in (np.eye(3), "cells.h5ad", None):
        with pytest.raises(InputError, match="an AnnData"):
            swell.sc.pretrain(thing)
    with pytest.raises(InputError, match="did you mean 'counts'"):
        swell.sc.pretrain(cells(), layer="count")


def test_import_stays_light():
    code = "import sys, swell; swell.__all__; print('torch' in sys.modules or 'anndata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
