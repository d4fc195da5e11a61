"""Networks keep shapes, start at zero and can learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from swell.errors import InputError
from swell.generators.networks import ResidualMLP, UNet


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 16), (4, 10, 14)])
def test_unet_keeps_the_shape_starts_at_zero_and_every_weight_learns(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = UNet(shape, features=16, depth=1, dropout=0.0)
    x, c_noise = torch.randn(2, *shape), torch.tensor([-1.0, 0.5])
    assert network(x, c_noise).shape == x.shape
    assert network(x, c_noise).abs().max() == 0
    for _ in range(5):  # zeroed layers pass gradients on only once they have moved
        network.zero_grad()
        F.mse_loss(network(x, c_noise), x).backward()
        with torch.no_grad():
            for p in network.parameters():
                assert p.grad is not None
                p -= 0.05 * p.grad
    still = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert still == []


def test_unet_of_32_pixels_works_on_16x16x12_and_has_the_planned_size() -> None:
    """P2-128 of the cost table: 16.4 M parameters and 1.61 GMAC."""
    with torch.device("meta"):
        network = UNet((3, 32, 32))
    assert network.first.in_channels == 12
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(16.4e6, rel=0.1)


@pytest.mark.parametrize("shape", [(3, 15, 16), (3, 16, 17), (3, 6, 6)])
def test_unet_refuses_sides_it_cannot_fold(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="pca_mlp"):
        UNet(shape)


def test_networks_see_the_noise_level() -> None:
    torch.manual_seed(0)
    for network, x in (
        (ResidualMLP(5, 32, 2), torch.randn(1, 5)),
        (UNet((1, 8, 8), 16, 1), torch.randn(1, 1, 8, 8)),
    ):
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.1)
        network.eval()
        assert not torch.allclose(network(x, torch.tensor([-1.5])), network(x, torch.tensor([1.0])), atol=1e-4)
