"""Carry out a view plan: draw every sample's parameters on the CPU, make the views on the images' device.

    views = render(VIEWS["simclr"](), images, generator_for(seed, "views", step))   # one tensor a group

Images are uint8 [B, C, H, W], vectors float32 [B, D]; of the latter tells `swell.views.render_vectors`. The parameters
of images come from the CPU generator alone, so they are the same on every device, and nothing on the way makes the host
wait for a GPU.
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
from swell.views.plan import Group, ViewGroup, ViewPlan
from swell.views.render_vectors import draw_seeds, render_group
from swell.views.vectors import VectorGroup

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
    return tuple(_draw_group(group, batch, shape, generator) for group in plan.image_groups)


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


def render(
    plan: ViewPlan,
    samples: Tensor,
    generator: torch.Generator,
    partners: Tensor | None = None,
    positives: Tensor | None = None,
    *,
    fused: bool = False,
) -> list[Tensor]:
    """The views of a batch.

    Args:
        samples: images uint8 [B, C, H, W] or vectors float32 [B, D] on any device.
        generator: a CPU generator, the only source of randomness.
        partners: one for each sample, like the samples: what views are mixed with.
        positives: one for each sample, like the samples: what groups with of="positive" show. None: the partners.
        fused: images: colour jitter and grey as one matrix a sample, faster and approximate; see
            `colour.linear_colour`.

    Returns:
        One float32 tensor for each group, on the samples' device: [count * B, C, h, w] with values in [0, 1], or
        [count * B, D]. View v of sample b is row v * B + b.

    Raises:
        InputError: samples that are neither, a plan for the other kind, partners or positives that are missing or of
            another shape.
    """
    positives = partners if positives is None else positives
    _check(plan, samples, partners, positives)
    if plan.of_images:
        parameters = draw(plan, len(samples), samples.shape[1:], generator)
        return apply(plan, samples, parameters, positives, fused=fused)
    seeds = draw_seeds(plan.groups, generator)
    return [
        render_group(group, _shown(group, samples, positives), partners, row)
        for group, row in zip(plan.groups, seeds, strict=True)
        if isinstance(group, VectorGroup)
    ]


@torch.no_grad()
def apply(
    plan: ViewPlan,
    images: Tensor,
    parameters: tuple[ViewParameters, ...],
    positives: Tensor | None = None,
    *,
    fused: bool = False,
) -> list[Tensor]:
    """`render` of images with parameters drawn before."""
    _check(plan, images, None, positives)
    groups = zip(plan.image_groups, parameters, strict=True)
    with torch.autocast(images.device.type, enabled=False):  # a view does not depend on the caller's precision
        return [_apply_group(group, _shown(group, images, positives), p, fused) for group, p in groups]


def _shown(group: Group, samples: Tensor, positives: Tensor | None) -> Tensor:
    if group.of == "sample":
        return samples
    if positives is None:
        raise InputError("views of positives without positives", "a positive for each sample", "give --positives")
    return positives


def _check(plan: ViewPlan, samples: Tensor, *others: Tensor | None) -> None:
    dtype, ndim = (torch.uint8, 4) if plan.of_images else (torch.float32, 2)
    if samples.dtype != dtype or samples.ndim != ndim or not samples.numel():
        kind, want = ("images", "uint8 batch [B, C, H, W]") if plan.of_images else ("vectors", "float32 batch [B, D]")
        raise InputError(f"{kind} {samples.dtype}{list(samples.shape)}", f"a {want} that is not empty")
    for other in others:
        if other is not None and (other.dtype != samples.dtype or other.shape != samples.shape):
            given = f"partners {other.dtype}{list(other.shape)}"
            raise InputError(given, f"one for each sample, {samples.dtype}{list(samples.shape)}")


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
