"""What every method promises. Those that draw tokens are tried in `swell.testing.tokens`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from swell.methods.registry import Method, Views
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig
from swell.testing.examples import example_samples, require
from swell.testing.tokens import check_method_of_tokens
from swell.views.render import render

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

    Methods that need tokens are tried on images only; see `swell.testing.tokens` for what they promise.

    Args:
        make: returns the method; a class will do. Small heads make it quick.

    Raises:
        AssertionError: with one sentence that says which promise is broken.
    """
    before = torch.random.get_rng_state()
    try:
        if make().needs_tokens:
            check_method_of_tokens(make)
            return
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
    require(whole.loss.shape == () and whole.loss.dtype == torch.float32, "the loss must be one float32 number")
    require(bool(whole.loss.isfinite()), "the loss is not finite on unit normal data")
    require("z_std" in whole.scalars, "the scalars lack z_std, which is watched for collapse")
    grads = [t for t in (*whole.scalars.values(), *whole.kept.values()) if t.requires_grad]
    require(not grads, "scalars and what is kept must be detached")
    again = method.loss(net, parts, views, progress).loss
    require(_same(again, whole.loss, 1e-6), "the loss changes state: a second call gives another value")
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))

    def shuffled(group: Tensor) -> Tensor:
        return group.unflatten(0, (-1, BATCH))[:, order].flatten(0, 1)

    by_sample = Views(tuple(map(shuffled, views.groups)), views.roles, BATCH)
    require(
        _same(method.loss(net, parts, by_sample, progress).loss, whole.loss), "the order of samples changes the loss"
    )
    within = Views(
        tuple(group.unflatten(0, (-1, BATCH)).flip(0).flatten(0, 1) for group in views.groups), views.roles, BATCH
    )
    same_kind = len(set(views.roles)) == 1 and len({group.shape for group in views.groups}) == 1
    exchanged = Views(within.groups[::-1], views.roles, BATCH) if same_kind else within
    require(_same(method.loss(net, parts, exchanged, progress).loss, whole.loss), "the order of views changes the loss")


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
    require(any(reached), "no gradient reaches the encoder")
    for pieces in found[1:]:
        equal = all(
            (a is None) == (b is None) and (a is None or b is None or _same(a, b, 1e-4))
            for a, b in zip(pieces, found[0], strict=True)
        )
        require(equal, "views encoded in pieces give another gradient than all at once")


def _finite(make: Callable[[], Method], what: str, half: bool = False, tolerance: float | None = None) -> None:
    method, net, parts = _assembled(make)
    views = example_views(method)
    exact = method.loss(net, parts, views, 0.5).loss.detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = method.loss(net, parts, views, 0.5).loss
    loss.backward()
    grads = [g for g in _gradients(net, parts) if g is not None]
    require(bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in grads), f"not finite {what}")
    require(tolerance is None or _same(loss, exact, tolerance or 0), f"{what} the loss is {loss:g}, not {exact:g}")


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
    require(bool(one_point > spread_out), f"all samples alike cost {one_point:g}, spread out {spread_out:g}")


def _check_state(make: Callable[[], Method]) -> None:
    method, net, parts = _assembled(make)
    torch.manual_seed(1)
    other = method.parts(net)  # type: ignore[arg-type]
    other.load_state_dict(parts.state_dict())
    for t in range(2):  # the second step sees what after_step made of the first
        views = example_views(method, 200 + t)
        a, b = (method.loss(net, p, views, 0.5) for p in (parts, other))
        require(torch.equal(a.loss, b.loss), "parts saved and loaded go on differently: their state is not in buffers")
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
    require(bool(outcome.loss.isfinite()), "not finite after some steps of training")
    z_std = outcome.scalars["z_std"].item()
    require(z_std > 0.1, f"training collapses: spread {z_std:.3f} of 1 after {LEARNING_STEPS} steps")
    # Does every noisy view find its own sample among all, by cosine in the features, and better than untrained?
    samples = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(7))
    noisy = [samples + 0.5 * torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(s)) for s in (8, 9)]
    torch.manual_seed(0)
    trained_right, raw_right = (_retrieved(encoder, noisy) for encoder in (net, _Net()))
    worst = 0.5 * raw_right
    require(
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
    require(bool(outcome.loss.isfinite()) and any(reached), "on images the loss is not finite or nothing is learnt")
