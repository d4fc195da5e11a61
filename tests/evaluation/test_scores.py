"""All scores together: what they say of encoders whose truth is known, what they cost, how collapse shows."""

import math

import numpy as np
import pytest
import torch

from swell.data.builtin import open_builtin
from swell.data.source import Provenance, Source
from swell.evaluation.reference import Reference
from swell.evaluation.scores import SCORES, collapsed, forwards_of, scores, scores_of_features
from swell.ledger import Cost
from swell.nets.encoder import Encoder, EncoderConfig
from swell.training.step import forwards_counted

N, Q, D = 300, 3, 16


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(noise, kept=12, scale=1.0):
    """An encoder with a known truth: `kept` directions that tell samples apart, and what views change of each.

    More noise is a worse encoder; fewer kept directions is one that is invariant to what matters too.
    """
    signal = normal(N, D)
    signal[:, kept:] = 0
    clean = signal + noise * normal(N, D, seed=1)
    return scale * clean, scale * (signal + noise * normal(Q, N, D, seed=2))


def reference_of(kind):
    if kind == "images":
        return Reference.of(open_builtin("builtin:digits").subset(np.arange(600)))[0]
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 9)) + 0.2 * rng.normal(size=(300, 9))
    return Reference.of(Source(samples.astype(np.float32), Provenance("real", "array")))[0]


def encoder_of(kind, seed=0):
    torch.manual_seed(seed)
    if kind == "images":
        return Encoder(EncoderConfig("conv6", 0.25, (1, 8, 8), (0.5,), (0.3,))).eval()
    return Encoder(EncoderConfig("mlp", 0.1, (9,), (), ())).eval()


@pytest.mark.parametrize("name", ["acr", "connectivity", "label_error", "alignment"])
def test_scores_of_invariance_fall_as_views_disturb_more(name):
    merits = [SCORES[name].merit(scores_of_features(*features(noise))[name]) for noise in (0.1, 0.4, 0.8, 1.6)]
    assert merits == sorted(merits, reverse=True)
    assert merits[0] > merits[-1]


@pytest.mark.parametrize("name", ["rankme", "lidar", "uniformity", "acr", "connectivity"])
def test_scores_fall_as_directions_are_lost(name):
    merits = [SCORES[name].merit(scores_of_features(*features(0.05, kept))[name]) for kept in (12, 8, 4, 2)]
    assert merits == sorted(merits, reverse=True)
    assert merits[0] > merits[-1]


def test_the_failures_they_are_known_for():
    good, noisy = (scores_of_features(*features(noise)) for noise in (0.1, 1.6))
    assert noisy["rankme"] > good["rankme"]  # noise passes for rank
    assert noisy["uniformity"] < good["uniformity"]
    assert noisy["lidar"] > good["lidar"]  # a third of it stays in the means of three views
    weak = {name for name, score in SCORES.items() if score.favours == "weak"}
    assert weak == {"lidar", "uniformity", "feature_std"}
    assert {score.favours for score in SCORES.values()} == {"weak", ""}  # none favours strong views everywhere


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapse_is_worst_or_flagged_in_every_score(value):
    point = scores_of_features(torch.full((N, D), value), torch.full((Q, N, D), value))
    assert collapsed(point)
    for noise in (0.1, 1.6):
        found = scores_of_features(*features(noise))
        assert not collapsed(found)
        for name in found.keys() - {"rows"}:
            assert SCORES[name].merit(point[name]) < SCORES[name].merit(found[name]), name


def test_collapse_onto_one_direction_is_flagged():
    line = normal(N, 1) @ normal(1, D)
    assert collapsed(scores_of_features(line, line.repeat(Q, 1, 1)))


def test_rotation_scale_and_the_order_of_views_do_not_matter():
    clean, views = features(0.5)
    q, _ = torch.linalg.qr(normal(D, D, seed=8))
    expected = scores_of_features(clean, views)
    for turned in (
        scores_of_features(clean @ q, views @ q),
        scores_of_features(100 * clean, 100 * views),
        scores_of_features(clean, views.flip(0)),
    ):
        for name, value in expected.items():
            if name != "feature_std":  # of the axes: an alarm only
                assert turned[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_the_order_of_samples_does_not_matter_where_all_are_treated_alike():
    clean, views = features(0.5)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    a, b = scores_of_features(clean, views), scores_of_features(clean[order], views[:, order])
    for name in ("rankme", "alpha_req", "feature_std", "uniformity", "alignment", "lidar", "acr"):
        assert b[name] == pytest.approx(a[name], rel=1e-6), name
    assert b["connectivity"] == pytest.approx(a["connectivity"], abs=0.05)  # other halves
    assert b["label_error"] == pytest.approx(a["label_error"], abs=0.1)  # another start of k-means


def test_a_dozen_samples_are_enough_to_score():
    clean, views = features(0.3)
    found = scores_of_features(clean[:12], views[:, :12])
    assert math.isnan(found["connectivity"])
    assert all(math.isfinite(value) for name, value in found.items() if name != "connectivity")


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_scores_of_an_encoder(kind):
    reference, encoder, cost = reference_of(kind), encoder_of(kind), Cost()
    with forwards_counted(cost, encoder, torch.nn.ModuleDict()):
        found = scores(encoder, reference)
    padding = 0 if kind == "images" else 4 * (512 - len(reference))  # last batches of vectors are filled up
    assert cost.forwards - padding == forwards_of(reference)
    names = SCORES.keys() - {"learnability", "arc", "rotation" if kind == "vectors" else "masked_columns"}
    assert set(found) == names | {"rows"}
    assert all(math.isfinite(value) for value in found.values())
    assert found == scores(encoder, reference)
    other = encoder_of(kind, seed=1)
    with_arc = scores(encoder, reference, other)
    assert with_arc["arc"] == pytest.approx((1 - found["acr"]) / (1 - scores(other, reference)["acr"]))
    assert forwards_of(reference, arc=True) - forwards_of(reference) == 10 * len(reference)


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_a_silent_encoder_is_worst_or_flagged(kind):
    reference, encoder = reference_of(kind), encoder_of(kind)
    good = scores(encoder, reference)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.zero_()
    bad = scores(encoder, reference)
    assert collapsed(bad)
    assert bad["connectivity"] == 1  # of an untrained encoder it may be no better
    for name in good.keys() - {"rows", "connectivity"}:
        assert SCORES[name].merit(bad[name]) < SCORES[name].merit(good[name]), name


def test_merit_is_larger_for_the_better():
    assert SCORES["rankme"].merit(3) > SCORES["rankme"].merit(2)
    assert SCORES["acr"].merit(0.2) > SCORES["acr"].merit(0.3)
    assert SCORES["alpha_req"].merit(1.1) > SCORES["alpha_req"].merit(0.5) > SCORES["alpha_req"].merit(2)
    assert SCORES["lidar"].merit(math.nan) == -math.inf


def test_every_score_says_what_to_know_of_it():
    for name, score in SCORES.items():
        assert all((score.source, score.cost, score.failure)), name
        assert score.favours in ("weak", "strong", ""), name
