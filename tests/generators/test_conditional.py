"""Conditional diffusion and renoising against what is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swell.data.sparse import SparseRows
from swell.errors import InputError
from swell.generators.conditional import ConditionalDiffusion
from swell.generators.diffusion import Diffusion
from swell.generators.networks import ResidualMLP, UNet

SMALL: dict[str, Any] = {"network": "mlp", "width": 32, "depth": 1, "batch": 64, "device": "cpu"}
SLOPE = np.array([[2.0, 0.0], [1.0, -3.0], [0.0, 0.5]])  # [D, F]
NOISE = np.array([[0.6, 0.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 1.0]])  # its square is the covariance given the code


def toy(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x | c ~ N(SLOPE c + 5, NOISE NOISE^T) for c ~ N(0, I)."""
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((count, 2))
    x = codes @ SLOPE.T + rng.standard_normal((count, 3)) @ NOISE.T + 5
    return x.astype(np.float32), codes.astype(np.float32)


# ---- what is known in closed form -------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["film", "add", "concat"])
def test_gaussian_conditional_is_recovered(condition: Any) -> None:
    """From noise alone: the regression of the drawn samples on their codes has the slope, and what it leaves the
    covariance, that made the data. The anchors are other samples, so nothing of them may show.
    """
    samples, codes = toy(3000)
    model = ConditionalDiffusion(
        condition=condition, network="mlp", width=64, depth=2, dropout=0.0, lr=4e-3, evaluations=20, device="cpu"
    ).fit(samples, codes, steps=600, quiet=True)
    anchors, told = toy(3000, seed=1)
    drawn = model.positives(anchors[::-1], told, 1.0, seed=0)
    design = np.column_stack([told, np.ones(len(told))])
    found = np.linalg.lstsq(design, drawn, rcond=None)[0].T  # [D, F + 1]
    spread = np.sqrt(np.diag(SLOPE @ SLOPE.T + NOISE @ NOISE.T))
    assert np.abs(found[:, :2] - SLOPE).max() < 0.12, found
    assert np.abs(found[:, 2] - 5).max() < 0.12
    left = np.cov((drawn - design @ found.T).T)
    want = NOISE @ NOISE.T
    assert np.abs(left - want).max() < 0.12, left
    assert np.diag(left) == pytest.approx(np.diag(want), rel=0.25)
    assert (np.diag(left) < 0.8 * spread**2).any()  # the code tells something


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.9])
def test_renoised_gaussian_is_the_variance_preserving_mix(strength: float) -> None:
    """The denoiser of a network that answers 0 is that of N(0, 1) in every feature; along its ODE y + sigma n becomes
    (y + sigma n) sigma_data / sqrt(sigma^2 + sigma_data^2) = cos y + sin n.
    """
    samples = np.random.default_rng(0).standard_normal((3000, 3)).astype(np.float32) * [1, 100, 0.01]
    samples = samples.astype(np.float32)
    model = Diffusion(**SMALL, sampler="heun", evaluations=119, sigma_min=0.002).fit(samples, steps=1, quiet=True)
    last = model._ready().network.last
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    made = model.positives(samples, strength, seed=0)
    y, x = (part / samples.std(0) for part in (samples, made))
    c, s = math.cos(strength * math.pi / 2), math.sin(strength * math.pi / 2)
    for j in range(3):
        slope, _ = np.polyfit(y[:, j], x[:, j], 1)
        assert slope == pytest.approx(c, abs=0.04)
        assert (x[:, j] - c * y[:, j]).std() == pytest.approx(s, rel=0.04)
    assert np.abs(np.corrcoef((x - c * y).T) - np.eye(3)).max() < 0.07


def test_weak_positives_come_near_their_anchors() -> None:
    samples, codes = toy(500)
    model = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=30, quiet=True)
    spread = samples.std(0)
    for strength in (1e-6, 1e-3, 0.02):
        made = model.positives(samples, codes, strength, 0)
        assert np.abs((made - samples) / spread).max() < 0.1 + 8 * strength
    np.testing.assert_array_equal(model.positives(samples, codes, 0.0, 0), samples)


def test_what_the_components_leave_out_is_kept_in_part() -> None:
    """Wide vectors are seen through few principal components: the rest of an anchor fades with the strength."""
    rng = np.random.default_rng(0)
    samples = (
        rng.standard_normal((300, 4)) @ rng.standard_normal((4, 40)) + 0.3 * rng.standard_normal((300, 40))
    ).astype(np.float32)
    model = Diffusion(network="pca_mlp", components=4, width=16, depth=1, device="cpu").fit(
        samples, steps=5, quiet=True
    )
    codec = model._ready().codec
    rest = codec.left_out(samples)
    assert float(rest.std()) > 0.05
    for strength in (0.1, 0.6):
        kept = codec.left_out(model.positives(samples, strength, 0))
        slope = float((kept * rest).sum() / rest.square().sum())
        assert slope == pytest.approx(math.cos(strength * math.pi / 2), abs=0.03)
    assert float(codec.left_out(model.positives(samples, 1.0, 0)).std()) < 0.3 * float(rest.std())


# ---- guidance and dropped codes ----------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["film", "add", "concat"])
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
def test_codes_always_dropped_are_no_codes(condition: Any, shape: tuple[int, ...]) -> None:
    """The unconditional generator but for rounding: same weights, same history, same positives, whatever the code."""
    rng = np.random.default_rng(0)
    if len(shape) == 3:
        samples, options = rng.integers(0, 256, (64, *shape), dtype=np.uint8), {"network": "p2_tiny", "width": 8}
    else:
        samples, options = rng.standard_normal((200, *shape)).astype(np.float32), {"network": "mlp", "width": 32}
    codes = rng.standard_normal((len(samples), 3)).astype(np.float32)
    options |= {"depth": 1, "batch": 32, "device": "cpu"}
    plain = Diffusion(**options).fit(samples, seed=4, steps=10, quiet=True)
    told = ConditionalDiffusion(condition=condition, drop=1.0, **options).fit(
        samples, codes, seed=4, steps=10, quiet=True
    )
    losses = [[row["held_out_loss"] for row in model.history] for model in (plain, told)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for strength in (0.4, 1.0):
        with_codes, without = told.positives(samples, codes, strength, 1), plain.positives(samples, strength, 1)
        np.testing.assert_allclose(with_codes.astype(float), without, atol=1e-4 if len(shape) == 1 else 1)
        assert (with_codes != without).mean() < 1e-3 or len(shape) == 1


def test_guidance_is_the_line_through_both_denoisers() -> None:
    samples, codes = toy(400)
    fitted = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=200, quiet=True)
    x, told = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), fitted._told(torch.from_numpy(codes[:50]))

    def at(guidance: float) -> torch.Tensor:
        fitted.options["guidance"] = guidance
        with torch.inference_mode():
            return fitted._guided(told)(x, 0.7)

    free, plain = at(0.0), at(1.0)
    assert (plain - free).abs().max() > 0.02
    for w in (0.5, 1.0 + 1e-7, 3.0):
        torch.testing.assert_close(at(w), free + w * (plain - free), atol=1e-5, rtol=1e-4)
    fitted.options["guidance"] = 0.0
    np.testing.assert_array_equal(
        fitted.positives(samples, codes, 1.0, 0), fitted.positives(samples, codes[::-1].copy(), 1.0, 0)
    )


# ---- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["film", "add", "concat"])
@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_networks_without_a_code_are_what_they_were(condition: Any, kind: str) -> None:
    def make(*told: Any) -> torch.nn.Module:
        torch.manual_seed(0)
        network = ResidualMLP(6, 32, 2, 0.0, *told) if kind == "mlp" else UNet((2, 16, 16), 16, 1, 0.0, 2, *told)
        return network.eval()

    plain, told = make(), make(condition, 3)
    kept = {name: t for name, t in told.state_dict().items() if not name.startswith(("conditioning.", "beside."))}
    assert kept.keys() == plain.state_dict().keys()
    assert all(torch.equal(kept[name], t) for name, t in plain.state_dict().items())
    assert not any("conditioning" in name for name in plain.state_dict())
    for network in (plain, told):
        torch.manual_seed(1)
        for name, p in network.named_parameters():
            if not name.startswith(("conditioning.", "beside.")):
                torch.nn.init.normal_(p, std=0.1)
    torch.manual_seed(2)
    x = torch.randn(4, 6) if kind == "mlp" else torch.randn(4, 2, 16, 16)
    c_noise, code = torch.linspace(-1, 1, 4), torch.randn(4, 3)
    want = plain(x, c_noise)
    assert torch.equal(told(x, c_noise), want)
    assert torch.equal(told(x, c_noise, code), want)  # what comes from the code starts at zero
    for p in told.conditioning.into.parameters():
        torch.nn.init.normal_(p, std=0.5)
    assert torch.equal(told(x, c_noise, code, torch.zeros(4)), want)
    half = told(x, c_noise, code, torch.tensor([1.0, 0, 1, 0]))
    torch.testing.assert_close(half[1::2], want[1::2])
    assert (half[::2] - want[::2]).abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(told(x, c_noise, code)[::2], half[::2])
    x.requires_grad_()
    told(x, c_noise, code).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in told.conditioning.parameters())


# ---- going on, files, refusals -----------------------------------------------------------------------


def test_training_goes_on_from_another() -> None:
    samples, codes = toy(600)
    first = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=300, quiet=True)
    before = {name: t.clone() for name, t in first._ready().network.state_dict().items()}
    second = ConditionalDiffusion(**SMALL).fit(samples, codes, start=first, steps=20, quiet=True)
    assert second.history[0]["held_out_loss"] == pytest.approx(min(r["held_out_loss"] for r in first.history), rel=1e-4)
    assert all(torch.equal(t, before[name]) for name, t in first._ready().network.state_dict().items())
    with pytest.raises(InputError, match="same network"):
        ConditionalDiffusion(**{**SMALL, "width": 16}).fit(samples, codes, start=first, steps=1)
    with pytest.raises(InputError, match="go on from"):
        ConditionalDiffusion(**SMALL).fit(samples, codes[:, :1], start=first, steps=1)


def test_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, codes = toy(200)
    whole = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=40, quiet=True)
    monkeypatch.setattr("swell.generators.conditional.CHECKPOINT_SECONDS", 0.0)
    killed, calls = ConditionalDiffusion(**SMALL), 0

    def kept(batch: int, seed: int, t: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 23:
            raise KeyboardInterrupt
        return ConditionalDiffusion._kept(killed, batch, seed, t)

    monkeypatch.setattr(killed, "_kept", kept)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(samples, codes, steps=40, checkpoint=tmp_path / "t.pt", quiet=True)
    resumed = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=40, checkpoint=tmp_path / "t.pt", quiet=True)
    np.testing.assert_array_equal(resumed.positives(samples, codes, 0.8, 0), whole.positives(samples, codes, 0.8, 0))


def test_sparse_rows_are_learnt_without_being_dense_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.sparse import csr_array

    samples = np.random.default_rng(0).poisson(0.4, (500, 30)).astype(np.float32)
    rows = SparseRows.from_csr(csr_array(samples), np.zeros((1, 30), np.float32))
    monkeypatch.setattr("swell.generators.denoising.ROWS_AT_ONCE", 64)
    codes = samples[:, :2]
    some = ConditionalDiffusion(**SMALL).fit(rows, codes, steps=10, quiet=True)
    same = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=10, quiet=True)
    np.testing.assert_array_equal(some.positives(samples, codes, 0.5, 0), same.positives(samples, codes, 0.5, 0))


def test_what_does_not_fit_is_refused() -> None:
    samples, codes = toy(100)
    for options in (
        {"condition": "flim"},
        {"drop": 1.5},
        {"drop": float("nan")},
        {"guidance": -1.0},
        {"guidance": 2.0, "drop": 0.0},
        {"objective": "stf"},
        {"evaluations": 0},
        {"batch": 0},
    ):
        with pytest.raises(InputError):
            ConditionalDiffusion(**options)  # type: ignore[arg-type]
    model = ConditionalDiffusion(**SMALL)
    with pytest.raises(InputError, match="trained"):
        model.positives(samples, codes, 0.5, 0)
    for bad in (codes[:50], codes[:, 0], np.full_like(codes, np.nan), codes[:, :0]):
        with pytest.raises(InputError, match="codes"):
            model.fit(samples, bad, steps=1, quiet=True)
    with pytest.raises(InputError, match="budget"):
        model.fit(samples, codes)
    with pytest.raises(InputError, match="held_out_codes"):
        model.fit(samples, codes, held_out=samples[:20], steps=1)
    model.fit(samples, codes, steps=1, quiet=True)
    with pytest.raises(InputError, match="row of 2 numbers"):
        model.positives(samples, codes[:, :1], 0.5, 0)


def test_constant_codes_are_no_trouble() -> None:
    samples, codes = toy(100)
    codes[:, 1] = 7
    made = ConditionalDiffusion(**SMALL).fit(samples, codes, steps=3, quiet=True).positives(samples, codes, 0.5, 0)
    assert np.isfinite(made).all()
