"""Scores of the graph of views against loops, scikit-learn and cases worked by hand."""

import math

import numpy as np
import pytest
import torch

from swell.errors import InputError
from swell.evaluation import graph_scores as gs


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation_of(d, seed=9):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def at(*degrees):
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], -1)


def acr_by_loops(views):
    """The definition, one view at a time."""
    rows = [(i, np.asarray(x) / np.linalg.norm(x)) for view in views.tolist() for i, x in enumerate(view)]
    confused = 0
    for a, (owner, x) in enumerate(rows):
        near = {True: -2.0, False: -2.0}
        for b, (other, y) in enumerate(rows):
            if a != b:
                near[owner == other] = max(near[owner == other], float(x @ y))
        confused += near[False] >= near[True]
    return confused / len(rows)


def test_acr_worked_by_hand_where_place_modulo_batch_size_would_be_wrong():
    """Four samples A, B, C, D in batches of two, so A and C, as B and D, have equal places modulo 2.

    Each view of A lies 1 degree from one of C and 10 from A's own other view; B and D lie apart. So the four views of
    A and C are confused, of eight. Whoever takes A and C for one sample finds none confused.
    """
    views = torch.stack([at(0, 90, 1, 180), at(10, 100, 11, 190)])
    assert gs.acr(views) == 0.5
    taken_for_one = torch.cat([views[:, :2], views[:, 2:]])  # [4, 2, D]: four views of "A or C" and of "B or D"
    assert gs.acr(taken_for_one) == 0.0


def test_acr_equals_the_loops_and_forgets_order_rotation_and_scale():
    views = normal(3, 40, 5) + 2.5 * normal(40, 5, seed=1)
    expected = acr_by_loops(views)
    assert 0.2 < expected < 0.8
    assert gs.acr(views) == expected
    assert gs.acr(views[[2, 0, 1]][:, torch.randperm(40)]) == expected
    assert gs.acr(37 * views @ rotation_of(5)) == expected


def test_acr_of_collapse_is_worst_and_of_samples_far_apart_best():
    assert gs.acr(torch.ones(3, 20, 4)) == 1
    assert gs.acr(torch.zeros(3, 20, 4)) == 1
    assert gs.acr(torch.eye(20).repeat(2, 1, 1) + 0.01 * normal(2, 20, 20)) == 0


def test_acr_of_many_views_reads_a_fixed_part_of_the_samples():
    views = normal(2, 300, 6) + 2 * normal(300, 6, seed=1)
    part = gs.acr(views, max_rows=200)
    assert part == gs.acr(views, max_rows=200)
    assert part == acr_by_loops(views[:, gs._some(300, 100)])


def test_arc_is_the_ratio():
    assert gs.arc(0.2, 0.6) == pytest.approx(2)
    assert gs.arc(1.0, 0.6) == 0
    assert math.isinf(gs.arc(0.5, 1.0))
    assert math.isnan(gs.arc(1.0, 1.0))


@pytest.mark.parametrize("q", [2, 3])
def test_canonical_correlations_are_those_of_scikit_learn(q):
    from sklearn.cross_decomposition import CCA

    views = (torch.linspace(1.5, 0.2, 4) * normal(300, 4, seed=1) + normal(q, 300, 4)) @ normal(4, 4, seed=2) + 3
    pairs = [(v, w) for v in range(q) for w in range(q) if v != w]
    a, b = (torch.cat([views[pair[side]] for pair in pairs]).numpy() for side in (0, 1))
    x, y = CCA(4, tol=1e-13, max_iter=100_000).fit_transform(a, b)
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(4)]
    found = gs.canonical_correlations(views)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert gs.canonical_correlations(views.flip(0) @ rotation_of(4) * 1e3).tolist() == pytest.approx(found.tolist())


def test_a_direction_without_variance_has_no_correlation():
    views = torch.cat([normal(40, 2, seed=1) + normal(2, 40, 2), torch.ones(2, 40, 3)], 2)
    found = gs.canonical_correlations(views)
    assert len(found) == 5
    assert (found == 0).sum() == 3
    assert gs.canonical_correlations(torch.ones(2, 40, 3)).tolist() == [0, 0, 0]


def views_of_known(rho, n, q=4, d=24, seed=0):
    """Views whose canonical correlations are `rho`, then 0: shared part of variance rho, the rest of each view."""
    full = torch.cat([torch.as_tensor(rho, dtype=torch.float64), torch.zeros(d - len(rho), dtype=torch.float64)])
    shared, own = normal(n, d, seed=seed), normal(q, n, d, seed=seed + 1)
    return (full.sqrt() * shared + (1 - full).sqrt() * own) @ normal(d, d, seed=5)


def test_connectivity_recovers_what_is_known():
    rho = torch.linspace(0.95, 0.5, 10)
    for k, expected in ((1, 0.05), (5, 0.25), (10, 0.5)):
        found = gs.connectivity(views_of_known(rho, 3000), k)
        assert expected - 0.01 < found < expected + 0.04  # too high rather than too low
    assert gs.connectivity(views_of_known(rho, 3000), 12) > 0.9  # nothing survives in the eleventh


def test_connectivity_does_not_mistake_chance_for_survival():
    views = normal(4, 120, 60)  # noise, and few samples for so many features
    assert gs.canonical_correlations(views)[9] > 0.2
    assert gs.connectivity(views, 10) > 0.85


def test_connectivity_forgets_rotation_scale_and_order_of_views():
    views = views_of_known([0.9] * 10, 400)
    expected = gs.connectivity(views)
    assert gs.connectivity(views @ rotation_of(24)) == pytest.approx(expected, abs=1e-9)
    assert gs.connectivity(1e-3 * views + 5) == pytest.approx(expected, abs=1e-9)
    assert gs.connectivity(views.flip(0)) == pytest.approx(expected, abs=1e-9)
    shuffled = views[:, torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    assert gs.connectivity(shuffled) == pytest.approx(expected, abs=0.03)  # other halves


def test_connectivity_of_collapse_is_worst():
    assert gs.connectivity(torch.ones(3, 60, 20)) == 1
    few = normal(60, 5, seed=1).repeat(3, 1, 1) @ normal(5, 20)  # five directions, whatever the view: not ten
    assert gs.connectivity(few) == 1
    assert gs.connectivity(few, k=5) < 0.1


def test_connectivity_wants_samples_enough():
    for k, n in ((10, 23), (0, 60)):
        with pytest.raises(InputError, match="connectivity"):
            gs.connectivity(normal(2, n, 30), k)


def clustered(n=300, classes=10, d=16, noise=0.02, seed=0):
    labels = torch.arange(n) % classes
    return torch.eye(d, dtype=torch.float64)[labels] + noise * normal(n, d, seed=seed), labels


def test_label_error_is_the_share_of_flips_over_chance():
    """Ten clusters far apart; 45 of 600 views show another cluster than their sample's. Chance is 1 - sum p_c q_c."""
    clean, labels = clustered(n=300)
    shown = labels.repeat(2, 1)
    moved = torch.randperm(600, generator=torch.Generator().manual_seed(3))[:45]
    shown.view(-1)[moved] = (shown.view(-1)[moved] + 1) % 10
    views = torch.eye(16, dtype=torch.float64)[shown] + 0.02 * normal(2, 300, 16, seed=4)
    by_ten = []
    for c in range(10):
        by_ten.append((labels == c).double().mean() * (shown == c).double().mean())
    expected = (45 / 600) / (1 - sum(by_ten).item())
    assert gs.cluster_counts(99) == [9]
    assert gs.cluster_counts(299) == [10]
    assert gs.label_error(clean[:299], views[:, :299]) == pytest.approx(expected, abs=0.004)
    assert gs.label_error(1e3 * clean[:299] @ rotation_of(16), 7 * views[:, :299] @ rotation_of(16)) == pytest.approx(
        gs.label_error(clean[:299], views[:, :299])
    )


def test_label_error_of_views_that_change_nothing_and_of_collapse():
    clean, _ = clustered()
    assert gs.label_error(clean, clean.repeat(3, 1, 1)) == 0
    assert gs.label_error(torch.ones(50, 4), torch.ones(2, 50, 4)) == 1
    assert gs.label_error(clean, normal(3, 300, 16)) > 0.9  # views of nothing


def test_neighbours_by_loops():
    z = normal(700, 6).float()
    u = (z / z.norm(dim=1, keepdim=True)).double().numpy()
    expected = []
    for i in range(700):
        cosine = [float(u[i] @ u[j]) if j != i else -2.0 for j in range(700)] if i % 50 == 0 else None
        expected.append(None if cosine is None else int(np.argmax(cosine)))
    found = gs.nearest_rows(z).tolist()
    assert all(e is None or e == f for e, f in zip(expected, found, strict=True))


def test_learnability_is_that_of_scikit_learn():
    """One candidate of two judged: its nearest neighbours against the other's clusters, by other hands."""
    from sklearn.neighbors import KNeighborsClassifier

    from swell.evaluation.clusters import assign

    clean, _ = clustered(n=200, noise=0.1)
    judged = clean + 0.3 * normal(200, 16, seed=7)
    (k,) = gs.cluster_counts(200)
    labels = assign(clean, clean, k, 0, gs.STARTS)[0].numpy()
    near = KNeighborsClassifier(2, metric="cosine").fit(judged.numpy(), labels).kneighbors()[1][:, 0]
    chance = sum(np.mean(labels == c) ** 2 for c in range(k))
    expected = (np.mean(labels == labels[near]) - chance) / (1 - chance)
    found = gs.learnability({"judged": judged, "judge": clean})
    assert 0.3 < expected < 0.95
    assert found["judged"] == pytest.approx(expected, abs=1e-9)


def test_learnability_falls_with_noise_and_no_candidate_judges_itself():
    clean, _ = clustered()
    levels = {f"noise {s}": clean + s * normal(300, 16, seed=i) for i, s in enumerate((0.02, 0.2, 0.4, 0.8))}
    found = list(gs.learnability(levels).values())
    assert found == sorted(found, reverse=True)
    alone = gs.learnability({"odd": clean[:, torch.randperm(16)][torch.randperm(300)], "a": clean, "b": 2 * clean})
    assert abs(alone["odd"]) < 0.1  # perfect clusters of its own, which nobody else sees
    assert alone["a"] > 0.4


def test_learnability_of_collapse_is_chance_and_its_clusters_judge_nobody():
    clean, _ = clustered()
    other = clean + 0.1 * normal(300, 16, seed=5)
    found = gs.learnability({"good": clean, "too": other, "collapsed": torch.ones(300, 4)})
    assert abs(found["collapsed"]) < 0.05
    without = gs.learnability({"good": clean, "too": other})
    assert found["good"] == pytest.approx(without["good"])


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"a": torch.ones(4, 2)}, "1 candidate"),
        ({"a": torch.ones(4, 2), "b": torch.ones(5, 2)}, "rows"),
        ({"a": torch.ones(4, 2), "b": torch.full((4, 2), torch.nan)}, "not finite"),
    ],
)
def test_bad_candidates_are_told(features, told):
    with pytest.raises(InputError, match=told):
        gs.learnability(features)
