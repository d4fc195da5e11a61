"""Rotations and hidden columns told from features, against ridge regression written out."""

import math

import numpy as np
import pytest
import torch

from swell.data.builtin import open_builtin
from swell.evaluation import pretext_scores as ps
from swell.nets.encoder import Encoder, EncoderConfig
from swell.seeding import generator_for


def vectors(n=80, d=7, seed=0):
    """Columns that tell of one another: two hidden factors and some noise."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.3 * rng.normal(size=(n, d))).astype(np.float32)


def encoder_of(shape, seed=0, **options):
    torch.manual_seed(seed)
    kind = "mlp" if len(shape) == 1 else "conv6"
    channels = () if len(shape) == 1 else (0.5,) * shape[0]
    return Encoder(EncoderConfig(kind, 0.1 if kind == "mlp" else 0.25, shape, channels, channels, options)).eval()


def silent(encoder):
    """The same encoder with all weights 0: every sample has the same features."""
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.zero_()
    return encoder


def hat_ridge(x, y, penalties):
    """Weights of the penalty whose GCV score is least, by the hat matrix as the paper has it; x and y centred."""
    n = len(x)
    best = (math.inf, None)
    for penalty in penalties:
        inverse = np.linalg.inv(x.T @ x + n * penalty * np.eye(x.shape[1]))
        hat = x @ inverse @ x.T + 1 / n  # the mean is fitted too
        rss = np.sum((y - hat @ y) ** 2)
        score = n * rss / np.trace(np.eye(n) - hat) ** 2
        best = min(best, (score, penalty))
    return np.linalg.inv(x.T @ x + n * best[1] * np.eye(x.shape[1])) @ x.T @ y


@pytest.mark.parametrize(("n", "d"), [(40, 6), (15, 30)])
def test_ridge_is_that_of_the_hat_matrix(n, d):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d))
    y = x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(n, 2))
    x, y = x - x.mean(0), y - y.mean(0)
    expected = hat_ridge(x, y, ps.PENALTIES)
    assert np.allclose(ps.ridge(torch.from_numpy(x), torch.from_numpy(y)).numpy(), expected, atol=1e-8)


def test_ridge_of_nothing_predicts_nothing():
    assert ps.ridge(torch.zeros(10, 3, dtype=torch.float64), torch.ones(10, 2, dtype=torch.float64)).tolist() == (
        [[0, 0]] * 3
    )


def test_masked_columns_by_other_hands():
    samples, encoder = vectors(), encoder_of((7,))
    columns = torch.randperm(7, generator=generator_for(3, "hidden columns")).tolist()
    rss = tss = 0.0
    for part in (columns[:3], columns[3:5], columns[5:]):
        visible = samples.copy()
        visible[:, part] = 0
        x, y = encoder.encode(visible).astype(np.float64), samples[:, part].astype(np.float64)
        y = y / y.std(0)
        even, odd = np.arange(80) % 2 == 0, np.arange(80) % 2 == 1
        for fit, test in ((even, odd), (odd, even)):
            centre, sd = x[fit].mean(0), x[fit].std(0)
            sd[sd <= 1e-6 * abs(centre)] = np.inf
            weights = hat_ridge((x[fit] - centre) / sd, y[fit] - y[fit].mean(0), ps.PENALTIES)
            predicted = (x[test] - centre) / sd @ weights + y[fit].mean(0)
            rss += np.sum((y[test] - predicted) ** 2)
            tss += np.sum((y[test] - y[fit].mean(0)) ** 2)
    expected = 1 - rss / tss
    assert 0.2 < expected < 0.95
    assert ps.masked_columns(encoder, samples, 3) == pytest.approx(expected, abs=1e-5)


def test_masked_columns_forgets_the_units_and_the_constant_columns():
    class Scaled:
        """An encoder of columns in other units: the same function after they are put back."""

        def __init__(self, encoder, unit):
            self.encoder, self.unit = encoder, unit

        def encode(self, x):
            return self.encoder.encode(x / self.unit)

    samples, encoder = vectors(), encoder_of((7,))
    unit = np.float32(2) ** np.arange(7, dtype=np.float32)
    assert ps.masked_columns(Scaled(encoder, unit), samples * unit) == pytest.approx(
        ps.masked_columns(encoder, samples), abs=1e-6
    )
    flat = np.ones((80, 7), np.float32)
    assert math.isnan(ps.masked_columns(encoder, flat))


def test_masked_columns_of_collapse_is_worst():
    assert ps.masked_columns(silent(encoder_of((7,))), vectors()) == 0
    assert ps.masked_columns(encoder_of((7,)), vectors()) > 0.2
    noise = np.random.default_rng(0).normal(size=(80, 7)).astype(np.float32)
    assert ps.masked_columns(encoder_of((7,)), noise) < 0.05


def test_rotation_tells_up_from_down_and_collapse_does_not():
    digits = open_builtin("builtin:digits").samples[:200]
    encoder = encoder_of((1, 8, 8))
    found = ps.rotation(encoder, digits)
    assert found > 0.5
    assert ps.rotation(silent(encoder_of((1, 8, 8))), digits) == 0.25
    rng = np.random.default_rng(0)
    assert ps.rotation(encoder, rng.integers(0, 256, (200, 1, 8, 8), np.uint8)) < 0.32


def test_rotation_by_another_least_squares():
    from sklearn.preprocessing import StandardScaler

    digits, encoder = open_builtin("builtin:digits").samples[:60], encoder_of((1, 8, 8))
    x = np.stack([encoder.encode(np.rot90(digits, turn, (2, 3)).copy()) for turn in range(4)]).astype(np.float64)
    right = 0
    for fit, test in ((0, 1), (1, 0)):
        scale = StandardScaler().fit(x[:, fit::2].reshape(-1, x.shape[2]))
        a, b = (scale.transform(x[:, part::2].reshape(-1, x.shape[2])) for part in (fit, test))
        y = np.repeat(np.eye(4), 30, axis=0)
        predicted = b @ hat_ridge(a, y - y.mean(0), ps.PENALTIES) + y.mean(0)
        right += np.sum(predicted.argmax(1) == np.repeat(np.arange(4), 30))
    assert ps.rotation(encoder, digits) == pytest.approx(right / 240, abs=0.01)


def test_images_without_an_up_are_found_out():
    digits = open_builtin("builtin:digits").samples[:300]
    rng = np.random.default_rng(0)
    blobs = rng.integers(0, 256, (300, 3, 12, 12), np.uint8)
    assert ps.can_rotate(digits)
    assert not ps.can_rotate(blobs)
    assert not ps.can_rotate(digits[:, :, :6])
    assert not ps.can_rotate(vectors())
    found, error = ps.told_apart_by_pixels(blobs, lambda x: [x, x.flip(-1)])
    assert abs(found - 0.5) < 3 * error
    assert ps.told_apart_by_pixels(digits, lambda x: [x, x.flip(-1)])[0] > 0.7
