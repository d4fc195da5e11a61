"""Single cells: AnnData in, embedding out.

import anndata, swell
adata = anndata.read_h5ad("cells.h5ad")
swell.sc.pretrain(adata)            # writes adata.obsm["X_swell"]
sc.pp.neighbors(adata, use_rep="X_swell")
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swell.data.cells import is_anndata
from swell.data.open import open_data
from swell.errors import InputError
from swell.model import Model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["embed", "pretrain"]

KEY = "X_swell"


def pretrain(
    adata: AnnData,
    *,
    layer: str = "",
    batch_key: str = "",
    prepare: str = "auto",
    out: Path | str | None = None,
    copy: bool = False,
    quiet: bool = False,
    **options: Any,
) -> AnnData | None:
    """Pre-train an encoder on the cells of `adata` and write their features, float32 [cells, D], to obsm["X_swell"].

    What made them goes to uns["swell"]; nothing else of `adata` is touched, and no label is read. Genes are those of
    var["highly_variable"] where there are such, else the 2,000 most variable.

    Args:
        layer: of adata.layers, where the counts lie; raw for adata.raw; "" for X.
        batch_key: the column of obs that tells the batch; genes are ranked, centred and scaled within each.
        prepare: counts, logged or none; auto sees by the values which (`swell.data.preparation`).
        out: a folder to keep the run in, so that later cells can be embedded with it (`embed`); None keeps none.
        copy: leave `adata` as it is and return a copy with the features.
        options: of `swell.pretrain`: method, epochs, minutes, strength, seed, ...

    Returns:
        The copy, or None.

    Raises:
        InputError: what is no AnnData, layers and columns that are not there, values that are no expression.
    """
    from swell.verbs import pretrain as train

    _require_anndata(adata)
    source = open_data(adata, layer=layer, batch_key=batch_key, prepare=prepare, quiet=quiet)
    with tempfile.TemporaryDirectory() as scratch:
        run = train(source, out or Path(scratch) / "run", quiet=quiet, report=out is not None, **options)
        features, about = run.encode(source), run.about
    return _written(adata, features, about | {"run": "" if out is None else str(out)}, copy)


def embed(adata: AnnData, run: Model | Path | str, *, copy: bool = False) -> AnnData | None:
    """Write the features of the cells of `adata` by a finished run, or an exported encoder, where `pretrain` does.

    Raises:
        InputError: cells that do not fit the run, as when a fifth of its genes is missing.
    """
    from swell.verbs import load

    _require_anndata(adata)
    opened = load(run) if isinstance(run, (str, Path)) else run
    return _written(adata, opened.encode(adata), opened.about, copy)


def _require_anndata(adata: object) -> None:
    if not is_anndata(adata):
        given = f"a {type(adata).__module__}.{type(adata).__qualname__}"
        raise InputError(given, "an AnnData", "of a file: anndata.read_h5ad(path)")


def _written(adata: AnnData, features: Any, about: dict[str, Any], copy: bool) -> AnnData | None:
    target = adata.copy() if copy else adata
    target.obsm[KEY] = features
    target.uns["swell"] = about
    return target if copy else None
