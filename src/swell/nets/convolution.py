"""Convolutions where oneDNN's are slow or wrong. 3x3 of wide, small maps as matrix products, for bf16 on a CPU:

On a 4x4 map 36 of 100 taps fall on the zero padding, and oneDNN computes them all; its weight gradient also loses its
speed there. Below, every output position is one product over the taps inside the map, and every tap of the weight
gradient one product over the positions that use it. ResNet-18's 512 channels at 4x4 take 0.7 of the time forward and
backward on an AVX512-BF16 CPU (`benchmarks/step.py`); larger maps, fewer channels and fp32 gain nothing.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MOST_POSITIONS = 16  # of the output map
VECTOR = 16  # float32 numbers in an AVX-512 register
LEAST_WEIGHTS = 256 * 512  # input times output channels


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1 and no bias; the same weights and, but for rounding, values as nn.Conv2d."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype != torch.bfloat16 or not self._suits(x):
            return super().forward(x)
        return _SmallMap.apply(x.to(dtype), self.weight.to(dtype), self.stride[0])

    def _suits(self, x: Tensor) -> bool:
        """Whether products are faster here. Only while training, so that exporters see the plain convolution."""
        positions = -(-x.shape[-2] // self.stride[0]) * -(-x.shape[-1] // self.stride[0])
        training = torch.is_grad_enabled() and self.weight.requires_grad and not torch.compiler.is_compiling()
        wide = self.in_channels * self.out_channels >= LEAST_WEIGHTS
        return training and wide and positions <= MOST_POSITIONS and x.device.type == "cpu"


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution without bias, as nn.Conv2d.

    With a stride and few input channels it picks the positions by itself: for these oneDNN's weight gradient writes
    past its workspace where channels come last and a thread's share of the batch is odd (its issue 6035, open with
    oneDNN 3.12; seen as a crash with batches of 3).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        stride = self.stride[0]
        safe = stride == 1 or self.in_channels >= VECTOR or x.device.type != "cpu"
        if safe or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        return F.conv2d(x[:, :, ::stride, ::stride], self.weight)


class _SmallMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return correlate(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x = input_gradient(gradient, x, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        of_weight = weight_gradient(gradient, x, ctx.stride) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def correlate(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """conv2d(x, weight, padding=1): [B, C, H, W] and [K, C, 3, 3] -> [B, K, h, w], channels last."""
    x, taps = _positions_first(x), weight.permute(2, 3, 1, 0).contiguous()  # [H, W, B, C], [3, 3, C, K]
    height, width, batch, _ = x.shape
    rows, columns = _inside(height, stride), _inside(width, stride)
    y = x.new_empty(len(rows), len(columns), batch, weight.shape[0])
    for i, (taps_y, inputs_y) in enumerate(rows):
        for j, (taps_x, inputs_x) in enumerate(columns):
            patch = x[inputs_y, inputs_x].permute(2, 0, 1, 3).reshape(batch, -1)  # [B, taps * C]
            torch.mm(patch, taps[taps_y, taps_x].reshape(-1, weight.shape[0]), out=y[i, j])
    return _batch_first(y)


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Of `correlate` for x: with stride 1 a correlation again, with the kernel turned by half a circle."""
    if stride == 1:
        return correlate(gradient, weight.flip(2, 3).transpose(0, 1), 1)
    one = [1, 1]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride, stride], one, one, False, [0, 0], 1, [True, False, False]
    )[0]


def weight_gradient(gradient: Tensor, x: Tensor, stride: int) -> Tensor:
    """Of `correlate` for the weight: [B, K, h, w] and [B, C, H, W] -> [K, C, 3, 3]."""
    gradient, x = _positions_first(gradient), _positions_first(x)  # [h, w, B, K], [H, W, B, C]
    (outputs_y, outputs_x), (height, width) = gradient.shape[:2], x.shape[:2]
    k, c = gradient.shape[3], x.shape[3]
    out = x.new_zeros(3, 3, k, c)
    for a in range(3):
        to_y, from_y = _touched(a, outputs_y, height, stride)
        for b in range(3):
            to_x, from_x = _touched(b, outputs_x, width, stride)
            torch.mm(gradient[to_y, to_x].reshape(-1, k).T, x[from_y, from_x].reshape(-1, c), out=out[a, b])
    return out.permute(2, 3, 0, 1)


def _inside(size: int, stride: int) -> list[tuple[slice, slice]]:
    """For each output position of an axis: its taps inside the map, and the inputs they read."""
    spans = []
    for centre in range(0, size, stride):
        first, last = max(centre - 1, 0), min(centre + 1, size - 1)
        spans.append((slice(first - centre + 1, last - centre + 2), slice(first, last + 1)))
    return spans


def _touched(tap: int, outputs: int, size: int, stride: int) -> tuple[slice, slice]:
    """The outputs of an axis whose tap `tap` lies inside the map, and the inputs they read there."""
    first = 1 if tap == 0 else 0
    last = min(outputs - 1, (size - tap) // stride)
    start = first * stride + tap - 1
    count = max(last - first + 1, 0)
    return slice(first, first + count), slice(start, start + count * stride, stride)


def _positions_first(x: Tensor) -> Tensor:
    return x.permute(2, 3, 0, 1).contiguous()


def _batch_first(x: Tensor) -> Tensor:
    return x.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
