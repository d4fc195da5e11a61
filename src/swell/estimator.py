"""`swell.Encoder(method="simclr").fit(X).transform(X)`: the loop behind scikit-learn's interface."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from swell.recipes import Recipe
from swell.run import Run


class Encoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pre-train on the images X (uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]) and map images to features [N, D].

    `fit` trains in a temporary folder, or leaves the run in `out`. Labels (y) are ignored.
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
        """Returns self; raises InputError for data that are not images."""
        from swell.verbs import pretrain

        options = {key: value for key, value in self.get_params().items() if key != "out"}
        with tempfile.TemporaryDirectory() as scratch:
            out = self.out or Path(scratch) / "run"
            run = pretrain(X, out, quiet=True, report=self.out is not None, **options)
        self.run_ = run  # its weights are in memory, so the scratch folder may go
        self.n_features_out_ = run.encoder.features
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Images -> features float32 [N, D]."""
        check_is_fitted(self, "run_")
        run: Run = self.run_
        return run.encode(X)
