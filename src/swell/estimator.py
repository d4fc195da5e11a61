"""`swell.Encoder(method="simclr").fit(X).transform(X)`: the loop behind scikit-learn's interface."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from swell.data.source import Source
from swell.recipes import Recipe
from swell.run import Run


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pre-train on X and map X to features [N, D]. Labels (y) are ignored.

    X holds vectors [N, D] (an array, a sparse matrix, a pandas frame of numbers), whose features are standardised, or
    images (uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]), or is anything else that `swell.open` takes.
    `fit` trains in a temporary folder, or leaves the run in `out`.
    """

    def __init__(
        self,
        method: str = "simclr",
        recipe: str | Recipe = "default",
        steps: int | None = None,
        epochs: float | None = None,
        minutes: float | None = None,
        strength: float | str | None = None,
        inflate: Any = None,
        weight: float | None = None,
        seed: int = 0,
        out: str | None = None,
    ) -> None:
        self.method, self.recipe = method, recipe
        self.steps, self.epochs, self.minutes = steps, epochs, minutes
        self.strength, self.inflate, self.weight, self.seed, self.out = strength, inflate, weight, seed, out

    def fit(self, X: Any, y: Any = None) -> Encoder:
        """Returns self; raises InputError, or another ValueError, for data that are none."""
        from swell.verbs import pretrain

        options = {key: value for key, value in self.get_params().items() if key != "out"}
        data = self._vectors(X, reset=True) if _are_vectors(X) else X
        with tempfile.TemporaryDirectory() as scratch:
            out = self.out or Path(scratch) / "run"
            run = pretrain(data, out, quiet=True, report=self.out is not None, **options)
        self.run_ = run  # its weights are in memory, so the scratch folder may go
        self.n_features_out_ = self._n_features_out = run.encoder.features
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Vectors or images -> features float32 [N, D]."""
        check_is_fitted(self, "run_")
        run: Run = self.run_
        if not _are_vectors(X) or not run.encoder.takes_vectors:
            return run.encode(X)
        vectors = self._vectors(X, reset=False)
        return run.encoder.encode(vectors if run.preparation is None else run.preparation.apply(vectors))

    def _vectors(self, X: Any, reset: bool) -> Any:
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32],
                             ensure_min_samples=2 if reset else 1)  # fmt: skip

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # features are float32 whatever X is
        return tags


def _are_vectors(X: Any) -> bool:
    """What scikit-learn is to check; not paths, sources, AnnData, pictures."""
    if isinstance(X, (str, os.PathLike, Source, Run)) or type(X).__name__ == "AnnData":
        return False
    return getattr(X, "ndim", 2) <= 2
