"""What methods promise that call encoder(x, token plan): tried with a small ViT on small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from swell.methods.registry import Method, Outcome, Views
from swell.nets.encoder import Encoder, EncoderConfig
from swell.testing.examples import example_samples, require
from swell.views.render import render

BATCH = 24
LEARNING_STEPS = 60


def check_method_of_tokens(make: Callable[[], Method]) -> None:
    """`check_method` for a method with `needs_tokens`.

    What is masked or mixed is drawn by place in the batch, and each view by itself. So neither the order of samples nor
    that of views can be changed with the loss staying, and images encoded in pieces would be drawn otherwise: nothing
    of that is promised. Instead, given the seed of torch's generator the loss is always the same.

    Raises:
        AssertionError: with one sentence that says which promise is broken.
    """
    for progress in (0.0, 0.5, 1.0):
        _check_outcome(make, progress)
    _finite(make, "under bfloat16 autocast", half=True, tolerance=0.05)
    for name in (f.name for f in fields(make()) if "temperature" in f.name):  # type: ignore[arg-type]
        for value in (0.01, 10.0):
            _finite(lambda name=name, value=value: replace(make(), **{name: value}), f"at {name} {value:g}")  # type: ignore[misc, type-var]
    _check_collapse(make)
    _check_state(make)
    _check_sizes(make)
    _check_learning(make)


def _encoder() -> Encoder:
    """32 features, 2 blocks, 16 patches of 4 x 4."""
    return Encoder(EncoderConfig("vit_tiny", 1 / 6, (3, 16, 16), (0.5,) * 3, (0.25,) * 3, {"patch": 4, "depth": 2}))


def _views(method: Method, seed: int = 0, distinct: bool = True) -> Views:
    """Views of `BATCH` images by the method's own plan; of one image, that of the seed, if not `distinct`."""
    images = torch.from_numpy(example_samples("colour 16x16", BATCH))
    if not distinct:
        images = images[seed : seed + 1].expand_as(images)
    plan = method.views((3, 16, 16))
    groups = tuple(render(plan, images, torch.Generator().manual_seed(seed)))
    return Views(groups, tuple(group.role for group in plan.groups), BATCH)


def _loss(
    method: Method, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float, seed: int = 0
) -> Outcome:
    torch.manual_seed(seed)  # as the training step does: what is masked is drawn from it
    return method.loss(encoder, parts, views, progress)


def _assembled(make: Callable[[], Method], steps: int = 3) -> tuple[Method, Encoder, nn.ModuleDict]:
    torch.manual_seed(0)
    method, encoder = make(), _encoder()
    parts = method.parts(encoder)
    for t in range(steps):
        kept = _loss(method, encoder, parts, _views(method, 100 + t), 0.5, t).kept
        method.after_step(encoder, parts, kept, 0.5)
    return method, encoder, parts


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> bool:
    return bool((a - b).abs().max() <= tolerance * (1 + b.abs().max()))


def _check_outcome(make: Callable[[], Method], progress: float) -> None:
    method, encoder, parts = _assembled(make)
    views = _views(method)
    before = {name: value.clone() for name, value in parts.state_dict().items()}
    whole = _loss(method, encoder, parts, views, progress)
    require(whole.loss.shape == () and whole.loss.dtype == torch.float32, "the loss must be one float32 number")
    require(bool(whole.loss.isfinite()), "the loss is not finite on small images")
    require("z_std" in whole.scalars, "the scalars lack z_std, which is watched for collapse")
    grads = [t for t in (*whole.scalars.values(), *whole.kept.values()) if t.requires_grad]
    require(not grads, "scalars and what is kept must be detached")
    again = _loss(method, encoder, parts, views, progress).loss
    unchanged = all(torch.equal(value, before[name]) for name, value in parts.state_dict().items())
    require(unchanged and _same(again, whole.loss), "the loss changes state: a second call gives another value")
    whole.loss.backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()]
    require(any(reached), "no gradient reaches the encoder")


def _finite(make: Callable[[], Method], what: str, half: bool = False, tolerance: float | None = None) -> None:
    method, encoder, parts = _assembled(make)
    views = _views(method)
    exact = _loss(method, encoder, parts, views, 0.5).loss.detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = _loss(method, encoder, parts, views, 0.5).loss
    loss.backward()
    grads = [p.grad for p in (*encoder.parameters(), *parts.parameters()) if p.grad is not None]
    require(bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in grads), f"not finite {what}")
    require(tolerance is None or _same(loss, exact, tolerance or 0), f"{what} the loss is {loss:g}, not {exact:g}")


def _check_collapse(make: Callable[[], Method]) -> None:
    if not make().collapse_costs:
        return
    method, encoder, parts = _assembled(make, steps=0)
    for seed in range(6):  # whichever image it is
        alike, apart = (_loss(method, encoder, parts, _views(method, seed, d), 0.0).loss for d in (False, True))
        require(bool(alike > apart), f"all samples alike cost {alike:g}, spread out {apart:g}")


def _check_state(make: Callable[[], Method]) -> None:
    method, encoder, parts = _assembled(make)
    torch.manual_seed(1)
    other = method.parts(encoder)
    other.load_state_dict(parts.state_dict())
    for t in range(2):  # the second step sees what after_step made of the first
        views = _views(method, 200 + t)
        a, b = (_loss(method, encoder, p, views, 0.5, t) for p in (parts, other))
        require(torch.equal(a.loss, b.loss), "parts saved and loaded go on differently: their state is not in buffers")
        for p, outcome in ((parts, a), (other, b)):
            method.after_step(encoder, p, outcome.kept, 0.5)


def _check_sizes(make: Callable[[], Method]) -> None:
    """Two views of 16 pixels and three of 24, as in multi-crop: more patches than the encoder was built for."""
    method, encoder, parts = _assembled(make)
    groups = tuple(torch.rand(count * BATCH, 3, side, side) for count, side in ((2, 16), (3, 24)))
    loss = _loss(method, encoder, parts, Views(groups, ("global", "local"), BATCH), 0.5).loss
    require(bool(loss.isfinite()), "not finite on views of two sizes")


def _check_learning(make: Callable[[], Method]) -> None:
    method, encoder, parts = _assembled(make, steps=0)

    def tested() -> float:
        with torch.no_grad():
            losses = [_loss(method, encoder, parts, _views(method, 50 + s), 1.0, s).loss for s in range(4)]
        return torch.stack(losses).mean().item()

    untrained = tested()
    optimizer = torch.optim.Adam([p for p in (*encoder.parameters(), *parts.parameters()) if p.requires_grad], 2e-3)
    for t in range(LEARNING_STEPS):
        outcome = _loss(method, encoder, parts, _views(method, 1000 + t), t / LEARNING_STEPS, t)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        method.after_step(encoder, parts, outcome.kept, t / LEARNING_STEPS)
    trained = tested()
    require(
        trained < untrained, f"it does not learn: {trained:.3f} after {LEARNING_STEPS} steps, {untrained:.3f} before"
    )
    z_std = outcome.scalars["z_std"].item()
    require(z_std > 0.1, f"training collapses: spread {z_std:.3f} of 1 after {LEARNING_STEPS} steps")
