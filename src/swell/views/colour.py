"""Colour operations on batches, every sample with its own parameters, on the images' device.

Images are float32 [N, C, H, W] with values in [0, 1]; a parameter is a tensor [N]. Each operation returns new
images, clamped to [0, 1] as Pillow's 8-bit images are, but without rounding to 8 bits. With C other than 3
there is no colour: `saturation`, `hue` and `grey` return the images as they are, and `contrast` uses the mean
over all channels.

Comparisons and `torch.where` are avoided below: on a CPU they take longer than the arithmetic in their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from swell.views.crops import along_height, along_width

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, the weights of Pillow's conversion to "L"
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_BLOCK = 64  # rows of the blur's band matrix that are multiplied at once


def luma(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 1, H, W]: the weighted sum of R, G and B, or the plain mean of other channels."""
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x[:, 0:1] * LUMA[0]).add_(x[:, 1:2], alpha=LUMA[1]).add_(x[:, 2:3], alpha=LUMA[2])


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """clamp(f x)."""
    return (x * _per_sample(factor)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """clamp(f x + (1 - f) m), m the mean of the sample's grey image."""
    f = _per_sample(factor)
    mean = luma(x).mean((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    return torch.addcmul((1 - f) * mean, x, f).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """clamp(f x + (1 - f) grey(x))."""
    if x.shape[1] != 3:
        return x
    f = _per_sample(factor)
    return torch.addcmul(luma(x).mul_(1 - f), x, f).clamp_(0, 1)


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of the HSV representation by `turns` (1 is the full circle); value and saturation stay.

    With (R, G, B) stretched so that the largest is 1 and the smallest 0, the hue h in sixths of the circle is
    G + B + 1 - R, negated where B > G. Back, with h in [0, 6) and everything clamped to [0, 1]:
    R = |h - 3| - 1, G = 2 - |h - 2|, B = 2 - |h - 4|.
    """
    if x.shape[1] != 3:
        return x
    r, g, b = x.unbind(1)  # [N, H, W] each
    low = torch.minimum(torch.minimum(r, g), b)
    chroma = torch.maximum(torch.maximum(r, g), b).sub_(low)
    h = (g + b).sub_(r).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    h = torch.copysign(h, g - b, out=h).add_(6 * turns[:, None, None])
    h.sub_((h / 6).floor_(), alpha=6)  # into [0, 6)
    out = torch.empty_like(x)
    torch.addcmul(low, chroma, (h - 3).abs_().sub_(1).clamp_(0, 1), out=out[:, 0])
    torch.addcmul(low, chroma, (h - 2).abs_().neg_().add_(2).clamp_(0, 1), out=out[:, 1])
    torch.addcmul(low, chroma, h.sub_(4).abs_().neg_().add_(2).clamp_(0, 1), out=out[:, 2])
    return out


JITTER: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)


def grey(x: Tensor) -> Tensor:
    """Every channel becomes the luma."""
    return luma(x).expand_as(x) if x.shape[1] == 3 else x


def solarise(x: Tensor) -> Tensor:
    """Invert the upper half: min(x, 1 - x). On 8-bit levels that is Pillow's threshold of 128."""
    return torch.minimum(x, 1 - x)


def blur_matrix(sigma: Tensor, size: int, max_sigma: float) -> Tensor:
    """[N] -> [N, size, size]: row i is the normalised Gaussian around i, cut off at the pixel nearest 4 sigma.

    What falls outside is added to the border pixels, as if the edge were replicated. No sigma exceeds `max_sigma`.
    """
    reach = _reach(max_sigma)
    k = torch.arange(reach + 2, device=sigma.device, dtype=sigma.dtype)  # distances; the last has no weight
    s = sigma[:, None]
    inside = ((4 * s + 1.5).floor() - k).clamp_(0, 1)  # [N, reach + 2]: 1 up to the cut-off, 0 beyond
    weight = (-0.5 * (k / s).square_()).exp_().mul_(inside)
    weight = weight / (2 * weight.sum(1, keepdim=True) - weight[:, :1])
    row = torch.arange(size, device=sigma.device)
    tap = torch.arange(-reach, size + reach, device=sigma.device)
    distance = (tap - row[:, None]).abs_().clamp_(max=reach + 1)  # [size, size + 2 reach]
    padded = weight.index_select(1, distance.flatten()).view(-1, *distance.shape)
    matrix = padded[..., reach : reach + size].clone()
    matrix[..., 0] += padded[..., :reach].sum(-1)
    matrix[..., -1] += padded[..., reach + size :].sum(-1)
    return matrix


def blur(x: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """Gaussian blur, `sigma` [N] in pixels, at most `max_sigma`; edges replicated. The exact Gaussian, where
    Pillow approximates it by three box filters.

    Two products with band matrices; large images go block by block, since off the band there are only zeros.
    """
    height, width = x.shape[-2:]
    rows = blur_matrix(sigma, height, max_sigma)  # [N, H, H]
    columns = rows if width == height else blur_matrix(sigma, width, max_sigma)
    reach = _reach(max_sigma)
    x = _joined([along_height(rows[:, a:b, c:d], x[..., c:d, :]) for a, b, c, d in _blocks(height, reach)], -2)
    x = _joined([along_width(columns[:, a:b, c:d], x[..., c:d]) for a, b, c, d in _blocks(width, reach)], -1)
    return x.clamp_(0, 1)


def linear_colour(x: Tensor, factors: Tensor, order: Tensor, jitter: Tensor, to_grey: Tensor) -> Tensor:
    """Jitter and grey of every sample as one C x C matrix and one bias, clamped once at the end.

    What is approximated, against `JITTER` applied one by one: values beyond [0, 1] are not clamped between
    the operations (equal wherever none would leave the range), and hue turns the chroma plane of YIQ instead
    of the HSV circle, which keeps luma rather than value and is not clipped to the colours there are. Order,
    factors and masks are each sample's own. Blur and solarise are not part of it.

    Args:
        x: [N, C, H, W].
        factors: [N, 4], brightness, contrast and saturation factors and the hue's turns.
        order: [N, 4], the permutation in which they act.
        jitter, to_grey: [N] 0 or 1, whether the sample is jittered, made grey.
    """
    n, c = x.shape[:2]
    eye, project = _constants(c, x.device)
    steps = _jitter_matrices(factors, eye, project)  # [N, 4, C, C]
    pull = torch.zeros_like(factors)
    pull[:, 1] = 1 - factors[:, 1]  # contrast adds (1 - f) times the mean grey so far
    mean = x.mean((2, 3))[..., None]  # [N, C, 1]
    matrix, bias = eye.expand(n, c, c), torch.zeros(n, c, 1, device=x.device)
    sample = torch.arange(n, device=x.device)
    for position in order.unbind(1):
        step = steps[sample, position]  # [N, C, C]
        level = project @ (matrix @ mean + bias)  # [N, C, 1], each the mean grey so far
        matrix, bias = step @ matrix, step @ bias + pull[sample, position, None, None] * level
    on = jitter[:, None, None]
    matrix, bias = torch.lerp(eye.expand(n, c, c), matrix, on), bias * on
    if c == 3:
        flat = torch.lerp(eye, project, to_grey[:, None, None])
        matrix, bias = flat @ matrix, flat @ bias
    return torch.baddbmm(bias, matrix, x.flatten(2)).clamp_(0, 1).view_as(x)


def _jitter_matrices(factors: Tensor, eye: Tensor, project: Tensor) -> Tensor:
    """[N, 4] -> [N, 4, C, C]: the linear parts of `JITTER`."""
    f = factors[:, :3, None, None]
    bright, contrasted, saturated = (f * eye).unbind(1)
    if len(eye) != 3:
        return torch.stack([bright, contrasted, eye.expand_as(bright), eye.expand_as(bright)], 1)
    saturated = saturated + (1 - f[:, 2]) * project
    # Rodrigues' form of the turn about the grey axis: the luma part stays, cos and sin act on the chroma plane.
    quarter = _quarter_turn(factors.device)
    angle = (2 * math.pi * factors[:, 3])[:, None, None]
    turned = project + angle.cos() * (eye - project) + angle.sin() * quarter
    return torch.stack([bright, contrasted, saturated, turned], 1)


@lru_cache(maxsize=16)  # made once a device: copying constants to a GPU makes the host wait
def _constants(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The identity, and the projection that gives every channel the luma; both [C, C]."""
    weights = torch.tensor(LUMA) if channels == 3 else torch.full((channels,), 1 / channels)
    return torch.eye(channels).to(device), weights.repeat(channels, 1).to(device)


@lru_cache(maxsize=16)
def _quarter_turn(device: torch.device) -> Tensor:
    """[3, 3]: drops the luma and turns the I-Q plane by a quarter from red towards green, which is clockwise."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    clockwise = torch.tensor([[0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
    return (torch.linalg.inv(yiq) @ clockwise @ yiq).float().to(device)


def _per_sample(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _reach(max_sigma: float) -> int:
    return int(4 * max_sigma + 0.5)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _blocks(size: int, reach: int) -> list[tuple[int, int, int, int]]:
    """(first row, end row, first column, end column) of the blocks that cover a band matrix of that reach."""
    if size <= _BLOCK + 2 * reach:
        return [(0, size, 0, size)]
    starts = range(0, size, _BLOCK)
    return [(a, min(a + _BLOCK, size), max(a - reach, 0), min(a + _BLOCK + reach, size)) for a in starts]
