"""Calibration against scikit-learn, loops in float64 and cases by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from swell.evaluation import calibration as module
from swell.evaluation.calibration import BINS, Confidences, calibration, confidences


def drawn(n=2000, classes=5, scale=2.0, seed=0):
    """Logits, and labels drawn with their very probabilities."""
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=g, dtype=torch.float64)
    truth = torch.multinomial(logits.softmax(1), 1, generator=g)[:, 0]
    return logits, truth


def test_the_parts_are_those_of_scikit_learn(monkeypatch):
    logits, truth = drawn(300)
    monkeypatch.setattr(module, "_CHUNK", 37)  # several blocks
    found = confidences(logits, truth)
    p = logits.softmax(1).numpy()
    np.testing.assert_allclose(found.confidence, p.max(1))
    assert found.nll.mean() == pytest.approx(log_loss(truth.numpy(), p))
    assert found.brier.mean() == pytest.approx(np.mean(((p - np.eye(5)[truth.numpy()]) ** 2).sum(1)))
    two = confidences(logits[:, :2], truth.clamp(max=1))
    positive = logits[:, :2].softmax(1)[:, 1].numpy()
    assert two.brier.mean() == pytest.approx(2 * brier_score_loss(truth.clamp(max=1).numpy(), positive))


def test_the_bins_are_those_of_scikit_learn():
    logits, truth = drawn(500)
    found = confidences(logits, truth)
    right = (logits.argmax(1) == truth).numpy()
    told = calibration(found, right)
    accuracy, confidence = calibration_curve(right, found.confidence, n_bins=BINS)
    np.testing.assert_allclose([b["accuracy"] for b in told["bins"]], accuracy)
    np.testing.assert_allclose([b["confidence"] for b in told["bins"]], confidence)
    rows = np.array([b["rows"] for b in told["bins"]])
    assert rows.sum() == 500
    assert told["ece"] == pytest.approx((rows * np.abs(accuracy - confidence)).sum() / 500)
    json.dumps(told, allow_nan=False)


def test_by_hand():
    """Sure of 0.9 twice and right once; sure of 0.5 and right: (0.8 + 0.5) / 3."""
    found = Confidences(np.array([0.9, 0.9, 0.5]), np.array([0.02, 1.62, 0.5]), np.zeros(3))
    told = calibration(found, np.array([True, False, True]))
    assert told["ece"] == pytest.approx((abs(1 - 1.8) + abs(1 - 0.5)) / 3)
    assert told["overconfidence"] == pytest.approx(2.3 / 3 - 2 / 3)
    assert [(b["rows"], b["accuracy"]) for b in told["bins"]] == [(1, 1.0), (2, 0.5)]
    assert told["brier"] == pytest.approx(2.14 / 3)


def test_certainty_lies_in_the_last_bin():
    told = calibration(Confidences(np.ones(4), np.zeros(4), np.zeros(4)), np.ones(4))
    assert [(b["high"], b["rows"]) for b in told["bins"]] == [(1.0, 4)]
    assert told["ece"] == told["ece_by_chance"]["p95"] == 0


def test_the_error_by_chance_is_what_calibrated_probabilities_have_and_sharpened_ones_exceed():
    errors, chance = [], []
    for seed in range(12):
        logits, truth = drawn(400, seed=seed)
        told = calibration(confidences(logits, truth), (logits.argmax(1) == truth).numpy())
        errors.append(told["ece"])
        chance.append(told["ece_by_chance"]["mean"])
    assert np.mean(errors) == pytest.approx(np.mean(chance), rel=0.2)
    logits, truth = drawn(400)
    sharp = calibration(confidences(3 * logits, truth), (logits.argmax(1) == truth).numpy())
    assert sharp["ece"] > sharp["ece_by_chance"]["p95"]
    assert sharp["overconfidence"] == pytest.approx(sharp["ece"], abs=0.03)
