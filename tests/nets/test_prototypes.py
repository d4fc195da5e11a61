"""Prototypes: cosines with unit rows, frozen or not, exact under autocast."""

import numpy as np
import pytest
import torch

from swell.errors import InputError
from swell.nets.prototypes import Prototypes


@pytest.mark.parametrize("weight_norm", [False, True])
def test_scores_are_cosines_whatever_the_length_of_z(weight_norm):
    torch.manual_seed(0)
    prototypes = Prototypes(5, 7, weight_norm)
    z = torch.randn(2, 3, 5)
    w, x = prototypes.weight.detach().double().numpy(), z.double().numpy()
    expected = np.array([[[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in w] for a in view] for view in x])
    for scale in (1.0, 1e3):
        torch.testing.assert_close(
            prototypes(scale * z).detach().double(), torch.from_numpy(expected), atol=1e-6, rtol=0
        )


def test_weight_norm_divides_by_the_length_of_the_rows():
    prototypes = Prototypes(5, 7, weight_norm=True)
    z = torch.randn(4, 5)
    before = prototypes(z)
    with torch.no_grad():
        prototypes.weight.mul_(torch.linspace(0.1, 9, 7).unsqueeze(1))
    torch.testing.assert_close(prototypes(z), before)


def test_renormalise_makes_rows_unit_and_keeps_their_direction():
    prototypes = Prototypes(5, 7)
    w = prototypes.weight.detach().clone()
    with torch.no_grad():
        prototypes.weight.mul_(3)
    prototypes.renormalise()
    torch.testing.assert_close(prototypes.weight.detach(), w)


def test_frozen_stops_the_gradient_at_the_prototypes_only():
    prototypes, z = Prototypes(5, 7), torch.randn(4, 5, requires_grad=True)
    prototypes(z, frozen=True).sum().backward()
    assert prototypes.weight.grad is None
    assert z.grad.any()
    prototypes(z).sum().backward()
    assert prototypes.weight.grad.any()


def test_scores_are_full_precision_under_autocast():
    prototypes, z = Prototypes(64, 10), torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        scores = prototypes(z)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, prototypes(z))


def test_one_prototype_is_refused():
    with pytest.raises(InputError, match="prototypes 1: expected at least 2"):
        Prototypes(5, 1)
