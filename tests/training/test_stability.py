"""What is measured at a switch, against loops and known cases, and what is said of it."""

import math

import numpy as np
import pytest
import torch

from swell.training.stability import (
    ROWS,
    drift,
    effective_rank,
    encoder_alarm,
    feature_spread,
    moved,
    positive_distances,
    positives_alarm,
    usual_distance,
    watched_rows,
)
from swell.training.watchdog import Watchdog

GOOD = {"effective_rank": 10.0, "spread": 0.8}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_effective_rank_counts_directions():
    z = torch.zeros(40, 6)
    z[:, 0] = 5.0  # a shift that all share is no direction
    assert effective_rank(z) == 0.0
    z[:, 1] = torch.linspace(-1, 1, 40)
    assert effective_rank(z) == pytest.approx(1.0)
    q = torch.linalg.qr(drawn(40, 4) - drawn(40, 4).mean(0)).Q
    q = torch.linalg.qr(q - q.mean(0)).Q  # four orthonormal columns without mean
    assert effective_rank(q) == pytest.approx(4.0)
    assert effective_rank(q * torch.tensor([3.0, 1.0, 0.0, 0.0])) == pytest.approx(
        math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    )


def test_spread_is_a_share_of_the_size():
    assert feature_spread(torch.ones(5, 3)) == 0.0
    assert feature_spread(torch.zeros(5, 3)) == 0.0
    assert feature_spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(1.0)
    assert feature_spread(torch.tensor([[3.0], [5.0]])) == pytest.approx(1 / math.sqrt(17))


def test_drift_ignores_turns_moves_and_sizes_and_sees_another_net():
    z = drawn(30, 4)
    turn = torch.linalg.qr(drawn(4, 4, seed=1)).Q
    assert drift(z, 3 * z @ turn + 7) == pytest.approx(0.0, abs=1e-9)
    assert drift(drawn(2000, 3), drawn(2000, 5, seed=2)) > 0.95
    assert drift(z, torch.ones(30, 4)) == 1.0
    # by the definition with Gram matrices
    a, b = z - z.mean(0), drawn(30, 4, seed=3)
    b = b - b.mean(0)
    k, m = (a @ a.T).numpy(), (b @ b.T).numpy()
    assert 1 - drift(z, b) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_distances_of_positives_equal_loops():
    a, p = drawn(6, 3), drawn(2, 6, 3, seed=1)
    x, y = a.tolist(), p.tolist()

    def d2(s, t):
        return sum((i - j) ** 2 for i, j in zip(s, t, strict=True))

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    usual = mean(d2(x[i], x[j]) for i, j in pairs)
    nearest = [[min(d2(y[v][i], x[j]) for j in range(6) if j != i) for i in range(6)] for v in range(2)]
    found = positive_distances(a, p)
    assert usual_distance(a) == pytest.approx(usual)
    assert found == pytest.approx(
        {
            "to_anchor": mean(d2(y[v][i], x[i]) for v in range(2) for i in range(6)) / usual,
            "to_nearest": mean(n for row in nearest for n in row) / usual,
            "astray": mean(nearest[v][i] < d2(y[v][i], x[i]) for v in range(2) for i in range(6)),
            "diversity": mean(d2(y[0][i], y[1][i]) for i in range(6)) / usual,
            "apart": mean(d2(y[v][i], y[v][j]) for v in range(2) for i, j in pairs) / usual,
        }
    )
    assert moved(p, p, a) == 0.0
    assert moved(p, p + 1, a) == pytest.approx(3 / usual)
    assert positive_distances(a + 1000, p + 1000) == pytest.approx(found, rel=1e-6)


def test_the_controls_look_as_they_are():
    anchors = drawn(50, 5)
    copies = positive_distances(anchors, anchors.repeat(3, 1, 1))
    assert [copies[name] for name in ("to_anchor", "diversity", "astray")] == pytest.approx([0, 0, 0], abs=1e-12)
    assert copies["apart"] == pytest.approx(1.0)
    assert "copies" in positives_alarm(copies)
    assert "collapsed" in positives_alarm(positive_distances(anchors, torch.zeros(3, 50, 5)))
    others = anchors[torch.randperm(50, generator=torch.Generator().manual_seed(0))][None]
    assert "lost their samples" in positives_alarm(positive_distances(anchors, 1.1 * others))
    near = positive_distances(anchors, anchors + 0.4 * drawn(3, 50, 5, seed=4))
    assert positives_alarm(near) == ""


@pytest.mark.parametrize(
    ("now", "good", "told"),
    [
        ({"effective_rank": 9.0, "spread": 0.7}, GOOD, ""),
        ({"effective_rank": 9.0, "spread": 0.7}, None, ""),
        ({"effective_rank": 4.9, "spread": 0.7}, GOOD, "used 10.0 directions"),
        ({"effective_rank": 9.0, "spread": 0.2}, GOOD, "differed by 80 %"),
        ({"effective_rank": 1.0, "spread": 0.7}, None, "has collapsed"),
        ({"effective_rank": 9.0, "spread": 0.01}, None, "has collapsed"),
        ({"effective_rank": math.nan, "spread": 0.5}, GOOD, "not finite"),
    ],
)
def test_alarms_of_the_encoder(now, good, told):
    sentence = encoder_alarm(now, good)
    assert (told in sentence) if told else sentence == ""


def test_the_watched_rows_are_fixed():
    assert watched_rows(5).tolist() == [0, 1, 2, 3, 4]
    many = watched_rows(5000)
    assert len(many) == len(set(many.tolist())) == ROWS
    assert torch.equal(many, watched_rows(5000))
    assert torch.equal(many, many.sort().values)


def test_the_watchdog_says_once_when_soft_targets_cannot_act(capsys):
    well, hard, capped = Watchdog(), Watchdog(), Watchdog()
    for step in range(20):
        well.check_soft(step, 0.15, 0.64)
        hard.check_soft(step, 1e-5, 0.64)
    told = capsys.readouterr().err
    assert told.count("warning") == 1
    assert "step 4: the soft targets are hard: 0.001 % of their mass" in told
    for step in range(3):
        capped.check_soft(step, 0.15, 0.0156)
    told = capsys.readouterr().err
    assert told.count("warning") == 1
    assert "reaches 1.6 % of its target" in told
