"""Random resized crops: boxes on the CPU, pixels resampled on the images' device by two matrix products.

Cropping a box, mirroring it and resizing it is linear in the rows and in the columns. Every sample gets a
matrix [out, in] for each, so a batch of crops, each from its own box, is ``Y @ image @ X^T``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

TRIES = 10
UNIFORMS = 2 * TRIES + 2  # numbers a box is made of: area and ratio of every try, then the two positions
_TABLE_LIMIT = 2**22  # elements; up to here the matrices of all boxes of an image axis are kept (32 -> 32: 540,672)


class Boxes(NamedTuple):
    """Crops in whole pixels, int64 tensors of one shape."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def boxes_from(
    uniforms: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Boxes:
    """Random resized crop boxes of an image of that height and width, as torchvision defines them.

    Up to ten tries: area uniform in `scale` times the image's, log(width / height) uniform in log `ratio`,
    sides rounded to whole pixels; the first that fits lies at a uniform place. If none fits, the largest
    central box whose ratio is within bounds. One thing differs: scale (1, 1) is always the whole image, also
    of an oblong one.

    Args:
        uniforms: [..., UNIFORMS] float64 in [0, 1).
    """
    if scale == (1.0, 1.0):
        zero = torch.zeros(uniforms.shape[:-1], dtype=torch.int64)
        return Boxes(zero, zero, zero + height, zero + width)
    area = height * width * _between(uniforms[..., :TRIES], *scale)  # [..., TRIES]
    aspect = _between(uniforms[..., TRIES : 2 * TRIES], *map(math.log, ratio)).exp_()
    w, h = (area * aspect).sqrt_().round_().long(), (area / aspect).sqrt_().round_().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    fallback_h, fallback_w = _central(height, width, ratio)
    first = torch.where(fits, torch.arange(TRIES), TRIES).amin(-1, keepdim=True)  # TRIES: none fits
    some = first[..., 0] < TRIES
    first = first.clamp_max(TRIES - 1)
    w = torch.where(some, w.gather(-1, first)[..., 0], fallback_w)
    h = torch.where(some, h.gather(-1, first)[..., 0], fallback_h)
    top = torch.where(some, (uniforms[..., -2] * (height - h + 1)).long(), (height - fallback_h) // 2)
    left = torch.where(some, (uniforms[..., -1] * (width - w + 1)).long(), (width - fallback_w) // 2)
    return Boxes(top, left, h, w)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + u * (high - low)


def _central(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


def axis_matrices(
    start: Tensor, length: Tensor, flip: Tensor, size_in: int, size_out: int, interpolation: str
) -> Tensor:
    """[N] each -> [N, size_out, size_in] float32: crop an axis to [start, start + length) and resize it.

    Antialiased, with the weights of Pillow's ``image.crop(box).resize(size)``: pixel centres at halves, a
    triangle of half-width 1 (bilinear) or Keys' cubic with a = -0.5 of half-width 2 (bicubic), stretched when
    shrinking; pixels outside the box have no weight and the rest is renormalised. (Pillow's own ``box=``
    argument looks beyond the box.) Where `flip` (0 or 1) is 1
    the rows run backwards.
    """
    start, length, flip = (t.to(torch.float32)[:, None] for t in (start, length, flip))
    row = torch.arange(size_out, device=start.device, dtype=torch.float32)
    row = row + flip * (size_out - 1 - 2 * row)
    step = length / size_out
    centre = ((row + 0.5) * step)[..., None]  # [N, out, 1], from the start of the box
    pixel = torch.arange(size_in, device=start.device, dtype=torch.float32) - start  # [N, in]
    distance = ((pixel[:, None] + 0.5 - centre) / step.clamp_min(1)[..., None]).abs_()
    near = (1 - distance).clamp_(min=0)
    if interpolation == "bilinear":
        weight = near
    else:  # Keys' two cubic pieces as sums of powers that vanish beyond 1 and 2
        far = (2 - distance).clamp_(min=0)
        weight = near.square().mul_(1 - 2 * near).add_(far.square().mul_(far - 1), alpha=0.5)
    inside = (pixel + 1).clamp(0, 1) * (length - pixel).clamp(0, 1)  # [N, in], 0 or 1
    weight.mul_(inside[:, None])
    return weight.div_(weight.sum(-1, keepdim=True))


@lru_cache(maxsize=16)
def _table(size_in: int, size_out: int, interpolation: str, device: torch.device) -> Tensor:
    """The matrices of every box of an axis, [2 * boxes, out, in], in the order of `_table_row`."""
    length = torch.arange(1, size_in + 1).repeat_interleave(torch.arange(size_in, 0, -1))
    start = torch.cat([torch.arange(size_in - n + 1) for n in range(1, size_in + 1)])
    start, length = start.repeat(2), length.repeat(2)
    flip = torch.arange(2).repeat_interleave(len(start) // 2)
    return axis_matrices(start, length, flip, size_in, size_out, interpolation).to(device)


def _table_row(start: Tensor, length: Tensor, flip: Tensor, size_in: int) -> Tensor:
    shorter = (length - 1) * (2 * size_in - length + 2) // 2  # boxes of a smaller length
    return flip.long() * (size_in * (size_in + 1) // 2) + shorter + start


def crop(images: Tensor, boxes: Boxes, flip: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Crop, mirror where `flip` says so, and resize: uint8 [N, C, H, W] -> float32 [N, C, h, w] in [0, 1].

    Args:
        boxes, flip: CPU tensors [N].
    """
    height, width = images.shape[-2:]
    none = torch.zeros_like(boxes.top)
    y = _matrices(boxes.top, boxes.height, none, height, size[0], interpolation, images.device)
    x = _matrices(boxes.left, boxes.width, flip, width, size[1], interpolation, images.device)
    resized = along_height(y, along_width(x, images.to(torch.float32).mul_(1 / 255)))
    return resized.clamp_(0, 1)  # the cubic overshoots at edges


def along_height(matrices: Tensor, images: Tensor) -> Tensor:
    """[N, h, H] and [N, C, H, W] -> [N, C, h, W]. By channel: a broadcast product would copy the matrices C times."""
    return torch.stack([torch.bmm(matrices, channel) for channel in images.unbind(1)], 1)


def along_width(matrices: Tensor, images: Tensor) -> Tensor:
    """[N, w, W] and [N, C, H, W] -> [N, C, H, w]."""
    n, c, height, _ = images.shape
    return torch.bmm(images.flatten(1, 2), matrices.mT).view(n, c, height, -1)


def _matrices(
    start: Tensor, length: Tensor, flip: Tensor, size_in: int, size_out: int, interpolation: str, device: torch.device
) -> Tensor:
    if size_in * (size_in + 1) * size_in * size_out <= _TABLE_LIMIT:
        rows = to_device(_table_row(start, length, flip, size_in), device)
        return _table(size_in, size_out, interpolation, device).index_select(0, rows)
    packed = to_device(torch.stack([start, length, flip.long()]), device)
    return axis_matrices(packed[0], packed[1], packed[2], size_in, size_out, interpolation)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy from the CPU without making the host wait: from pinned memory, queued behind what runs already."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
