"""Label-free scores against derivations by hand."""

import math

import numpy as np
import pytest
import torch

from swell.errors import InputError
from swell.evaluation import label_free as lf


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def entropy_rank(values: np.ndarray) -> float:
    p = values / values.sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def test_rankme_from_one_direction_to_all() -> None:
    assert lf.rankme(normal(20_000, 32)) == pytest.approx(32, rel=2e-3)
    assert lf.rankme(normal(500, 1) @ normal(1, 32)) == pytest.approx(1, abs=1e-3)
    assert lf.rankme(torch.ones(100, 8)) == pytest.approx(1, abs=1e-3)
    assert lf.rankme(torch.zeros(100, 8)) == 0
    assert lf.rankme(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), rel=1e-4
    )


def test_rankme_is_of_the_uncentred_singular_values_and_ignores_scale_and_rotation() -> None:
    z = normal(200, 10) * torch.linspace(2, 0.1, 10) + 1
    by_hand = entropy_rank(np.sqrt(np.linalg.eigvalsh((z.T @ z).numpy())))
    assert lf.rankme(z) == pytest.approx(by_hand, rel=1e-9)
    q, _ = torch.linalg.qr(normal(10, 10, seed=1))
    assert lf.rankme(100 * z @ q) == pytest.approx(by_hand, rel=1e-9)


def test_spectrum_falls_and_sums_to_one() -> None:
    s = lf.spectrum(normal(50, 8))
    assert s.sum().item() == pytest.approx(1)
    assert bool((s.diff() <= 0).all())
    assert lf.spectrum(torch.zeros(5, 3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("alpha", "width"), [(0.5, 150), (1.0, 150), (2.0, 40)])
def test_alpha_req_recovers_a_power_law(alpha: float, width: int) -> None:
    x = normal(400, width)
    u, _ = torch.linalg.qr(x - x.mean(0))  # orthonormal columns of mean zero
    z = u * torch.arange(1, width + 1, dtype=torch.float64) ** (-alpha / 2)
    assert lf.alpha_req(z + 5) == pytest.approx(alpha, abs=1e-6)  # the mean does not enter


def test_alpha_req_reads_ranks_11_to_100() -> None:
    x = normal(400, 200)
    u, _ = torch.linalg.qr(x - x.mean(0))
    j = torch.arange(1, 201, dtype=torch.float64)
    eigenvalues = torch.where(j < 11, 1e3, torch.where(j > 100, 1e-6, j**-1.5))
    assert lf.alpha_req(u * eigenvalues.sqrt()) == pytest.approx(1.5, abs=1e-6)


def test_alpha_req_does_not_exist_for_collapsed_features() -> None:
    assert math.isnan(lf.alpha_req(torch.full((50, 8), 0.1)))
    assert math.isnan(lf.alpha_req((normal(50, 1) @ normal(1, 8)).float()))
    assert math.isnan(lf.alpha_req(normal(50, 2)))


def test_feature_std_is_one_on_the_sphere_and_zero_at_a_point() -> None:
    assert lf.feature_std(normal(20_000, 64)) == pytest.approx(1, abs=0.01)
    assert lf.feature_std(torch.full((10, 4), 2.0)) == pytest.approx(0, abs=1e-7)
    assert lf.feature_std(torch.tensor([[3.0, 0.0], [-7.0, 0.0]])) == pytest.approx(math.sqrt(2) / 2)


def test_uniformity_of_points_worked_by_hand() -> None:
    square = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]])  # squared distances 2, 2 and 4
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert lf.uniformity(square) == pytest.approx(expected, rel=1e-12)
    assert lf.uniformity(torch.ones(10, 3)) == pytest.approx(0, abs=1e-9)


def test_uniformity_in_blocks_equals_all_pairs_and_a_part_is_near_the_whole() -> None:
    z = normal(1300, 5) + 0.5
    u = z / z.norm(dim=1, keepdim=True)
    expected = torch.nn.functional.pdist(u).square().mul(-2).exp().mean().log().item()
    assert lf.uniformity(z) == pytest.approx(expected, rel=1e-9)
    assert lf.uniformity(z, max_rows=600) == pytest.approx(expected, abs=0.05)
    assert lf.uniformity(z, max_rows=600) == lf.uniformity(z, max_rows=600)


def test_alignment_is_the_mean_over_pairs_of_views() -> None:
    views = normal(4, 30, 6)
    u = views / views.norm(dim=2, keepdim=True)
    pairs = [(u[i] - u[j]).square().sum(1).mean() for i in range(4) for j in range(i)]
    assert lf.alignment(views) == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-12)
    assert lf.alignment(views[:1].repeat(3, 1, 1)) == pytest.approx(0, abs=1e-12)
    assert lf.alignment(torch.stack([views[0], -views[0]])) == pytest.approx(4)


def test_lidar_equals_the_definition() -> None:
    views = normal(5, 60, 7) @ normal(7, 7, seed=3) + 2 * normal(60, 7, seed=1)
    x = views.numpy()
    means = x.mean(0)
    between = np.cov(means.T, bias=True)
    within = sum(np.outer(d, d) for d in (x - means).reshape(-1, 7)) / 300
    within += 1e-4 * (np.trace(between) + np.trace(within)) / 7 * np.eye(7)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    expected = entropy_rank(np.linalg.eigvalsh(root @ between @ root))
    assert lf.lidar(views) == pytest.approx(expected, rel=1e-9)
    assert lf.lidar(1e-3 * views) == pytest.approx(expected, rel=1e-9)


def test_lidar_counts_directions_that_tell_samples_apart() -> None:
    signal = torch.zeros(2000, 20, dtype=torch.float64)
    signal[:, :5] = normal(2000, 5)
    noise = 0.05 * normal(10, 2000, 20, seed=2)
    assert lf.lidar(signal + noise) == pytest.approx(5, abs=0.3)
    assert lf.rankme((signal + 0.5 * normal(2000, 20, seed=2))[:, :]) > 12  # RankMe takes the noise for rank
    assert lf.lidar(torch.ones(3, 10, 4) + normal(3, 1, 4)) == 0  # views differ, samples do not


def test_all_scores_are_floats_and_the_same_each_time() -> None:
    z, views = normal(300, 12).float(), normal(3, 50, 12).float()
    found = lf.label_free(z, views.numpy())
    names = {"rows", "rankme", "alpha_req", "feature_std", "uniformity", "alignment", "lidar"}
    assert set(found) == names
    assert all(isinstance(v, float) and math.isfinite(v) for v in found.values())
    assert found == lf.label_free(z.numpy(), views)
    assert set(lf.label_free(z)) == names - {"alignment", "lidar"}


@pytest.mark.parametrize(
    ("z", "views", "told"),
    [
        (torch.full((5, 3), torch.nan), None, "not finite"),
        (torch.ones(1, 3), None, "1 sample"),
        (torch.ones(5), None, "n, D"),
        (torch.ones(5, 3), torch.ones(1, 5, 3), "two views"),
        (torch.ones(5, 3), torch.full((2, 5, 3), torch.inf), "not finite"),
    ],
)
def test_bad_input_is_told(z: torch.Tensor, views: torch.Tensor | None, told: str) -> None:
    with pytest.raises(InputError, match=told):
        lf.label_free(z, views)
