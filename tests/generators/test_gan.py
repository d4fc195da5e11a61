"""The GAN: its losses worked by hand and by finite differences, its augmentation, its learning without collapse."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swell.data.open import open_data
from swell.errors import InputError
from swell.generators import gan
from swell.generators.controls import Shuffled
from swell.generators.fitting import Training, run_training
from swell.generators.gan import (
    GAN,
    augment,
    conv_pair,
    critic_loss,
    generator_loss,
    halvings,
    relativistic_loss,
    squared_gradient,
    squared_mmd,
)
from swell.generators.metrics import frechet_distance
from swell.testing import example_samples

REAL = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
FAKE = torch.tensor([[0.5, -1.0], [3.0, 1.0]], dtype=torch.float64)


# ---- losses ------------------------------------------------------------------------------------------


def test_losses_worked_by_hand() -> None:
    """D(x) = 2 x_1 - x_2: real 2, -2; generated 2, 5; |dD/dx|^2 = 5 everywhere."""

    def critic(x: Tensor) -> Tensor:
        return x @ torch.tensor([2.0, -1.0], dtype=torch.float64)

    pairs = [2.0 - 2.0, -2.0 - 5.0]  # real less generated
    of_critic = sum(math.log(1 + math.exp(-d)) for d in pairs) / 2
    of_generator = sum(math.log(1 + math.exp(d)) for d in pairs) / 2
    assert float(critic_loss(critic, REAL, FAKE, 0.0).detach()) == pytest.approx(of_critic, rel=1e-12)
    assert float(critic_loss(critic, REAL, FAKE, 0.3).detach()) == pytest.approx(
        of_critic + 0.3 / 2 * (5 + 5), rel=1e-12
    )
    assert float(generator_loss(critic, REAL, FAKE)) == pytest.approx(of_generator, rel=1e-12)


def small_critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 7), nn.Tanh(), nn.Linear(7, 1)).double()


def test_penalties_are_the_squared_gradients_by_finite_differences() -> None:
    net, h = small_critic(), 1e-6

    def critic(x: Tensor) -> Tensor:
        return net(x)[:, 0]

    def by_differences(x: Tensor) -> Tensor:
        steps = h * torch.eye(2, dtype=torch.float64)
        return sum((((critic(x + e) - critic(x - e)) / (2 * h)) ** 2 for e in steps), torch.zeros(2)).detach()

    x = REAL.clone().requires_grad_()
    torch.testing.assert_close(squared_gradient(critic(x), x).detach(), by_differences(REAL), rtol=1e-6, atol=1e-9)
    expected = (by_differences(REAL).mean() + by_differences(FAKE).mean()) / 2
    gap = critic_loss(critic, REAL, FAKE, 1.0) - critic_loss(critic, REAL, FAKE, 0.0)
    torch.testing.assert_close(gap.detach(), expected, rtol=1e-6, atol=1e-9)


def test_penalty_teaches_the_critic() -> None:
    """Its derivative by the weights (a second derivative) against finite differences."""
    net = small_critic()

    def loss(weight: Tensor) -> Tensor:
        layers = {"0.weight": weight}
        return critic_loss(lambda x: torch.func.functional_call(net, layers, (x,))[:, 0], REAL, FAKE, 2.0)

    assert torch.autograd.gradcheck(loss, (net[0].weight.detach().clone().requires_grad_(),))


def test_equal_samples_are_an_equilibrium_and_dropped_modes_pull() -> None:
    """A critic with one value a place, real samples at places 0 and 1."""
    real = torch.eye(2, dtype=torch.float64)
    values = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for fake, pull in ((real, 0.0), (real[:1].expand(2, 2), 1.0)):
        d_real, d_fake = real @ values, fake @ values
        (slope,) = torch.autograd.grad(relativistic_loss(d_real, d_fake), values)
        assert float(-slope[1]) == pytest.approx(pull / 4)  # the mean over two of sigmoid(0)
        assert float(slope.sum()) == 0
    fake = real[:1].expand(2, 2).clone().requires_grad_()
    (way,) = torch.autograd.grad(generator_loss(lambda x: x @ torch.tensor([0.0, 1.0]).double(), real, fake), fake)
    assert (way[:, 1] < 0).all()  # downhill leads to the dropped place


def test_critic_values_cannot_drift() -> None:
    d = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(relativistic_loss(d[0] + 100, d[1] + 100), relativistic_loss(d[0], d[1]))


def test_discrepancy_by_all_pairs_and_what_it_sees() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((6, 2)), rng.standard_normal((5, 2)) + 1

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return sum(math.exp(-((x - y) ** 2).sum() / (2 * 3.0 * width**2)) for width in gan.WIDTHS)

    among_a = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    among_b = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    between = np.mean([k(x, y) for x in a for y in b])
    got = squared_mmd(torch.from_numpy(a), torch.from_numpy(b), 3.0)
    assert got == pytest.approx(among_a + among_b - 2 * between, rel=1e-9)
    signs, normal, other = (torch.from_numpy(rng.standard_normal((1500, 1))) for _ in range(3))
    assert abs(squared_mmd(normal, other, 2.0)) < 0.01
    assert squared_mmd(signs.sign(), normal, 2.0) > 0.5  # equal mean and variance


# ---- augmentation ------------------------------------------------------------------------------------


def test_grey_images_are_moved_and_partly_blanked_only() -> None:
    torch.manual_seed(0)
    x = torch.rand(40, 1, 16, 16) + 1
    made = augment(x)
    moved = set()
    for before, after in zip(x[:, 0], made[:, 0], strict=True):
        fits = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                shifted = torch.zeros(20, 20)
                shifted[2 + dy : 18 + dy, 2 + dx : 18 + dx] = before
                shifted = shifted[2:18, 2:18]
                if ((after == shifted) | (after == 0)).all():
                    fits.append((dy, dx))
        assert len(fits) == 1
        moved.add(fits[0])
        assert 0.3 < (after > 0).float().mean() < 1
    assert len(moved) > 10
    x.requires_grad_()
    augment(x).sum().backward()
    assert set(x.grad.unique().tolist()) == {0.0, 1.0}


def test_colours_change_smoothly_and_differ_from_image_to_image() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16).expand(8, 3, 16, 16).clone().requires_grad_()
    made = augment(x)
    assert made.shape == x.shape
    assert len({tuple(row.flatten()[:2000].tolist()) for row in made}) == 8
    made.square().sum().backward()
    assert (x.grad != 0).float().mean() > 0.5


# ---- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "times"),
    [
        ((3, 16, 16), 2),
        ((1, 28, 28), 2),
        ((3, 32, 48), 3),
        ((3, 64, 64), 4),
        ((1, 8, 8), 0),
        ((1, 17, 17), 0),
        ((3, 128, 128), 0),
        ((50,), 0),
    ],
)
def test_convolutional_pair_fits_its_images(shape: tuple[int, ...], times: int) -> None:
    assert halvings(shape) == times
    if times:
        generator, critic = conv_pair(5, shape, width=2)
        assert critic(generator(torch.randn(3, 5))).shape == (3, 1)
        assert generator(torch.randn(3, 5)).shape == (3, *shape)


# ---- learning ----------------------------------------------------------------------------------------


def test_every_mode_is_learnt() -> None:
    """Eight narrow Gaussians on a ring, the classic that GANs lose modes on."""
    rng = np.random.default_rng(0)
    angles = 2 * np.pi * rng.integers(0, 8, 2000) / 8
    ring = np.stack([np.cos(angles), np.sin(angles)], 1) + 0.03 * rng.standard_normal((2000, 2))
    model = GAN(width=64, device="cpu").fit(ring.astype(np.float32), steps=2000, quiet=True)
    drawn = model.sample(2000, seed=0)
    modes = np.stack([np.cos(np.pi / 4 * np.arange(8)), np.sin(np.pi / 4 * np.arange(8))], 1)
    distance = np.linalg.norm(drawn[:, None] - modes, axis=2)
    near = distance.min(1) < 0.2
    assert near.mean() > 0.6
    assert (np.bincount(distance[near].argmin(1), minlength=8) > 2000 / 8 / 3).all()


def test_digits_beat_shuffled_pixels() -> None:
    digits = open_data("builtin:digits").samples
    train, unseen = digits[:1000], digits[1000:]
    made = {}
    for model in (GAN(width=64, device="cpu"), Shuffled()):
        model.fit(train, held_out=unseen, steps=600, quiet=True)
        made[model.name] = model.sample(257, seed=0)
    flat = {name: torch.from_numpy(x.reshape(257, 64) / 16.0) for name, x in {**made, "real": unseen}.items()}
    distances = {name: frechet_distance(flat[name], flat["real"]) for name in made}
    assert distances["gan"] < distances["shuffled"] / 3
    assert len(np.unique(made["gan"].reshape(257, -1), axis=0)) == 257


def test_best_look_is_kept() -> None:
    model = GAN(width=16, device="cpu").fit(example_samples("vectors"), steps=300, quiet=True)
    losses = [row["held_out_loss"] for row in model.history]
    assert min(losses) < losses[0]
    assert len(losses) == 21  # no early stop
    assert all(math.isfinite(row["train_loss"]) for row in model.history[1:])


def test_interrupted_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = example_samples("grey 8x8")
    whole = GAN(width=16, device="cpu").fit(samples, steps=40, quiet=True)
    monkeypatch.setattr(gan, "run_training", functools.partial(run_training, checkpoint_seconds=0.0))
    set_rates = Training.set_rates

    def stop(training: Training, share: float) -> None:
        if training.step == 10:
            raise KeyboardInterrupt
        set_rates(training, share)

    monkeypatch.setattr(Training, "set_rates", stop)
    path = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        GAN(width=16, device="cpu").fit(samples, steps=40, checkpoint=path, quiet=True)
    monkeypatch.setattr(Training, "set_rates", set_rates)
    resumed = GAN(width=16, device="cpu").fit(samples, steps=40, checkpoint=path, quiet=True)
    np.testing.assert_array_equal(resumed.sample(300, seed=0), whole.sample(300, seed=0))
    assert resumed.cost.samples_real == whole.cost.samples_real
    with pytest.raises(InputError, match="another training"):
        GAN(width=16, device="cpu").fit(samples, steps=41, checkpoint=path, quiet=True)


def test_convolutional_pair_trains_on_augmented_images() -> None:
    model = GAN(width=4, batch=16, augment=True, device="cpu").fit(
        example_samples("colour 16x16"), steps=30, quiet=True
    )
    assert model.sampler_settings()["convolves"]
    assert all(math.isfinite(row["held_out_loss"]) for row in model.history)
    assert model.cost.flops > 0


def test_wrong_settings_are_refused() -> None:
    for options in ({"width": 0}, {"latent": 0}, {"batch": 0}, {"gamma": -1.0}, {"gamma": math.nan}):
        with pytest.raises(InputError):
            GAN(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="budget"):
        GAN(device="cpu").fit(example_samples("vectors"), quiet=True)
    with pytest.raises(InputError, match="augment"):
        GAN(augment=True, device="cpu").fit(example_samples("vectors"), steps=1, quiet=True)
