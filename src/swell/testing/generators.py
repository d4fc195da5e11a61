"""What every generator promises."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from swell.errors import InputError
from swell.generators.registry import FEWEST_SAMPLES, Generator
from swell.testing.examples import example_samples, require

DRAWN = 600  # samples that calls of all sizes are compared with
CALLS = ((599, 1), (0, 1), (31, 2), (255, 3), (300, 300), (63, 130))  # (first, count)


def check_generator(make: Callable[[], Generator], samples: np.ndarray | None = None, *, steps: int = 20) -> None:
    """Whether the generators that `make` returns keep the protocol of `swell.generators.Generator`.

    Args:
        make: returns a new, untrained generator.
        samples: what to learn, uint8 [N, C, H, W] or float32 [N, D], at least 50; `example_samples` of every
            kind where it is None.
        steps: the budget of each of the trainings (three a data set).

    Raises:
        AssertionError: with one sentence that says which promise is broken.
    """
    if samples is None:
        for name in ("grey 8x8", "colour 16x16", "vectors"):
            check_generator(make, example_samples(name), steps=steps)
        return
    _check_refusals(make, samples)
    before, given = torch.random.get_rng_state(), samples.copy()
    model = _fitted(make, samples, steps)
    drawn = model.sample(DRAWN, seed=5)
    require(torch.equal(before, torch.random.get_rng_state()), "fit or sample has used torch's global randomness")
    require(np.array_equal(samples, given), "fit has changed the samples it was given")
    _check_samples(drawn, samples)
    _check_addressing(model, drawn)
    _check_costs(model)
    _check_file(model, drawn)
    again = _fitted(make, samples, steps).sample(DRAWN, seed=5)
    require(np.array_equal(again, drawn), "two fits with the same seed draw different samples")
    own = samples.copy()
    model = make().fit(own, held_out=samples[-10:], seed=3, steps=steps, quiet=True)
    drawn = model.sample(DRAWN, seed=5)
    own[:] = own[0]
    require(np.array_equal(model.sample(DRAWN, seed=5), drawn), "samples change when the array given to fit does")


def _refused(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except InputError:
        return
    raise AssertionError(f"{what} must raise InputError and did not")


def _fitted(make: Callable[[], Generator], samples: np.ndarray, steps: int) -> Generator:
    model = make()
    require(model.fit(samples, seed=3, steps=steps, quiet=True) is model, "fit must return the generator itself")
    return model


def _check_refusals(make: Callable[[], Generator], samples: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.safetensors"
        _refused(lambda: make().sample(1, seed=0), "sample before fit")
        _refused(lambda: make().save(path), "save before fit")
        _refused(lambda: type(make()).load(path), "load of a missing file")
        path.write_bytes(b"no generator")
        _refused(lambda: type(make()).load(path), "load of a file that holds something else")
    bad = {
        "no samples": samples[:0],
        f"{FEWEST_SAMPLES - 1} samples": samples[: FEWEST_SAMPLES - 1],
        "samples that are all the same": np.repeat(samples[:1], 50, axis=0),
    }
    if samples.ndim == 2:
        for value in (np.nan, np.inf):
            bad[f"vectors with {value}"] = np.where(np.arange(len(samples))[:, None] == 3, np.float32(value), samples)
    for what, data in bad.items():
        _refused(lambda data=data: make().fit(data, steps=1, quiet=True), f"fit on {what}")  # type: ignore[misc]


def _check_samples(drawn: np.ndarray, samples: np.ndarray) -> None:
    expected = (samples.dtype, (DRAWN, *samples.shape[1:]))
    require((drawn.dtype, drawn.shape) == expected, f"samples are {drawn.dtype}{list(drawn.shape)}, not {expected}")
    require(bool(np.isfinite(drawn).all()), "samples hold NaN or infinite values")
    inside = (drawn >= samples.min(0)) & (drawn <= samples.max(0)) if samples.ndim == 2 else np.ones(1, bool)
    require(bool(inside.all()), "features lie outside the range that the data have")


def _check_addressing(model: Generator, drawn: np.ndarray) -> None:
    for first, count in CALLS:
        part = model.sample(count, seed=5, first=first)
        same = np.array_equal(part, drawn[first : first + count])
        require(same, f"samples {first} .. {first + count - 1} depend on how many are drawn at once")
    constant = bool((drawn == drawn[:1]).all())
    require(constant or not np.array_equal(model.sample(DRAWN, seed=6), drawn), "another seed draws the same samples")
    _refused(lambda: model.sample(0, seed=5), "a draw of 0 samples")
    _refused(lambda: model.sample(1, seed=5, first=-1), "a draw from sample -1 on")


def _check_costs(model: Generator) -> None:
    require(model.cost.seconds > 0, "cost.seconds is not filled by fit")
    require(model.cost.samples_real > 0, "cost.samples_real is not filled by fit")
    before = model.sampling_cost.samples_generated
    model.sample(7, seed=0)
    require(model.sampling_cost.seconds > 0, "sampling_cost.seconds is not filled by sample")
    require(model.sampling_cost.samples_generated == before + 7, "sampling_cost.samples_generated is not their number")
    for row in model.history:
        missing = {"step", "seconds", "train_loss", "held_out_loss"} - row.keys()
        require(not missing, f"a row of the history lacks {', '.join(sorted(missing))}")


def _check_file(model: Generator, drawn: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.safetensors"
        model.save(path)
        loaded = type(model).load(path, str(getattr(model, "device", "auto")))
    require(np.array_equal(loaded.sample(DRAWN, seed=5), drawn), "the loaded generator draws other samples")
    require(loaded.sampler_settings() == model.sampler_settings(), "the loaded generator has other sampler settings")
    require(loaded.options == model.options, "the loaded generator has other options")
    plain = json.loads(json.dumps([model.options, model.sampler_settings()]))
    require(plain == [model.options, model.sampler_settings()], "options or sampler settings do not survive JSON")
