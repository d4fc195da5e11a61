"""ResNet-18, -34 and -50 (He et al. 2016, arXiv 1512.03385) with a stem that suits the image size.

Images up to 64 pixels get the small stem: one 3x3 convolution of stride 1 and no max-pooling. The 7x7 stride-2 stem and
its pooling would shrink a 32x32 image to 8x8 before the first block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from swell.nets.backbones import BACKBONES, Backbone, init_convolutions, scaled
from swell.nets.convolution import Conv1x1, Conv3x3
from swell.nets.rectified import rectified

SMALL_IMAGE = 64  # pixels; the longest side that still gets the small stem


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    if kernel == 3:
        return Conv3x3(inputs, outputs, stride)
    if kernel == 1:
        return Conv1x1(inputs, outputs, stride)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(rectified(self.bn1, self.conv1(x), self.conv2))
        return F.relu(y + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut; the stride sits in the 3x3, as in torchvision."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = rectified(self.bn1, self.conv1(x), self.conv2)
        y = self.bn3(rectified(self.bn2, y, self.conv3))
        return F.relu(y + self.shortcut(x), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(Backbone):
    """Four stages of `blocks` residual blocks; features [B, 512 * width * expansion]."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        shape: tuple[int, ...],
        width: float = 1.0,
    ) -> None:
        super().__init__()
        channels, *size = shape
        base = scaled(64, width)
        if max(size) <= SMALL_IMAGE:
            self.stem = nn.Sequential(conv(channels, base, 3), nn.BatchNorm2d(base), nn.ReLU(inplace=True))
        else:
            self.stem = nn.Sequential(
                conv(channels, base, 7, 2), nn.BatchNorm2d(base), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
            )
        stages, inputs = [], base
        for i, count in enumerate(blocks):
            stage = nn.Sequential()
            for j in range(count):
                stage.append(block(inputs, base * 2**i, stride=2 if i > 0 and j == 0 else 1))
                inputs = base * 2**i * block.expansion
            stages.append(stage)
        self.stages = nn.Sequential(*stages)
        self.features = inputs
        init_convolutions(self)

    def forward_map(self, x: Tensor) -> Tensor:
        convolution, norm, _, *pooling = self.stem
        first, *later = [block for stage in self.stages for block in stage.children()]
        y = rectified(cast(nn.BatchNorm2d, norm), convolution(x), _chain(*pooling, first))
        return _chain(*later)(y)


def _chain(*modules: nn.Module) -> Callable[[Tensor], Tensor]:
    def through(x: Tensor) -> Tensor:
        for module in modules:
            x = module(x)
        return x

    return through


@BACKBONES.register("resnet18", "ResNet-18, 11.2 M parameters at width 1", "arXiv 1512.03385")
def resnet18(shape: tuple[int, ...], width: float = 1.0) -> Backbone:
    return ResNet(BasicBlock, (2, 2, 2, 2), shape, width)


@BACKBONES.register("resnet34", "ResNet-34, 21.3 M parameters at width 1", "arXiv 1512.03385")
def resnet34(shape: tuple[int, ...], width: float = 1.0) -> Backbone:
    return ResNet(BasicBlock, (3, 4, 6, 3), shape, width)


@BACKBONES.register("resnet50", "ResNet-50, 23.5 M parameters at width 1", "arXiv 1512.03385")
def resnet50(shape: tuple[int, ...], width: float = 1.0) -> Backbone:
    return ResNet(Bottleneck, (3, 4, 6, 3), shape, width)
