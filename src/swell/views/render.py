"""Carry out a view plan: draw every sample's parameters on the CPU, make the views on the images' device.

    views = render(VIEWS["simclr"](), images, generator_for(seed, "views", step))   # one tensor a group

The parameters come from the CPU generator alone, so they are the same on every device, and nothing on the way
makes the host wait for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from swell.errors import InputError
from swell.views import colour
from swell.views.crops import UNIFORMS, Boxes, boxes_from, crop, to_device
from swell.views.plan import ViewGroup, ViewPlan

_DRAWS = UNIFORMS + 14  # uniform numbers a view takes
_CHUNK = {"cpu": 2**20, "cuda": 2**27}  # output elements made at once: caches on a CPU, memory on a GPU


@dataclass(frozen=True)
class ViewParameters:
    """What happens to the views of one group; CPU tensors [count, B] and [count, B, 4]."""

    top: Tensor  # int64, as left, height and width: the crop in pixels of the sample
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool
    jitter: Tensor  # bool
    factors: Tensor  # float32 [count, B, 4]: brightness, contrast, saturation factors, hue in turns
    order: Tensor  # int64 [count, B, 4]: position -> which of these acts there
    grey: Tensor  # bool
    blur: Tensor  # bool
    sigma: Tensor  # float32, pixels of the view
    solarise: Tensor  # bool

    def samples(self, index: Tensor | slice) -> ViewParameters:
        """The parameters of the samples `index` of the batch, for a rank that renders its share of it."""
        return ViewParameters(*(getattr(self, field.name)[:, index] for field in fields(self)))

    def _rows(self, start: int, stop: int) -> ViewParameters:
        """Rows of the view-major list of count * B views: [count, B] -> [stop - start]."""
        return ViewParameters(*(getattr(self, field.name).flatten(0, 1)[start:stop] for field in fields(self)))


def draw(plan: ViewPlan, batch: int, shape: Sequence[int], generator: torch.Generator) -> tuple[ViewParameters, ...]:
    """Random parameters for `batch` samples of that shape (C, H, W), one entry a group.

    A view takes the same number of draws whatever its settings, group after group and view after view. So a
    view depends neither on the views that follow it nor on which operations are switched on.

    Args:
        generator: a CPU generator; it alone decides the outcome.
    """
    return tuple(_draw_group(group, batch, shape, generator) for group in plan.groups)


def _draw_group(group: ViewGroup, batch: int, shape: Sequence[int], generator: torch.Generator) -> ViewParameters:
    u = torch.rand(group.count, batch, _DRAWS, generator=generator, dtype=torch.float64)
    boxes = boxes_from(u[..., :UNIFORMS], shape[1], shape[2], group.scale, group.ratio)
    u = u[..., UNIFORMS:]
    jitter = (group.brightness, group.contrast, group.saturation)
    low = torch.tensor([*(max(0.0, 1 - half) for half in jitter), -group.hue], dtype=torch.float64)
    high = torch.tensor([*(1 + half for half in jitter), group.hue], dtype=torch.float64)
    least, most = group.blur_sigma
    return ViewParameters(
        *boxes,
        flip=u[..., 8] < group.flip,
        jitter=u[..., 9] < group.jitter_p,
        factors=(low + u[..., :4] * (high - low)).float(),
        order=u[..., 4:8].argsort(-1),
        grey=u[..., 10] < group.grey_p,
        blur=u[..., 11] < group.blur_p,
        sigma=(least + u[..., 12] * (most - least)).float(),
        solarise=u[..., 13] < group.solarise_p,
    )


def render(plan: ViewPlan, images: Tensor, generator: torch.Generator, *, fused: bool = False) -> list[Tensor]:
    """The views of a batch.

    Args:
        images: uint8 [B, C, H, W] on any device.
        generator: a CPU generator, the only source of randomness.
        fused: colour jitter and grey as one matrix a sample, faster and approximate; see
            `colour.linear_colour`.

    Returns:
        One float32 tensor [count * B, C, h, w] with values in [0, 1] for each group, on the images' device;
        view v of image b is row v * B + b.

    Raises:
        InputError: `images` is no uint8 batch of images.
    """
    _check(images)
    return apply(plan, images, draw(plan, len(images), images.shape[1:], generator), fused=fused)


@torch.no_grad()
def apply(
    plan: ViewPlan, images: Tensor, parameters: tuple[ViewParameters, ...], *, fused: bool = False
) -> list[Tensor]:
    """`render` with parameters drawn before."""
    _check(images)
    groups = zip(plan.groups, parameters, strict=True)
    with torch.autocast(images.device.type, enabled=False):  # a view does not depend on the caller's precision
        return [_apply_group(group, images, p, fused) for group, p in groups]


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
        raise InputError(f"images {images.dtype}{list(images.shape)}", "a uint8 batch [B, C, H, W] that is not empty")


def _apply_group(group: ViewGroup, images: Tensor, p: ViewParameters, fused: bool) -> Tensor:
    batch, channels, height, width = images.shape
    size = (height, width) if group.size is None else (group.size, group.size)
    total = group.count * batch
    largest = channels * max(height * width, size[0] * size[1])
    chunk = max(1, _CHUNK["cuda" if images.is_cuda else "cpu"] // largest)
    parts = []
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        rows = torch.arange(start, stop, device=images.device) % batch
        q = p._rows(start, stop)
        boxes = Boxes(q.top, q.left, q.height, q.width)
        x = crop(images.index_select(0, rows), boxes, q.flip, size, group.interpolation)
        if fused and bool((q.jitter | q.grey).any()):
            x = _linear(x, q)
        _perform(x, _steps(group, q, channels, fused))
        parts.append(x)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Step(NamedTuple):
    operation: Callable[[Tensor, Tensor], Tensor]
    rows: Tensor  # int64, on the CPU: the samples it acts on
    values: Tensor  # float32, on the CPU: its parameter for each of them


def _steps(group: ViewGroup, q: ViewParameters, channels: int, fused: bool) -> list[_Step]:
    """What is done to which rows, in order. Each operation then works on its own samples only."""
    steps = []
    widths = (group.brightness, group.contrast, group.saturation, group.hue)
    acting = [k for k in range(4) if widths[k] > 0 and (channels == 3 or k < 2)]  # saturation and hue need colour
    if not fused:
        for acts_here in q.order.unbind(-1):
            for k in acting:
                rows = _indices(q.jitter & (acts_here == k))
                steps.append(_Step(colour.JITTER[k], rows, q.factors[rows, k]))
        rows = _indices(q.grey)
        steps.append(_Step(lambda x, _: colour.grey(x), rows, q.sigma[rows]))
    rows = _indices(q.blur)
    steps.append(_Step(lambda x, sigma: colour.blur(x, sigma, group.blur_sigma[1]), rows, q.sigma[rows]))
    rows = _indices(q.solarise)
    steps.append(_Step(lambda x, _: colour.solarise(x), rows, q.sigma[rows]))
    return [step for step in steps if len(step.rows)]


def _indices(mask: Tensor) -> Tensor:
    return mask.nonzero()[:, 0]


def _perform(x: Tensor, steps: list[_Step]) -> None:
    """Carry out the steps on x [N, C, H, W] in place."""
    if not steps:
        return
    lengths = [len(step.rows) for step in steps]
    rows = to_device(torch.cat([step.rows for step in steps]), x.device)  # one transfer for all
    values = to_device(torch.cat([step.values for step in steps]), x.device)
    for step, at, value in zip(steps, torch.split(rows, lengths), torch.split(values, lengths), strict=True):
        x.index_copy_(0, at, step.operation(x.index_select(0, at), value))


def _linear(x: Tensor, q: ViewParameters) -> Tensor:
    packed = torch.cat([q.factors, q.order, q.jitter[:, None], q.grey[:, None]], 1)  # float32 [N, 10]
    factors, order, jitter, grey = torch.split(to_device(packed, x.device), [4, 4, 1, 1], 1)
    return colour.linear_colour(x, factors, order.long(), jitter[:, 0], grey[:, 0])
