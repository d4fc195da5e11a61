"""Against torch's own convolution: every size and stride in float64, bf16 within its rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swell.nets import convolution
from swell.nets.convolution import Conv1x1, Conv3x3, correlate, input_gradient, weight_gradient
from swell.seeding import generator_for

SIZES = [(4, 4), (2, 2), (1, 1), (3, 5), (8, 8), (7, 2)]


def problem(size: tuple[int, int], stride: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, output of torch's convolution, and a gradient of that output's shape."""
    g = generator_for(0, "convolution", *size, stride)
    x = torch.randn(6, 5, *size, generator=g, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(7, 5, 3, 3, generator=g, dtype=dtype)
    y = F.conv2d(x.requires_grad_(), weight.requires_grad_(), stride=stride, padding=1)
    return x, weight, y, torch.randn(y.shape, generator=g, dtype=dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_value_and_gradients_are_torchs(
    size: tuple[int, int], stride: int, dtype: torch.dtype, tolerance: float
) -> None:
    x, weight, y, gradient = problem(size, stride, dtype)
    of_x, of_weight = torch.autograd.grad(y, (x, weight), gradient)
    x, weight = x.detach(), weight.detach()
    assert torch.allclose(correlate(x, weight, stride), y, rtol=tolerance, atol=tolerance)
    assert torch.allclose(input_gradient(gradient, x, weight, stride), of_x, rtol=tolerance, atol=tolerance)
    assert torch.allclose(weight_gradient(gradient, x, stride), of_weight, rtol=tolerance, atol=tolerance)


def exact_and(layer: Conv3x3, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients of the layer under bf16 autocast, and of the same bf16 numbers convolved in float64."""
    layer.weight.grad = None
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    gradient = torch.randn(y.shape, generator=generator_for(1, "gradient")).bfloat16()
    y.backward(gradient)
    assert x.grad is not None
    assert layer.weight.grad is not None
    rounded = [t.detach().bfloat16().double().requires_grad_() for t in (x, layer.weight)]
    truth = F.conv2d(*rounded, stride=layer.stride, padding=1)
    exact = [truth.detach(), *torch.autograd.grad(truth, rounded, gradient.double())]
    return [y.detach(), x.grad, layer.weight.grad], exact


@pytest.mark.parametrize("stride", [1, 2])
def test_bf16_errs_by_its_rounding_only(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = generator_for(0, "layer", stride)
    layer = Conv3x3(64, 32, stride).to(memory_format=torch.channels_last)
    x = torch.randn(16, 64, 4 * stride, 4 * stride, generator=g).contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(convolution, "LEAST_WEIGHTS", 64 * 32)
    ours, exact = exact_and(layer, x)
    for mine, true in zip(ours, exact, strict=True):
        assert (mine.double() - true).abs().max() <= 2**-8 * true.abs().max()  # bf16 keeps 8 bits


def products(layer: Conv3x3, x: Tensor) -> float:
    """FLOPs of a forward pass in bf16."""
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        layer(x)
    return counter.get_total_flops()


def test_only_wide_small_maps_in_training_become_products() -> None:
    whole = 2 * 9 * 16 * 512 * 512
    wide, x = Conv3x3(512, 512), torch.randn(1, 512, 4, 4)
    assert products(wide, x) == whole * 100 / 144  # the taps inside the map, and no others
    with torch.no_grad():
        assert products(wide, x) == whole
    assert products(Conv3x3(512, 512), torch.randn(1, 512, 8, 8)) == 4 * whole
    assert products(Conv3x3(128, 512), torch.randn(1, 128, 4, 4)) == whole / 4
    assert torch.equal(wide(x), F.conv2d(x, wide.weight, padding=1))  # fp32: the plain convolution


def test_weights_have_the_names_of_a_plain_convolution() -> None:
    plain = torch.nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    layer = Conv3x3(8, 16, 2)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("batch", [2, 3, 5])  # odd ones end the process where oneDNN is left to it
@pytest.mark.parametrize("inputs", [4, 8, 16])
def test_few_channels_with_a_stride_are_torchs(inputs: int, batch: int) -> None:
    g = generator_for(0, "few", inputs, batch)
    layer = Conv1x1(inputs, 16, 2).to(memory_format=torch.channels_last)
    x = torch.randn(batch, inputs, 16, 16, generator=g).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    gradient = torch.randn(y.shape, generator=g)
    y.backward(gradient)
    exact = [t.detach().double().contiguous().requires_grad_() for t in (x, layer.weight)]
    truth = F.conv2d(*exact, stride=2)
    true = torch.autograd.grad(truth, exact, gradient.double())
    for ours, theirs in zip((y, x.grad, layer.weight.grad), (truth, *true), strict=True):
        assert isinstance(ours, Tensor)
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
