"""What every generator that makes positives promises."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swell.errors import InputError
from swell.testing.examples import example_samples, require

ROUNDING = 1e-4  # of a feature's range, and the share of bytes that may differ by rounding
MADE = 64  # positives that batches of all kinds are compared with


def check_positives(
    make: Callable[[], Any],
    samples: np.ndarray | None = None,
    codes: np.ndarray | None = None,
    *,
    steps: int = 20,
    control: bool = False,
) -> None:
    """Whether the generators that `make` returns keep what `swell.generators.Generator.positives` promises.

    Args:
        make: returns a new, untrained generator.
        samples: what to learn, uint8 [N, C, H, W] or float32 [N, D], at least 64; `example_samples` of every kind
            where it is None.
        codes: float32 [N, F] for a generator that is told codes, by fit(samples, codes) and
            positives(samples, codes, ...).
        steps: the budget of the training (one a data set).
        control: its positives do not depend on the strength, as those of zeros and copies.

    Raises:
        AssertionError: with one sentence that says which promise is broken.
    """
    if samples is None:
        for name in ("grey 8x8", "colour 16x16", "vectors"):
            check_positives(make, example_samples(name), codes, steps=steps, control=control)
        return
    _refused(lambda: _Made(make(), samples, codes)(0.5), "positives before fit")
    model = make().fit(*_with(samples, codes), seed=3, steps=steps, quiet=True)
    made = _Made(model, samples[:MADE].copy(), None if codes is None else codes[:MADE])
    before = torch.random.get_rng_state()
    whole = made(0.7)
    require(torch.equal(before, torch.random.get_rng_state()), "positives has used torch's global randomness")
    require(np.array_equal(made.samples, samples[:MADE]), "positives has changed the samples it was given")
    expected = (samples.dtype, made.samples.shape)
    require((whole.dtype, whole.shape) == expected, f"positives are {whole.dtype}{list(whole.shape)}, not {expected}")
    require(bool(np.isfinite(whole).all()), "positives hold NaN or infinite values")
    require(np.array_equal(made(0.0), made.samples), "at strength 0 a positive is not its anchor")
    _check_addressing(made, whole)
    _check_strength(made, control)
    _check_refusals(made)
    count = model.sampling_cost.samples_generated
    made(0.7)
    require(model.sampling_cost.samples_generated == count + MADE, "sampling_cost does not count the positives")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.safetensors"
        model.save(path)
        loaded = type(model).load(path, str(getattr(model, "device", "auto")))
    again = _Made(loaded, made.samples, made.codes)(0.7)
    require(np.array_equal(again, whole), "the loaded generator makes other positives")


class _Made:
    """made(strength, ...) -> positives of the same samples, or of some of them."""

    def __init__(self, model: Any, samples: np.ndarray, codes: np.ndarray | None) -> None:
        self.model, self.samples, self.codes = model, samples, codes

    def __call__(self, strength: float, seed: int = 5, places: np.ndarray | None = None, **how: Any) -> np.ndarray:
        samples, codes = self.samples, self.codes
        if places is not None:
            samples, codes = samples[places], None if codes is None else codes[places]
            how = {"rows": places, **how}
        made: np.ndarray = self.model.positives(*_with(samples, codes), strength, seed, **how)
        return made


def _with(samples: np.ndarray, codes: np.ndarray | None) -> tuple[np.ndarray, ...]:
    return (samples,) if codes is None else (samples, codes)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the last rounding of a network."""
    if a.dtype == np.uint8:
        return float((a != b).mean()) <= 20 * ROUNDING
    return bool((np.abs(a - b) <= ROUNDING * (1e-12 + np.ptp(b, axis=0))).all()) if len(b) > 1 else True


def _check_addressing(made: _Made, whole: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for places in (np.arange(MADE)[::-1], rng.permutation(MADE)[:17], np.array([3, 3, 40])):
        part = made(0.7, places=places)
        filled = whole.copy()
        filled[places] = part
        require(_same(filled, whole), "a positive depends on the batch it is made in")
    moved = made(0.7, rows=np.arange(MADE) + 1000)
    constant = bool((whole == whole[:1]).all()) or np.array_equal(whole, made.samples)
    require(constant or not _same(moved, whole), "samples with other row numbers get the same randomness")
    require(constant or not _same(made(0.7, seed=6), whole), "another seed makes the same positives")
    require(constant or not _same(made(0.7, number=1), whole), "positives 0 and 1 of a sample are the same")


def _check_strength(made: _Made, control: bool) -> None:
    def distance(strength: float) -> float:
        difference = made(strength).astype(np.float64) - made.samples
        return float(np.square(difference / (1e-12 + np.ptp(made.samples, axis=0))).mean())

    weak, strong = distance(0.1), distance(1.0)
    if control:
        require(weak == strong, "a control's positives depend on the strength")
    else:
        require(weak < strong, "positives do not go further from their anchors as the strength grows")


def _check_refusals(made: _Made) -> None:
    for strength in (-0.1, 1.1, float("nan")):
        _refused(lambda strength=strength: made(strength), f"strength {strength}")  # type: ignore[misc]
    _refused(lambda: made(0.5, rows=np.arange(3)), "fewer rows than samples")
    _refused(lambda: made(0.5, rows=np.arange(MADE) - 1), "row -1")
    _refused(lambda: made(0.5, number=-1), "positive -1")
    _refused(lambda: _Made(made.model, made.samples[:, :-1], made.codes)(0.5), "samples of another shape")


def _refused(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except InputError:
        return
    raise AssertionError(f"{what} must raise InputError and did not")
