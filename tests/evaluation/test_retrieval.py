"""Retrieval against scikit-learn and by hand, equal distances included."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from swell.evaluation import retrieval as module
from swell.evaluation.features import unit_rows
from swell.evaluation.retrieval import ranked, retrieval


def features(n, d=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return (np.eye(classes, d)[y] + rng.normal(0, 0.8, (n, d))).astype(np.float32), y


def test_average_precision_is_scikit_learns(monkeypatch):
    (x, y), (q, z) = features(150), features(40, seed=1)
    monkeypatch.setattr(module, "_CHUNK", 1000)  # several blocks
    a, b = (unit_rows(torch.from_numpy(part)).double().float() for part in (x, q))
    precision, first = ranked(b, torch.from_numpy(z), a, torch.from_numpy(y))
    cosine = (b.double() @ a.double().T).numpy()
    wanted = [average_precision_score(y == label, row) for label, row in zip(z, cosine, strict=True)]
    np.testing.assert_allclose(precision, wanted, atol=1e-6)
    ranks = [1 + np.flatnonzero((y == label)[np.argsort(-row)])[0] for label, row in zip(z, cosine, strict=True)]
    np.testing.assert_array_equal(first, ranks)


def test_equally_near_rows_share_a_place():
    """Few different directions, so that most cosines are tied."""
    rng = np.random.default_rng(0)
    directions = np.eye(4, dtype=np.float32)
    rows, y = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    q, z = directions[rng.integers(0, 4, 20)] + 0.5 * directions[0], rng.integers(0, 3, 20)
    a, b = (unit_rows(torch.from_numpy(part)) for part in (directions[rows], q))
    precision, _ = ranked(b, torch.from_numpy(z), a, torch.from_numpy(y))
    cosine = np.round((b @ a.T).numpy().astype(np.float64), 6)
    wanted = [average_precision_score(y == label, row) for label, row in zip(z, cosine, strict=True)]
    np.testing.assert_allclose(precision, wanted, atol=1e-12)


def test_collapsed_features_score_the_share_of_the_class():
    x, y = np.ones((100, 3), np.float32), np.arange(100) % 4
    result, precision = retrieval(x, y, x[:8], y[:8])
    assert result["map"] == pytest.approx(0.25)
    assert result["recall"] == {"1": 0.0, "5": 0.0, "10": 0.0}  # equals of another class come first
    np.testing.assert_allclose(precision, 0.25)


def test_by_hand():
    """From the query at 0 degrees the gallery lies at 10 (same), 20 (other), 30 (same): (1 + 2/3) / 2."""
    turn = np.deg2rad([10.0, 20.0, 30.0, 0.0])
    x = np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)
    result, precision = retrieval(x[:3], np.array([0, 1, 0]), x[3:], np.array([0]))
    assert precision.tolist() == pytest.approx([(1 + 2 / 3) / 2])
    assert result["recall"]["1"] == 1
    lonely, _ = retrieval(x[:3], np.array([0, 1, 0]), x[3:], np.array([2]))  # a class that the gallery lacks
    assert (lonely["map"], lonely["recall"]["10"]) == (0, 0)


def test_of_many_rows_some_are_drawn_the_same_every_time(monkeypatch):
    (x, y), (q, z) = features(200), features(50, seed=1)
    whole, precision = retrieval(x, y, q, z)
    assert (whole["queries"], whole["gallery"], len(precision)) == (50, 200, 50)
    json.dumps(whole, allow_nan=False)
    monkeypatch.setattr(module, "MOST_QUERIES", 20)
    monkeypatch.setattr(module, "MOST_GALLERY", 90)
    part, none = retrieval(x, y, q, z)
    again, _ = retrieval(x, y, q, z)
    assert (part["queries"], part["gallery"], none) == (20, 90, None)
    assert {**part, "seconds": 0} == {**again, "seconds": 0}
    assert part["map"] == pytest.approx(whole["map"], abs=0.15)
