"""`swell.Encoder` is a scikit-learn transformer, by scikit-learn's own checks, for vectors; and it takes images."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import swell


@parametrize_with_checks([swell.Encoder(steps=1)])
def test_scikit_learn(estimator, check):
    check(estimator)


def vectors(n=60):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    return rng.normal(size=(n, 5)) * [1, 100, 1, 1, 0.01] + 4 * y[:, None] * [1, 100, 0, 0, 0], y


def test_it_stands_in_a_pipeline_and_scales_vectors():
    x, y = vectors()
    model = make_pipeline(swell.Encoder(steps=5), LogisticRegression()).fit(x, y)
    assert model.score(x, y) > 0.9
    assert model[0].run_.preparation.describe().startswith("table: 5 columns of numbers")
    assert model[0].get_feature_names_out()[0] == "encoder0"


def test_sparse_counts_stay_sparse():
    x = csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 12)))
    made = swell.Encoder(steps=2).fit(x)
    assert made.run_.preparation.kind == "counts"
    assert made.transform(x[:1]).shape == (1, made.n_features_out_)


def test_images_are_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    made = swell.Encoder(recipe="digits", steps=2, out=str(tmp_path / "run")).fit(images)
    assert made.transform(images).shape == (40, made.n_features_out_)
    assert (tmp_path / "run" / "encoder.safetensors").exists()


def test_unfitted_and_wrong():
    x, _ = vectors()
    with pytest.raises(ValueError, match="not fitted"):
        swell.Encoder().transform(x)
    with pytest.raises(ValueError, match="X has 4 features, but Encoder is expecting 5"):
        swell.Encoder(steps=1).fit(x).transform(x[:, :4])
