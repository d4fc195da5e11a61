"""The diffusion generator: its addressing to the last bit, its files, its learning, its exact resume."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from swell.errors import InputError
from swell.generators.diffusion import Diffusion
from swell.generators.objectives import OBJECTIVES, HeldOutLoss
from swell.generators.quality import judge
from swell.generators.registry import GENERATORS, load_generator, split_held_out

HOOKS = ("sigma_of", "denoise", "loss")


def digits() -> np.ndarray:
    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]
    return images[np.random.default_rng(0).permutation(len(images))]


@pytest.fixture(scope="module")
def fitted() -> Diffusion:
    model = Diffusion(network="mlp", width=128, depth=2, batch=64, lr=4e-3, dropout=0.0, device="cpu")
    return model.fit(digits()[:1257], seed=3, steps=800, quiet=True)


# ---- addressing --------------------------------------------------------------------------------------


def test_sample_depends_on_seed_and_index_to_the_last_bit(fitted: Diffusion) -> None:
    whole = fitted.sample(1000, seed=5)
    assert (whole.dtype, whole.shape) == (np.dtype(np.uint8), (1000, 1, 8, 8))
    for first, count in ((0, 1), (255, 2), (256, 1), (700, 300), (999, 1)):
        np.testing.assert_array_equal(fitted.sample(count, seed=5, first=first), whole[first : first + count])
    assert (fitted.sample(50, seed=6) != whole[:50]).any()
    assert len(np.unique(whole.reshape(1000, -1), axis=0)) == 1000


def test_vectors_are_addressable_to_the_last_bit_too() -> None:
    """Floats show what rounding to bytes would hide."""
    table = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32) * 3 + 7
    model = Diffusion(network="mlp", width=32, depth=1, device="cpu").fit(table, steps=60, quiet=True)
    whole = model.sample(600, seed=1)
    assert (whole.dtype, whole.shape) == (np.dtype(np.float32), (600, 5))
    for first, count in ((0, 1), (31, 2), (300, 300), (599, 1)):
        np.testing.assert_array_equal(model.sample(count, seed=1, first=first), whole[first : first + count])
    np.testing.assert_allclose(whole.mean(0), table.mean(0), atol=0.7)
    np.testing.assert_allclose(whole.std(0), table.std(0), rtol=0.25)


def test_training_is_a_function_of_the_seed_and_leaves_global_randomness_alone(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    made = [
        Diffusion(network="mlp", width=32, depth=1, device="cpu").fit(digits()[:200], seed=seed, steps=20, quiet=True)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    first, again, other = (model.sample(8, seed=0) for model in made)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- learning ----------------------------------------------------------------------------------------


def test_digits_are_learnt_and_beat_shuffled_pixels(fitted: Diffusion) -> None:
    losses = [row["held_out_loss"] for row in fitted.history]
    assert losses[0] > 0.9  # an untrained network is the scalar Gaussian's denoiser
    assert min(losses) < 0.55
    real = digits()[:1257]
    kept, aside = split_held_out(1257, 3)
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(pixel) for pixel in real.reshape(1257, 64).T], axis=1)
    ours = judge(fitted.sample(1257, seed=0), real[kept], real[aside])
    control = judge(shuffled.reshape(real.shape), real[kept], real[aside])
    assert ours["c2st"] < control["c2st"] - 0.08
    assert ours["frechet_ratio"] < control["frechet_ratio"] / 2
    assert (ours["exact_copies"], ours["copy_distance_ratio"] > 0.9) == (0, True)


def test_best_held_out_weights_are_the_ones_kept() -> None:
    """On 40 samples with a long budget the held-out loss rises again; what is kept is the lowest point, not
    the end.
    """
    model = Diffusion(network="mlp", width=128, depth=2, lr=5e-3, dropout=0.0, device="cpu").fit(
        digits()[:40], steps=400, quiet=True
    )
    losses = [row["held_out_loss"] for row in model.history]
    assert losses[-1] > min(losses) * 1.005
    fitted, (_, aside) = model._ready(), split_held_out(40, 0)
    y = fitted.codec.shown(fitted.codec.stored(digits()[:40][aside])) / fitted.unit
    check = HeldOutLoss(model.objective, y, 0)
    assert check(fitted.network)["held_out_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_training_that_only_gets_worse_stops_early() -> None:
    model = Diffusion(network="mlp", width=128, depth=2, lr=5e-3, dropout=0.0, device="cpu")
    model.fit(digits()[:40], steps=1000, quiet=True)
    assert model.history[-1]["step"] < 1000


@pytest.mark.parametrize("objective", [entry.name for entry in OBJECTIVES])
def test_every_objective_learns(objective: str) -> None:
    model = Diffusion(
        objective=objective, network="mlp", width=64, depth=2, batch=64, lr=4e-3, device="cpu", noise_candidates=2
    )
    losses = [row["held_out_loss"] for row in model.fit(digits(), steps=250, quiet=True).history]
    assert min(losses) < max(0.75, losses[0] / 6)  # an untrained DDPM starts far above 1


@pytest.mark.parametrize("objective", ["edm", "stf"])
def test_killed_training_goes_on_as_if_nothing_had_been(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"objective": objective, "network": "mlp", "width": 32, "depth": 1, "batch": 32}
    whole = Diffusion(**options).fit(digits()[:200], steps=60, quiet=True)
    monkeypatch.setattr("swell.generators.diffusion.CHECKPOINT_SECONDS", 0.0)
    killed = Diffusion(**options)
    real_step = killed.objective.loss
    calls = 0

    def loss(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 35:
            raise KeyboardInterrupt
        return real_step(*args)

    monkeypatch.setattr(killed, "objective", SimpleNamespace(**{n: getattr(killed.objective, n) for n in HOOKS}))
    monkeypatch.setattr(killed.objective, "loss", loss)
    file = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        killed.fit(digits()[:200], steps=60, checkpoint=file, quiet=True)
    resumed = Diffusion(**options).fit(digits()[:200], steps=60, checkpoint=file, quiet=True)
    np.testing.assert_array_equal(resumed.sample(20, 0), whole.sample(20, 0))
    assert (resumed.cost.samples_real, resumed.cost.flops) == (whole.cost.samples_real, whole.cost.flops)
    assert [row["held_out_loss"] for row in resumed.history] == [row["held_out_loss"] for row in whole.history]
    with pytest.raises(InputError, match="another training"):
        Diffusion(**options).fit(digits()[:200], steps=61, checkpoint=file, quiet=True)


def test_cost_counts_what_was_done(fitted: Diffusion) -> None:
    assert (fitted.cost.samples_real, fitted.cost.forwards) == (800 * 64, 800 * 64)
    weights = sum(p.numel() for p in fitted._ready().network.parameters() if p.ndim == 2)
    assert fitted.cost.flops == pytest.approx(6 * weights * 800 * 64, rel=0.1)  # 2 forward, 4 backward
    assert fitted.cost.seconds > 0
    model = Diffusion(network="mlp", width=32, depth=1, device="cpu").fit(digits()[:100], steps=3, quiet=True)
    model.sample(300, seed=0)
    assert (model.sampling_cost.samples_generated, model.sampling_cost.forwards) == (300, 512 * 10)
    assert model.sampling_cost.flops > 0


def test_budget_of_seconds_is_kept() -> None:
    model = Diffusion(network="mlp", width=32, depth=1, device="cpu").fit(digits()[:200], seconds=0.5, quiet=True)
    assert 0.5 <= model.history[-1]["seconds"] < 2


@pytest.mark.parametrize("network", ["pca_mlp", "p2_tiny", "p4_tiny", "unet"])
def test_other_networks_train_and_sample(network: Any, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16), dtype=np.uint8)
    model = Diffusion(network=network, width=16, depth=1, batch=16, device="cpu").fit(images, steps=3, quiet=True)
    assert model.sample(3, seed=0).shape == (3, 3, 16, 16)
    model.save(tmp_path / "g.safetensors")
    np.testing.assert_array_equal(
        load_generator(tmp_path / "g.safetensors").sample(2, 0, first=31), model.sample(33, 0)[31:]
    )


def test_choice_of_network() -> None:
    model = Diffusion(device="cpu")
    chosen = [model.network_for(shape) for shape in ((1, 8, 8), (1, 9, 9), (3, 32, 32), (3, 64, 64), (9,), (2000,))]
    assert chosen == ["p2_tiny", "mlp", "p4_tiny", "pca_mlp", "mlp", "pca_mlp"]
    assert Diffusion(network="p2_192", device="cpu").network_for((3, 32, 32)) == "p2_192"


# ---- files and refusals ------------------------------------------------------------------------------


def test_saved_generator_draws_the_same_samples(fitted: Diffusion, tmp_path: Path) -> None:
    fitted.save(tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors")
    np.testing.assert_array_equal(loaded.sample(40, seed=2, first=11), fitted.sample(40, seed=2, first=11))
    assert loaded.sampler_settings() == fitted.sampler_settings()
    assert loaded.options == fitted.options


def test_files_that_are_no_generators_are_refused(fitted: Diffusion, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    with pytest.raises(InputError, match="exists"):
        load_generator(path)
    fitted.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="whole"):
        load_generator(path)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="written by swell"):
        load_generator(path)
    save_file({"w": torch.zeros(2)}, path, metadata={"swell": '{"generator": "diffusion", "options": {}}'})
    with pytest.raises(InputError, match="again"):
        load_generator(path)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros((0, 1, 8, 8), np.uint8), "0 samples"),
        (digits()[:15], "15 samples"),
        (np.full((50, 1, 8, 8), 9, np.uint8), "all the same"),
        (np.full((50, 3), np.nan, np.float32), "NaN"),
        (np.full((50, 3), 2.5, np.float32), "all the same"),
    ],
)
def test_data_nothing_can_be_learnt_from_are_refused(samples: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Diffusion(device="cpu").fit(samples, steps=5, quiet=True)
    assert "\n" not in str(caught.value)


def test_wrong_settings_are_refused() -> None:
    for options in (
        {"network": "unnet"},
        {"sampler": "euler2"},
        {"evaluations": 0},
        {"objective": "emd"},
        {"decay": "cos"},
    ):
        with pytest.raises(InputError):
            Diffusion(**options)  # type: ignore[arg-type]
    for budget in ({}, {"steps": 0}, {"steps": -5}, {"seconds": 0.0}):
        with pytest.raises(InputError, match="budget"):
            Diffusion(device="cpu").fit(digits()[:50], quiet=True, **budget)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trained"):
        Diffusion().sample(3, seed=0)
    with pytest.raises(InputError, match="vectors"):
        Diffusion(network="unet", device="cpu").fit(
            np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32), steps=1
        )
    with pytest.raises(InputError, match="did you mean 'diffusion'"):
        GENERATORS["difusion"]
