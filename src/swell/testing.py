"""What everything of one kind promises, as a function to call in your own tests.

>>> from swell.testing import check_generator, check_method
>>> check_generator(MyGenerator)  # doctest: +SKIP
>>> check_method(MyMethod)  # doctest: +SKIP
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.generators.registry import FEWEST_SAMPLES, Generator
from swell.methods.registry import Method, Views
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig
from swell.views.render import render

__all__ = ["check_generator", "check_method", "example_samples", "example_views"]

DRAWN = 600  # samples that calls of all sizes are compared with
CALLS = ((599, 1), (0, 1), (31, 2), (255, 3), (300, 300), (63, 130))  # (first, count)


def example_samples(name: str, count: int = 96) -> np.ndarray:
    """Small data that differ from sample to sample: "grey 8x8", "colour 16x16" or "vectors"."""
    rng = np.random.default_rng(0)
    if name == "vectors":
        rows = rng.standard_normal((count, 3)) @ rng.standard_normal((3, 6)) * [1, 10, 0.1, 1, 1, 1]
        return np.asarray(rows, dtype=np.float32)
    channels, side = {"grey 8x8": (1, 8), "colour 16x16": (3, 16)}[name]
    y, x = np.mgrid[:side, :side] / side
    a, b, c = rng.uniform(-1, 1, (3, count, channels, 1, 1))
    waves = np.sin(4 * (a * x + b * y) + 3 * c) + 0.1 * rng.standard_normal((count, channels, side, side))
    return (127.5 + 100 * waves).clip(0, 255).astype(np.uint8)


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
    _require(torch.equal(before, torch.random.get_rng_state()), "fit or sample has used torch's global randomness")
    _require(np.array_equal(samples, given), "fit has changed the samples it was given")
    _check_samples(drawn, samples)
    _check_addressing(model, drawn)
    _check_costs(model)
    _check_file(model, drawn)
    again = _fitted(make, samples, steps).sample(DRAWN, seed=5)
    _require(np.array_equal(again, drawn), "two fits with the same seed draw different samples")
    own = samples.copy()
    model = make().fit(own, held_out=samples[-10:], seed=3, steps=steps, quiet=True)
    drawn = model.sample(DRAWN, seed=5)
    own[:] = own[0]
    _require(np.array_equal(model.sample(DRAWN, seed=5), drawn), "samples change when the array given to fit does")


def _require(kept: bool, sentence: str) -> None:
    if not kept:
        raise AssertionError(sentence)


def _refused(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except InputError:
        return
    raise AssertionError(f"{what} must raise InputError and did not")


def _fitted(make: Callable[[], Generator], samples: np.ndarray, steps: int) -> Generator:
    model = make()
    _require(model.fit(samples, seed=3, steps=steps, quiet=True) is model, "fit must return the generator itself")
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
    _require((drawn.dtype, drawn.shape) == expected, f"samples are {drawn.dtype}{list(drawn.shape)}, not {expected}")
    _require(bool(np.isfinite(drawn).all()), "samples hold NaN or infinite values")
    inside = (drawn >= samples.min(0)) & (drawn <= samples.max(0)) if samples.ndim == 2 else np.ones(1, bool)
    _require(bool(inside.all()), "features lie outside the range that the data have")


def _check_addressing(model: Generator, drawn: np.ndarray) -> None:
    for first, count in CALLS:
        part = model.sample(count, seed=5, first=first)
        same = np.array_equal(part, drawn[first : first + count])
        _require(same, f"samples {first} .. {first + count - 1} depend on how many are drawn at once")
    constant = bool((drawn == drawn[:1]).all())
    _require(constant or not np.array_equal(model.sample(DRAWN, seed=6), drawn), "another seed draws the same samples")
    _refused(lambda: model.sample(0, seed=5), "a draw of 0 samples")
    _refused(lambda: model.sample(1, seed=5, first=-1), "a draw from sample -1 on")


def _check_costs(model: Generator) -> None:
    _require(model.cost.seconds > 0, "cost.seconds is not filled by fit")
    _require(model.cost.samples_real > 0, "cost.samples_real is not filled by fit")
    before = model.sampling_cost.samples_generated
    model.sample(7, seed=0)
    _require(model.sampling_cost.seconds > 0, "sampling_cost.seconds is not filled by sample")
    _require(model.sampling_cost.samples_generated == before + 7, "sampling_cost.samples_generated is not their number")
    for row in model.history:
        missing = {"step", "seconds", "train_loss", "held_out_loss"} - row.keys()
        _require(not missing, f"a row of the history lacks {', '.join(sorted(missing))}")


def _check_file(model: Generator, drawn: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.safetensors"
        model.save(path)
        loaded = type(model).load(path, str(getattr(model, "device", "auto")))
    _require(np.array_equal(loaded.sample(DRAWN, seed=5), drawn), "the loaded generator draws other samples")
    _require(loaded.sampler_settings() == model.sampler_settings(), "the loaded generator has other sampler settings")
    _require(loaded.options == model.options, "the loaded generator has other options")
    plain = json.loads(json.dumps([model.options, model.sampler_settings()]))
    _require(plain == [model.options, model.sampler_settings()], "options or sampler settings do not survive JSON")


# Methods

BATCH, WIDTH = 24, 16  # samples of a batch and features of each, in check_method
LEARNING_STEPS = 80


class _Net(nn.Module):
    """Vectors [N, WIDTH] -> features; no batch norm, so that pieces of a batch can be compared with the whole."""

    features = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, self.features))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def check_method(make: Callable[[], Method]) -> None:
    """Whether the methods that `make` returns keep the promises of `swell.methods.Method`, on vectors and on images.

    Args:
        make: returns the method; a class will do. Small heads make it quick.

    Raises:
        AssertionError: with one sentence that says which promise is broken.
    """
    before = torch.random.get_rng_state()
    try:
        for progress in (0.0, 0.5, 1.0):  # whatever is frozen, filled or warmed up is so at one of these
            _check_symmetries(make, progress)
            _check_pieces(make, progress)
        _check_precision(make)
        _check_temperatures(make)
        _check_collapse(make)
        _check_state(make)
        _check_learning(make)
        _check_images(make)
    finally:
        torch.random.set_rng_state(before)


def example_views(method: Method, seed: int = 0, noise: float = 0.3, distinct: bool = True) -> Views:
    """Views of `BATCH` vectors [BATCH, WIDTH] in the groups of the method's own plan: the vector plus noise."""
    g = torch.Generator().manual_seed(seed)
    samples = torch.randn(BATCH, WIDTH, generator=g) if distinct else torch.ones(BATCH, WIDTH)
    plan = method.views((3, 32, 32))
    groups = [
        samples.repeat(group.count, 1) + noise * torch.randn(group.count * BATCH, WIDTH, generator=g)
        for group in plan.groups
    ]
    return Views(tuple(groups), tuple(group.role for group in plan.groups), BATCH)


def _assembled(make: Callable[[], Method], steps: int = 3) -> tuple[Method, nn.Module, nn.ModuleDict]:
    """A method, a net and parts that have seen `steps` batches, so that queues and teachers hold something."""
    torch.manual_seed(0)
    method, net = make(), _Net()
    parts = method.parts(net)  # type: ignore[arg-type]
    for t in range(steps):
        kept = method.loss(net, parts, example_views(method, 100 + t), 0.5).kept
        method.after_step(net, parts, kept, 0.5)
    return method, net, parts


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return bool((a - b).abs().max() <= tolerance * (1 + b.abs().max()))


def _check_symmetries(make: Callable[[], Method], progress: float) -> None:
    method, net, parts = _assembled(make)
    views = example_views(method)
    whole = method.loss(net, parts, views, progress)
    _require(whole.loss.shape == () and whole.loss.dtype == torch.float32, "the loss must be one float32 number")
    _require(bool(whole.loss.isfinite()), "the loss is not finite on unit normal data")
    _require("z_std" in whole.scalars, "the scalars lack z_std, which is watched for collapse")
    grads = [t for t in (*whole.scalars.values(), *whole.kept.values()) if t.requires_grad]
    _require(not grads, "scalars and what is kept must be detached")
    again = method.loss(net, parts, views, progress).loss
    _require(_same(again, whole.loss, 1e-6), "the loss changes state: a second call gives another value")
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))

    def shuffled(group: Tensor) -> Tensor:
        return group.unflatten(0, (-1, BATCH))[:, order].flatten(0, 1)

    by_sample = Views(tuple(map(shuffled, views.groups)), views.roles, BATCH)
    _require(
        _same(method.loss(net, parts, by_sample, progress).loss, whole.loss), "the order of samples changes the loss"
    )
    within = Views(
        tuple(group.unflatten(0, (-1, BATCH)).flip(0).flatten(0, 1) for group in views.groups), views.roles, BATCH
    )
    same_kind = len(set(views.roles)) == 1 and len({group.shape for group in views.groups}) == 1
    exchanged = Views(within.groups[::-1], views.roles, BATCH) if same_kind else within
    _require(
        _same(method.loss(net, parts, exchanged, progress).loss, whole.loss), "the order of views changes the loss"
    )


def _gradients(net: nn.Module, parts: nn.ModuleDict) -> list[Tensor | None]:
    return [p.grad for p in (*net.parameters(), *parts.parameters())]


def _check_pieces(make: Callable[[], Method], progress: float) -> None:
    found = []
    for rows in (None, BATCH, 7):
        method, net, parts = _assembled(make)
        forward = net if rows is None else Chunked(net, rows)
        method.loss(forward, parts, example_views(method), progress).loss.backward()
        found.append(_gradients(net, parts))
    reached = [g is not None and bool(g.any()) for g in found[0][: len(list(_Net().parameters()))]]
    _require(any(reached), "no gradient reaches the encoder")
    for pieces in found[1:]:
        equal = all(
            (a is None) == (b is None) and (a is None or b is None or _same(a, b, 1e-4))
            for a, b in zip(pieces, found[0], strict=True)
        )
        _require(equal, "views encoded in pieces give another gradient than all at once")


def _finite(make: Callable[[], Method], what: str, half: bool = False, tolerance: float | None = None) -> None:
    method, net, parts = _assembled(make)
    views = example_views(method)
    exact = method.loss(net, parts, views, 0.5).loss.detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = method.loss(net, parts, views, 0.5).loss
    loss.backward()
    grads = [g for g in _gradients(net, parts) if g is not None]
    _require(bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in grads), f"not finite {what}")
    _require(tolerance is None or _same(loss, exact, tolerance or 0), f"{what} the loss is {loss:g}, not {exact:g}")


def _check_precision(make: Callable[[], Method]) -> None:
    _finite(make, "under bfloat16 autocast", half=True, tolerance=0.05)


def _check_temperatures(make: Callable[[], Method]) -> None:
    names = [f.name for f in fields(make()) if "temperature" in f.name]  # type: ignore[arg-type]
    for name in names:
        for value in (0.01, 10.0):
            _finite(lambda name=name, value=value: replace(make(), **{name: value}), f"at {name} {value:g}")  # type: ignore[misc, type-var]


def _check_collapse(make: Callable[[], Method]) -> None:
    if not make().collapse_costs:
        return
    method, net, parts = _assembled(make, steps=0)
    spread_out = method.loss(net, parts, example_views(method, noise=0.0), 0.0).loss
    one_point = method.loss(net, parts, example_views(method, noise=0.0, distinct=False), 0.0).loss
    _require(bool(one_point > spread_out), f"all samples alike cost {one_point:g}, spread out {spread_out:g}")


def _check_state(make: Callable[[], Method]) -> None:
    method, net, parts = _assembled(make)
    torch.manual_seed(1)
    other = method.parts(net)  # type: ignore[arg-type]
    other.load_state_dict(parts.state_dict())
    for t in range(2):  # the second step sees what after_step made of the first
        views = example_views(method, 200 + t)
        a, b = (method.loss(net, p, views, 0.5) for p in (parts, other))
        _require(torch.equal(a.loss, b.loss), "parts saved and loaded go on differently: their state is not in buffers")
        for p, outcome in ((parts, a), (other, b)):
            method.after_step(net, p, outcome.kept, 0.5)


def _check_learning(make: Callable[[], Method]) -> None:
    method, net, parts = _assembled(make, steps=0)
    trained = [p for p in (*net.parameters(), *parts.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 2e-3)
    for t in range(LEARNING_STEPS):
        progress = t / LEARNING_STEPS
        outcome = method.loss(net, parts, example_views(method, 1000 + t), progress)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.after_step(net, parts, outcome.kept, progress)
    _require(bool(outcome.loss.isfinite()), "not finite after some steps of training")
    z_std = outcome.scalars["z_std"].item()
    _require(z_std > 0.1, f"training collapses: spread {z_std:.3f} of 1 after {LEARNING_STEPS} steps")
    # Does every noisy view find its own sample among all, by cosine in the features, and better than untrained?
    samples = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(7))
    noisy = [samples + 0.5 * torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(s)) for s in (8, 9)]
    torch.manual_seed(0)
    trained_right, raw_right = (_retrieved(encoder, noisy) for encoder in (net, _Net()))
    worst = 0.5 * raw_right
    _require(
        trained_right > worst,
        f"features got worse: {trained_right:.2f} of views find their sample, was {raw_right:.2f}",
    )


def _retrieved(encoder: nn.Module, noisy: list[Tensor]) -> float:
    with torch.no_grad():
        a, b = (nn.functional.normalize(encoder(x) - encoder(x).mean(0), dim=1) for x in noisy)
    return (a @ b.T).argmax(1).eq(torch.arange(len(a))).float().mean().item()


def _check_images(make: Callable[[], Method]) -> None:
    images = torch.from_numpy(example_samples("colour 16x16", 8))
    torch.manual_seed(0)
    method = make()
    encoder = Encoder(EncoderConfig("conv6", 0.25, tuple(images.shape[1:]), (0.5,) * 3, (0.25,) * 3))
    parts = method.parts(encoder)
    plan = method.views(tuple(images.shape[1:]))
    groups = tuple(render(plan, images, torch.Generator().manual_seed(0)))
    views = Views(groups, tuple(group.role for group in plan.groups), len(images))
    outcome = method.loss(encoder, parts, views, 0.5)
    outcome.loss.backward()
    method.after_step(encoder, parts, outcome.kept, 0.5)
    reached = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()]
    _require(bool(outcome.loss.isfinite()) and any(reached), "on images the loss is not finite or nothing is learnt")
